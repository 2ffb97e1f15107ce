"""A Kubernetes API server for tests: schemas, admission, and controllers that a test steers.

Real `kubectl` and the real `kubernetes` client talk to it; `cluster.Cluster` is the door.
"""
