"""llama.cpp's server, in an environment of its own, with a tiny model in its format."""
