"""The whole service on a real cluster, under each fault and operation: `make test-cluster`.

`operations` has what is done, `service` the service that it is done to, `pod` and `clients` the
clients beside it, `report` the table at the end.
"""
