"""The main module of the processes that vLLM spawns on a CPU, which import it before their work."""

from serving.engine.garbage import only_new_collected

with only_new_collected():
    import serving.engine.vllm.scheduler
    import serving.engine.vllm.worker  # noqa: F401
