"""`mistral-serve up`: runs the whole service on this machine until Ctrl-C."""

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from serving.cli import pidfile, preflight
from serving.cli.local_ray import local_ray
from serving.config import AppConfig, ConfigError, load
from serving.start_errors import exception_of

_REPORT_EVERY_S = 10
_RUNNING: Any = "RUNNING"  # ReplicaState is a str that Ray does not export


class StartError(Exception):
    """The application did not start; the message is Ray's reason."""


class Progress:
    """Prints lines to stderr, each with the seconds since the start."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"{time.monotonic() - self._start_s:5.0f} s  {text}", file=sys.stderr, flush=True)


def up(
    config_file: Annotated[
        Path, typer.Argument(help="A Ray Serve config file of this application.")
    ] = Path("deploy/serve/local.yaml"),
) -> None:
    """Start Ray and the application of CONFIG_FILE here, and serve until Ctrl-C."""
    say = Progress()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, interrupt)
    try:
        config = load(config_file)
        preflight.check(config)
        with pidfile.noted(config.router.port):
            run(config, say, stop)
    except (ConfigError, preflight.PreflightError, StartError) as error:
        print(f"mistral-serve: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        say("stopped before it was ready")
        raise typer.Exit(130) from None


def run(config: AppConfig, say: Progress, stop: threading.Event) -> None:
    with service(config, say):
        pidfile.note_ray_metrics(config.router.port, ray_metrics_address())
        announce(config, say)
        stop_on_signal(stop)
        stop.wait()
        say("stopping: running answers are finished first (Ctrl-C again to stop at once)")
    say("stopped")


@contextlib.contextmanager
def service(config: AppConfig, say: Progress) -> Iterator[Path]:
    """Runs the application of `config` on its own Ray while the context is open, and yields the
    folder of their logs. At the end running answers are finished, except after an error. Raises
    StartError."""
    say("starting Ray")
    with contextlib.ExitStack() as ray:
        try:
            logs = ray.enter_context(local_ray(preflight.cpus_needed(config)))
        except Exception as error:  # Ray raises just that if a node is too slow to start.
            raise did_not_start(error) from error
        say(f"logs: {logs}")
        try:
            from serving import app

            start(config, say, app.NAME)
        except ray_errors() as error:
            raise did_not_start(error) from error
        yield logs
        drain(say, app.NAME)


def ray_metrics_address() -> str:
    """The address at which the one node of this Ray exports its metrics."""
    import ray

    (node,) = ray.nodes()  # type: ignore[no-untyped-call]
    return f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"


def did_not_start(error: Exception) -> StartError:
    return StartError(f"Ray did not start: {str(error) or type(error).__name__}")


def ray_errors() -> tuple[type[Exception], ...]:
    """The exceptions that Ray raises if it does not start."""
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    return RuntimeError, OSError, RayError, RayServeException


def start(config: AppConfig, say: Progress, name: str) -> None:
    """Deploys the application and waits until it runs. Raises StartError."""
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    from serving.app import build

    for model in config.models:
        say(f"starting {model.least_replicas} x {model.entry.id}")
    target = serve.RunTarget(build(config), name=name, route_prefix=None)
    serve.run_many([target], wait_for_applications_running=False)
    reported, reported_at_s = "", 0.0
    while True:
        application = serve.status().applications[name]
        report = ", ".join(
            f"{deployment} {overview.replica_states.get(_RUNNING, 0)} of "
            f"{sum(overview.replica_states.values())} up"
            for deployment, overview in application.deployments.items()
        )
        if report != reported or time.monotonic() - reported_at_s >= _REPORT_EVERY_S:
            say(report)
            reported, reported_at_s = report, time.monotonic()
        if application.status == ApplicationStatus.RUNNING:
            return
        if application.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
            raise StartError(reason(application))
        time.sleep(0.5)


def reason(application: object) -> str:
    """Ray Serve's reasons for a failed start, the deployments' own messages first."""
    deployments = getattr(application, "deployments", {})
    messages = [overview.message for overview in deployments.values() if overview.message]
    messages = messages or [str(getattr(application, "message", application))]
    return "\n".join(map(exception_of, messages))


def announce(config: AppConfig, say: Progress) -> None:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.router.host, config.router.host)
    scheme = "http" if config.router.tls is None else "https"
    url = f"{scheme}://{host}:{config.router.port}"
    entry = config.models[0].entry
    body = json.dumps(
        {
            "model": entry.aliases[0] if entry.aliases else entry.id,
            "messages": [{"role": "user", "content": "Hello"}],
        }
    )
    say(f"ready: {url}")
    print(
        f"\nTry it:\n  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
        f"    -d '{body}'\nor:\n  .venv/bin/mistral-serve chat 'Hello' --url {url}\n\n"
        "Ctrl-C stops it.\n",
        flush=True,
    )


def stop_on_signal(stop: threading.Event) -> None:
    """The first SIGINT or SIGTERM sets `stop`; the second interrupts."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            interrupt(number, frame)
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def drain(say: Progress, name: str) -> None:
    """Stops the replicas after they have finished their answers."""
    from ray import serve

    try:
        serve.delete(name, _blocking=False)
        while name in serve.status().applications:
            time.sleep(0.2)
    except KeyboardInterrupt:
        say("stopping at once")
