"""How fast an answer is to be. The edges of the routers' histograms, and what dashboards and alerts
count as good: the same numbers, which are edges of vLLM's own histograms too."""

TTFT_S = 2.5
"""Time to first token."""
ITL_S = 0.1
"""Inter-token latency."""
DURATION_S = 30.0
"""From a request's head to the end of its answer."""

TTFT_EDGES_S = (0.25, 1.0, TTFT_S, 10.0)
ITL_EDGES_S = (0.025, 0.05, ITL_S, 0.5)
DURATION_EDGES_S = (2.0, 10.0, DURATION_S)
QUEUE_EDGES_S = (0.1, 5.0)
"""Below the first a request has hardly waited."""
