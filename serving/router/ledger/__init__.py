"""Keeps this router's part of the usage ledger."""
