"""What a user gains over plain vLLM: the conformance suite on both, for each embedded model.

`python -m tests.bench.conformance` prints a table of the checks passed, and the checks that plain
vLLM, started with the model cards' flags, does not pass.
"""

import argparse
import contextlib
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from serving import catalogue
from serving.tiny import PRESETS, tiny_model_folder
from tests.bench.frontend_process import (
    CARD_FLAGS,
    SMALL_FLAGS,
    TOOL_FLAGS,
    plain,
    wait_until_ready,
)
from tests.bench.relay_process import HOST
from tests.bench.relay_report import machine
from tests.e2e.service import COMMAND, running, write_models_config
from tests.support.ports import free_port

MODELS = {
    "3.2": "tiny-mistral-small-3.2",
    "2501": "tiny-mistral-small-2501",
    "magistral": "tiny-magistral-small",
}
Rows = list[dict[str, Any]]


def suite(url: str, family: str, *options: str) -> Rows:
    tokenizer = tiny_model_folder(family)
    where: list[str | Path] = ["--url", url, "--tokenizer", tokenizer]
    result = subprocess.run(
        [COMMAND, "conformance", *where, *options, "--json"], stdout=subprocess.PIPE, timeout=900
    )
    rows: Rows = json.loads(result.stdout)["results"]
    return rows


def service(folder: Path) -> dict[str, Rows]:
    config = write_models_config(folder / "three.yaml", free_port(), MODELS.values())
    with running(config) as up:
        return {
            family: suite(up.url, family, "--model", catalogue.load(name).id)
            for family, name in MODELS.items()
        }


def vllm(folder: Path, family: str) -> Rows:
    entry = catalogue.load(MODELS[family])
    flags = {"model": str(tiny_model_folder(family)), **CARD_FLAGS, **TOOL_FLAGS, **SMALL_FLAGS}
    flags["max-model-len"] = entry.context_tokens
    flags["kv-cache-memory-bytes"] = entry.vllm_args["kv-cache-memory-bytes"]
    flags["override-generation-config"] = entry.sampling.defaults()
    if PRESETS[family].vision is None:
        del flags["limit-mm-per-prompt"]
    with plain(flags, folder / "vllm.log") as server:
        wait_until_ready({"vLLM": server})
        return suite(f"http://{HOST}:{server.port}", family, "--family", family, "--profile=tiny")


def passed(rows: Rows, theme: str) -> str:
    counts = Counter(row["status"] for row in rows if row["theme"] == theme)
    run = counts["pass"] + counts["fail"]
    return f"{counts['pass']}/{run}" if run else "-"


def table(ours: dict[str, Rows], theirs: dict[str, Rows]) -> list[str]:
    """A table in Markdown: checks passed of those that apply, for each theme."""
    lines = ["| | " + " | ".join(f"{f}: service | vLLM" for f in MODELS) + " |"]
    lines.append("|---" * (1 + 2 * len(MODELS)) + "|")
    for theme in dict.fromkeys(row["theme"] for row in ours["3.2"]):
        cells = [passed(side[family], theme) for family in MODELS for side in (ours, theirs)]
        lines.append(f"| {theme} | " + " | ".join(cells) + " |")
    return lines


def gains(ours: dict[str, Rows], theirs: dict[str, Rows]) -> list[str]:
    """The checks that some model passes only behind the service."""
    names: dict[str, list[str]] = {}
    for family in MODELS:
        failed = {row["check"] for row in theirs[family] if row["status"] == "fail"}
        for row in ours[family]:
            if row["status"] == "pass" and row["check"] in failed:
                names.setdefault(f"{row['theme']}: {row['check']}", []).append(family)
    return [f"- {name} ({', '.join(families)})" for name, families in names.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-conf-")))
        ours = service(folder)
        theirs = {family: vllm(folder, family) for family in MODELS}
    for name, fact in machine().items():
        print(f"{name}: {fact}")
    print("", *table(ours, theirs), "", *gains(ours, theirs), sep="\n")
    if args.json is not None:
        args.json.write_text(json.dumps({"service": ours, "vLLM": theirs}, indent=1))


if __name__ == "__main__":
    main()
