# `make serve` runs the service, `make test` proves it. Each target makes what it needs first.
.PHONY: serve monitor test test-full test-services test-units test-commands test-manifests coverage test-faults test-cluster check setup format lock dashboards manifests tiny-models bench-relay bench-placement bench-agents bench-scaling bench-simulator bench-admission bench-frontend bench-metrics bench-conformance clean help
.DEFAULT_GOAL := help

CONFIG ?= deploy/serve/local.yaml
OVERLAY ?= deploy/overlays/cpu
# uv writes no bytecode: the first start does, or each process would compile its imports at each start.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv from the locked requirements
	@deploy/setup.sh

serve: setup ## serve on http://127.0.0.1:8000 until Ctrl-C (CONFIG=file.yaml for another service)
	@exec .venv/bin/mistral-serve up $(CONFIG)

monitor: setup ## Prometheus on the running service, with our rules, on http://127.0.0.1:9090
	@exec .venv/bin/mistral-serve monitor

test: setup ## format, lint and type checks, and the tests (ARGS=tests/cli)
	@$(RUN_TESTS)

test-full: MARKERS = -m ""
test-full: setup ## the same with the tests that are slow and rarely break
	@$(RUN_TESTS)

# The checks and four parts. Three run at a time, as services wait for a third of their time; the
# others are niced. Each prints when it ends.
SERVICES = tests/e2e tests/faults tests/cli/test_local_ray.py
COMMANDS = tests/cli
MANIFESTS = tests/cluster tests/dashboards tests/deploy tests/k8s tests/real_cluster
IGNORED = $(addprefix --ignore=,$(1))
PYTEST = .venv/bin/python -m pytest $(MARKERS)
RUN_TESTS = $(if $(ARGS),$(MAKE) --no-print-directory check && exec $(PYTEST) $(ARGS),\
	exec $(MAKE) --no-print-directory -j3 -k -O MARKERS='$(MARKERS)' \
	check test-services test-units test-commands test-manifests)

test-services:
	@$(PYTEST) $(SERVICES)

test-units: TESTS = $(call IGNORED,$(SERVICES) $(COMMANDS) $(MANIFESTS))
test-commands: TESTS = $(COMMANDS) $(call IGNORED,$(SERVICES))
test-manifests: TESTS = $(MANIFESTS)
# A folder of its own for temporary files: test-services looks that none of its services' is left.
test-units test-commands test-manifests:
	@folder=$$(mktemp -d) && trap "rm -rf $$folder" EXIT && TMPDIR=$$folder nice $(PYTEST) $(TESTS)

coverage: setup ## lines that no test without a service runs, in htmlcov/ too (ARGS=tests/router)
	@.venv/bin/python -m coverage erase
	@.venv/bin/python -m coverage run -m pytest $(or $(ARGS),--ignore=tests/e2e --ignore=tests/faults)
	@.venv/bin/python -m coverage combine --quiet && .venv/bin/python -m coverage html --quiet
	@exec .venv/bin/python -m coverage report

test-faults: setup ## what faults, scaling and updates do to 60 streams, as a table
	@.venv/bin/python -m tests.faults $(ARGS)
	@exec .venv/bin/python -m tests.faults --engine vllm $(ARGS)

test-cluster: setup ## the service on the cluster of KUBECONFIG, which must have KubeRay, under every fault and operation (OVERLAY=deploy/overlays/cpu, ARGS=--only=head)
	@exec .venv/bin/python -m tests.real_cluster $(OVERLAY) $(ARGS)

check: setup ## format, lint, types, dead code and docstrings only
	@.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/mypy && .venv/bin/vulture && .venv/bin/python -m tests.docstrings

format: setup ## rewrite the code in the project's format
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

bench-relay: setup ## what the router adds to a request, in time and CPU (PEERS=1: and others)
	@.venv/bin/python -m tests.bench.relay_normalise
	@exec .venv/bin/python -m tests.bench.relay $(if $(PEERS),--peers --limit-s 600)

bench-placement: setup ## how well requests are placed, beside other routers' rules, in simulated time
	@nice -n 19 .venv/bin/python -m tests.bench.placement $(ARGS)
	@nice -n 19 .venv/bin/python -m tests.bench.adapters
	@exec nice -n 19 .venv/bin/python -m tests.bench.placement_decision

bench-agents: setup ## what agents get done while their sessions fill the caches, beside other routers' rules, in simulated time (LIVE=1: on a real vLLM here; TENANTS=1: tenants that share the caches)
	@exec nice -n $(if $(LIVE),0,19) .venv/bin/python -m tests.bench.agents$(if $(LIVE),_live)$(if $(TENANTS),_tenants) $(ARGS)

bench-scaling: setup ## GPU-hours for 99 % of a load served well, beside other services' scaling (ARGS=--load=step)
	@exec nice -n 19 .venv/bin/python -m tests.bench.scaling $(ARGS)

bench-simulator: setup ## how true the simulator is beside a measured vLLM, and how fast (ARGS=--full: a million requests; TINY=1: beside a real one here)
	@exec nice -n 19 .venv/bin/python -m tests.bench.simulator$(if $(TINY),_tiny) $(ARGS)

bench-admission: setup ## an overload in simulated time: goodput, refusals, honesty; and what admission costs
	@exec nice -n 19 .venv/bin/python -m tests.bench.admission

bench-frontend: setup ## what vLLM spends around the model, as the card starts it and as we do (ARGS=--without-card)
	@exec .venv/bin/python -m tests.bench.frontend $(ARGS)

bench-metrics: setup ## what the router's metrics cost, and how true they are beside a stopwatch
	@exec nice -n 19 .venv/bin/python -m tests.bench.metrics $(ARGS)

bench-conformance: setup ## the conformance suite on this service and on plain vLLM
	@exec .venv/bin/python -m tests.bench.conformance

dashboards: setup ## write what is generated in dashboards/: Grafana's JSON and Prometheus' rules
	@exec .venv/bin/python -m dashboards.generate

manifests: dashboards ## write what is generated in k8s/, from deploy/serve/ and dashboards/
	@.venv/bin/python -m deploy.manifests

tiny-models: setup ## train the embedded models whose recipe in serving/tiny/ has changed
	@exec .venv/bin/python -m serving.tiny

lock: setup ## resolve deploy/requirements/*.in into the locks (ARGS=--upgrade: to the newest versions)
	@UV=$(CURDIR)/.venv/bin/uv deploy/requirements/lock.sh $(ARGS)

clean: ## remove the environment and caches of this folder
	@rm -rf .venv .venv-clients .llama-cpp .mypy_cache .ruff_cache .pytest_cache .coverage* htmlcov
