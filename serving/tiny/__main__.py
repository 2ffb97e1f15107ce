"""``python -m serving.tiny``: trains the tiny models whose recipe has changed."""

import json
import shutil
import tempfile
from pathlib import Path

from . import PRESETS, tiny_model_folder
from .build import RECORD_FILE, build_model
from .recipe import recipe_digest

if __name__ == "__main__":
    for preset, spec in PRESETS.items():
        folder = tiny_model_folder(preset)
        record = folder / RECORD_FILE
        if record.exists() and json.loads(record.read_text())["recipe"] == recipe_digest(spec):
            continue
        with tempfile.TemporaryDirectory(dir=folder.parent) as built:
            build_model(spec, Path(built))
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(built, folder)
        print(folder)
