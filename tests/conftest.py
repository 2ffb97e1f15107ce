"""Where the tests' own processes keep what outlives them."""

import os

from serving.tiny.cache import cache_root

# torch makes this folder as soon as a test imports its compiler, by default in /tmp.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_root() / "torchinductor"))
