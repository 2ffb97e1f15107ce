"""What an operator does with the service on Kubernetes: `mistral-serve deploy`.

Pure functions judge Kubernetes' own objects, as dictionaries; `kube` is the one way to the API
server.
"""
