"""The Router deployment: the HTTP surface, and the relay of requests to engine replicas."""
