"""What a service promises its users."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Objective:
    """The `share` of all requests, refused ones included, that get their first token within
    `ttft_s` and the others at a mean interval of at most `itl_s`.
    """

    ttft_s: float
    itl_s: float
    share: float
