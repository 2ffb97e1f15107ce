"""`mistral-serve calibrate`: measures what a GPU achieves of its peaks with a model's shapes."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from serving.catalogue.gpus import GPUS, Calibration, efficiency, gpu_of_device
from serving.catalogue.memory import Network
from serving.catalogue.speed import speed_by_formula
from serving.cli.client import BAD_OPTION, fail
from serving.cli.models import read
from serving.simulator.scenario import DEFAULT_MODEL

_TENSOR_PARALLEL_SIZES = (1, 2)


def calibrate(
    model: Annotated[
        str,
        typer.Argument(
            help="Model whose shapes are timed: catalogue name, or path of a YAML file."
        ),
    ] = DEFAULT_MODEL,
    device: Annotated[
        Literal["cuda", "cpu"], typer.Option(help="`cpu` only tries the command, with small sizes.")
    ] = "cuda",
    gpu: Annotated[
        str | None, typer.Option(help="GPU type to compare with. Default: by the device's name.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: in the catalogue.")
    ] = None,
) -> None:
    """Time a model's matrices and attention on this GPU, and add the figures to the catalogue.

    The simulator, the planner and the routers' first guesses use them in place
    of data sheets. Products and attention of prefill and decode are timed in
    plain PyTorch, in bf16 and, where the GPU has it, fp8, in the shapes of one
    GPU and of each of two. No weights and no vLLM are needed.
    """
    entry = read(model).entry()
    if device == "cpu" and out is None:
        raise fail("--device cpu needs --out: the catalogue is of GPUs", BAD_OPTION)
    try:
        import torch
    except ModuleNotFoundError:
        raise fail("calibrate needs PyTorch, which comes with vLLM") from None
    from serving.calibration.fit import fit
    from serving.calibration.layers import UnsupportedError
    from serving.calibration.measure import SMALL, Sizes, measure
    from serving.calibration.record import path_of, write
    from serving.calibration.shapes import Shapes, network_of

    network = network_of(entry)
    if network is None:
        raise fail(f"{entry.id} has no network in the catalogue")
    if device == "cuda" and not torch.cuda.is_available():
        raise fail("this PyTorch finds no GPU; --device cpu only tries the command")
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    gpu = gpu or gpu_of_device(name)
    if gpu not in GPUS:
        raise fail(
            f"the peaks of {gpu or name} are not known: --gpu is one of {', '.join(GPUS)}",
            BAD_OPTION,
        )
    sizes = Sizes() if device == "cuda" else SMALL
    measured = []
    console = Console(stderr=True)
    for dtype in ("bf16", "fp8"):
        if dtype == "fp8" and GPUS[gpu].fp8_tflops is None:
            console.print(f"fp8: the {gpu} has no such products")
            continue
        for gpus in _TENSOR_PARALLEL_SIZES:
            with console.status("") as status:
                say = status.update if console.is_terminal else lambda _: None
                shapes = Shapes.of(network, gpus)
                try:
                    times = measure(shapes, dtype, torch.device(device), sizes, say)
                except UnsupportedError as error:
                    console.print(f"{dtype}: {error}")
                    break
            measured.append(fit(times, network, gpu, GPUS[gpu], dtype, gpus))
    calibration = Calibration(
        gpu=gpu,
        device=name,
        date=datetime.now(UTC).date(),
        versions={"torch": torch.__version__}
        | ({"cuda": torch.version.cuda} if torch.version.cuda else {}),
        shapes_of=entry.id,
        efficiencies=tuple(measured),
    )
    _show(calibration, network)
    path = out or path_of(gpu)
    try:
        write(calibration, path)
    except OSError as error:
        raise fail(f"{path}: {error.strerror or error}") from None
    typer.echo(f"written to {path}")


def _show(calibration: Calibration, network: Network) -> None:
    table = Table(title=f"{calibration.gpu}: {calibration.source}", title_justify="left", box=None)
    table.add_column("weights")
    columns = ("GPUs", "products", "attention", "reads of weights", "of KV cache")
    for column in (*columns, "prompt tokens/s", "ms a step", "before"):
        table.add_column(column, justify="right")
    for one in calibration.efficiencies:
        gpus = one.tensor_parallel_size
        before = efficiency(calibration.gpu, one.weights_dtype, gpus).efficiency
        new, old = (
            speed_by_formula(
                network,
                weights_dtype=one.weights_dtype,
                kv_cache_dtype="auto",
                gpu=calibration.gpu,
                tensor_parallel_size=gpus,
                parts=parts,
            )
            for parts in (one, before)
        )
        table.add_row(
            one.weights_dtype,
            str(gpus),
            *(f"{part:.1%}" for part in (one.products, one.attention, one.weights, one.kv_cache)),
            f"{new.prefill_tokens_per_s:,.0f}",
            f"{new.step_ms:.2f}",
            f"{old.prefill_tokens_per_s:,.0f}, {old.step_ms:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table)
