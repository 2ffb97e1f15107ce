"""The origins of a plan's figures."""

from serving.catalogue import CatalogueEntry
from serving.catalogue.gpus import GPUS, efficiency


def sources(entry: CatalogueEntry) -> list[str]:
    """Says which figures of a model on these GPUs were measured, where the others come from, and
    what is extrapolated.
    """
    if entry.speed is not None:
        return ["Speed: as the model's file has it."]
    gpu, size = str(entry.gpu), entry.tensor_parallel_size
    known = efficiency(gpu, entry.weights_dtype, size)
    lines = []
    if known.measured:
        lines.append(f"Speed: {known.source}; without a run of vLLM.")
    else:
        lines.append(f"Speed: not measured. Data sheet of the {gpu}, and {known.source}.")
    if known.extrapolated == "an assumption":
        lines.append(f"Extrapolated: {entry.weights_dtype} was not measured on any GPU.")
    elif known.extrapolated is not None:
        lines.append(f"Extrapolated: to {size} x {gpu} {known.extrapolated}.")
    if entry.weights_dtype == "fp8" and GPUS[gpu].fp8_tflops is None:
        lines.append(
            f"Extrapolated: the {gpu} multiplies fp8 weights in bf16, if vLLM takes it there."
        )
    if size > 1 and GPUS[gpu].all_reduce_gb_per_s is not None:
        lines.append(
            "Extrapolated: what GPUs without NVLink lose, from one run over PCIe 5 that by data "
            "sheet alone comes out a fifth to a quarter too fast."
        )
    lines.append("KV cache: an estimate, good to about 10 %.")
    if not entry.verified:
        lines.append("This project has not run the variant on such GPUs.")
    return lines
