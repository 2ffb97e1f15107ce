"""What the router says of itself: metrics, log, traces and status."""
