"""Reads the requests of all APIs into one type."""
