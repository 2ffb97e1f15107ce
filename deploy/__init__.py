"""How the service gets onto a machine or a cluster."""
