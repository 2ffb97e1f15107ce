"""Writes the events of answers in the form of each API, streamed and whole."""
