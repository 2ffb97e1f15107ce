"""Relays requests to engines and their answers back."""
