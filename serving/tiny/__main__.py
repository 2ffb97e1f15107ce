"""``python -m serving.tiny [PRESET]``: make sure the tiny model exists and print its folder."""

import sys

from . import PRESETS, ensure_tiny_model

if __name__ == "__main__":
    print(ensure_tiny_model(PRESETS[sys.argv[1] if len(sys.argv) > 1 else "3.2"]))
