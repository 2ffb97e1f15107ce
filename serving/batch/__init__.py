"""Offline inference: a file of requests in OpenAI's batch format, answered by a service.

`requests` reads the input, `results` keeps the answers so that a run can continue after any crash,
`runner` sends the requests, and `retry` decides when to retry.
"""
