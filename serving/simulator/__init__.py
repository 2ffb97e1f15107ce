"""Placement and scaling on simulated engines. Pure: no I/O but reading traces, no clock."""
