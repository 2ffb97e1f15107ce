"""`python -m dashboards.generate`: writes dashboards/*.json and dashboards/rules/*.yaml."""

import json
from pathlib import Path

from dashboards.generate import engines, routing, rules, scaling, service, tenants

FOLDER = Path(__file__).parents[1]

DASHBOARDS = {
    "engines": engines.DASHBOARD,
    "routing": routing.DASHBOARD,
    "scaling": scaling.DASHBOARD,
    "service": service.DASHBOARD,
    "tenants": tenants.DASHBOARD,
}


def files() -> dict[Path, str]:
    """The content of each generated file, by its path."""
    dashboards = {
        FOLDER / f"{name}.json": json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        for name, document in DASHBOARDS.items()
    }
    return dashboards | {FOLDER / "rules" / name: text for name, text in rules.files().items()}


def main() -> None:
    for path, text in files().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(FOLDER.parent)}")


if __name__ == "__main__":
    main()
