"""`python -m dashboards.generate`: writes dashboards/*.json and dashboards/rules/*.yaml."""

import json
from pathlib import Path

from dashboards.generate import engines, routing, rules, scaling, service, tenants

FOLDER = Path(__file__).parents[1]

DASHBOARDS = tuple(module.DASHBOARD for module in (service, routing, engines, scaling, tenants))


def files() -> dict[Path, str]:
    """Each generated file with what it must hold."""
    dashboards = {
        FOLDER / f"{dashboard.name}.json": json.dumps(
            dashboard.json(), indent=1, ensure_ascii=False
        )
        + "\n"
        for dashboard in DASHBOARDS
    }
    return dashboards | {FOLDER / "rules" / name: text for name, text in rules.files().items()}


def main() -> None:
    for path, text in files().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(FOLDER.parent)}")


if __name__ == "__main__":
    main()
