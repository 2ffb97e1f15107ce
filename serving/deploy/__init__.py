"""What an operator does with the service on Kubernetes: `mistral-serve deploy`.

What was read is judged by pure functions over Kubernetes' own objects, as dictionaries; `kube` is
the one door to the API server.
"""
