"""``python -m helm.generate``: write the chart's generated files and the runbooks; ``--check``: say which are not current."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from helm.generate import chart_values
from helm.generate.dashboards import DASHBOARDS
from helm.generate.panels import to_json
from helm.generate.rules import rules_file, runbooks

ROOT: Final = Path(__file__).parents[2]


def files() -> dict[str, str]:
    """Every generated file: its path from the project's root, and its text."""
    chart = "helm/portcullis"
    return {
        f"{chart}/files/rules.yaml": rules_file(),
        **{f"{chart}/files/dashboards/{one.key}.json": to_json(one, DASHBOARDS) for one in DASHBOARDS},
        f"{chart}/values.schema.json": chart_values.schema(),
        "docs/chart.md": chart_values.document(),
        **{f"docs/runbooks/{name}": page for name, page in runbooks().items()},
    }


def stale(root: Path = ROOT) -> list[str]:
    """Generated files that are not what the source says, and files beside them that nothing writes."""
    wanted = files()
    folders = ("helm/portcullis/files", "docs/runbooks")
    there = {str(file.relative_to(root)) for folder in folders for file in (root / folder).rglob("*") if file.is_file()}
    changed = {name for name, text in wanted.items() if not (root / name).is_file() or (root / name).read_text() != text}
    return sorted(changed | (there - set(wanted)))


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        for name in (wrong := stale()):
            print(f"{name}: not current; run python -m helm.generate", file=sys.stderr)
        return 1 if wrong else 0
    if arguments:
        print("usage: python -m helm.generate [--check]", file=sys.stderr)
        return 2
    for name, text in files().items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
