"""Everything the project uses of vLLM 0.32: an upgrade of vLLM touches this package alone."""
