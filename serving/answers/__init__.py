"""Turns the token ids that an engine generates into the events of an answer."""
