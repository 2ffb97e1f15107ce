"""The application that Ray Serve runs: router, engines, and what they share."""
