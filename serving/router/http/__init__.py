"""The client side of the router: HTTP server, ASGI messages, errors and authentication."""
