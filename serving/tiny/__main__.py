"""``python -m serving.tiny``: make sure the tiny model exists and print its folder."""

from . import ensure_tiny_model

if __name__ == "__main__":
    print(ensure_tiny_model())
