"""``python -m serving.tiny [PRESET]``: makes sure that the tiny model exists and prints its
folder."""

import signal
import sys

from . import PRESETS, ensure_tiny_model

if __name__ == "__main__":
    # A shell lets its background processes ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        print(ensure_tiny_model(PRESETS[sys.argv[1] if len(sys.argv) > 1 else "3.2"]))
    except KeyboardInterrupt:
        sys.exit(130)
