"""How the application gets onto a machine or a cluster."""
