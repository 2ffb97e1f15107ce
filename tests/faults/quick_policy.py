"""The engines' scaling policy with a shorter horizon."""

from unittest.mock import patch

from serving.autoscaling import EnginePolicy

_LEAST_HORIZON_S = 5.0


class QuickEnginePolicy(EnginePolicy):
    """Looks ahead for 5 s instead of 30 s, as a stand-in starts within seconds."""

    def __init__(self, model_id: str, startup_s: float, **config: float) -> None:
        # Not restored: Serve's controller makes the policy in its own process and has no other.
        patch("serving.scaling.policy._LEAST_HORIZON_S", _LEAST_HORIZON_S).start()
        super().__init__(model_id, _LEAST_HORIZON_S, **config)
