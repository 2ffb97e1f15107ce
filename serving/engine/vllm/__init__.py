"""All uses of vLLM 0.32 in the project: an upgrade of vLLM touches this package alone."""
