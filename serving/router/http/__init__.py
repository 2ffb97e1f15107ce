"""The client's side: HTTP server, ASGI messages, errors and who may ask."""
