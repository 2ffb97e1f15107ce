"""The other routers of the application."""
