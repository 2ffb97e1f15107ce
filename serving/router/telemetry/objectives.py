"""Latency objectives. The routers' histograms have them as bucket edges, and dashboards and alerts
count by them; all are bucket edges of vLLM's own histograms too."""

TTFT_S = 2.5
"""Time to first token."""
ITL_S = 0.1
"""Inter-token latency."""
DURATION_S = 30.0
"""Time from a request's head to the end of its answer."""

TTFT_EDGES_S = (0.25, 1.0, TTFT_S, 10.0)
ITL_EDGES_S = (0.025, 0.05, ITL_S, 0.5)
DURATION_EDGES_S = (2.0, 10.0, DURATION_S)
QUEUE_EDGES_S = (0.1, 5.0)
"""Edges of the queue time: below the first a request has hardly waited."""
