"""The service level objective of a plan."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Objective:
    """The objective: `share` of all requests, rejected ones included, get their first token within
    `ttft_s` and the other tokens at a mean interval of at most `itl_s`."""

    ttft_s: float
    itl_s: float
    share: float
