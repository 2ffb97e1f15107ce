"""Offline inference: a file of requests in OpenAI's batch format, answered by a service.

`requests` reads the input, `results` keeps what is done so that a run can go on after any crash,
`runner` asks the service, `retry` says when again.
"""
