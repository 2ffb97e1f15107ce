"""The engines that tests simulate: those of the catalogue."""

from serving import catalogue
from serving.simulator.engine import EngineSpec
from serving.simulator.spec import engine_spec


def mistral_small(gpus: int = 2) -> EngineSpec:
    """An entry in BF16 on one H100 or two."""
    return engine_spec(catalogue.load("mistral-small-3.2-24b-instruct-2506", f"bf16-tp{gpus}"))
