"""Measures what a GPU achieves of its peaks with a model's matrices and attention, in plain
PyTorch, without weights and without vLLM."""
