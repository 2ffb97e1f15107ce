"""The Engine deployment: a vLLM replica and its HTTP port."""
