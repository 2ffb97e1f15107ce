"""What a service promises."""

from dataclasses import dataclass

from serving.simulator.result import Slo


@dataclass(frozen=True, slots=True)
class Objective:
    """`share` of the requests get their first token within `ttft_s` and the others every `itl_s` on
    average; who is refused got nothing.
    """

    ttft_s: float
    itl_s: float
    share: float

    @property
    def slo(self) -> Slo:
        return Slo(self.ttft_s, self.itl_s)
