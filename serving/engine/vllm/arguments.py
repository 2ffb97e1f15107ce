"""The flags of `vllm serve`, parsed by vLLM itself."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

import vllm
from vllm import envs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser

VERSION: str = vllm.__version__

_CPU_WORKER = "serving.engine.vllm.worker.SeededCpuWorker"

_IN_ENGINE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""By its path: vLLM takes "mp" for the name "uni" on a CPU, as only a process of its own could bind
a worker's threads to cores."""


def flags(vllm_args: Mapping[str, Any]) -> list[str]:
    """Returns `vllm serve` flags: true becomes `--name`, false `--no-name`, a list `--name` and its
    items, a mapping its JSON."""
    argv = []
    for name, value in vllm_args.items():
        if value is True:
            argv.append(f"--{name}")
        elif value is False:
            argv.append(f"--no-{name}")
        elif isinstance(value, list):
            argv += [f"--{name}", *map(str, value)]
        else:
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            argv.append(f"--{name}={text}")
    return argv


def parse(vllm_args: Mapping[str, Any], served_names: list[str]) -> Any:
    """Parses flags as vLLM does, with our worker on a CPU. A single worker there whose threads are
    not bound runs in the engine's process, which saves the start of another. Raises ValueError for
    an invalid flag.
    """

    def refuse(message: str) -> NoReturn:
        raise ValueError(f"vLLM {VERSION} does not accept these vllm_args: {message}")

    parser = make_arg_parser(FlexibleArgumentParser(allow_abbrev=False))
    parser.error = refuse
    args = parser.parse_args([*flags(vllm_args), "--served-model-name", *served_names])
    validate_parsed_serve_args(args)
    if current_platform.is_cpu() and args.worker_cls == "auto":
        args.worker_cls = _CPU_WORKER
        workers = args.tensor_parallel_size * args.pipeline_parallel_size
        if workers == 1 and envs.VLLM_CPU_OMP_THREADS_BIND == "nobind":
            args.distributed_executor_backend = _IN_ENGINE_PROCESS
    return args
