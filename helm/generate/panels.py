"""Panels and dashboards in Grafana's JSON, from a few words each: a title, a unit, queries with their legends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

Kind = Literal["timeseries", "stat", "bargauge", "table", "heatmap"]

SCHEMA_VERSION: Final = 39
"""Of Grafana's dashboard JSON: what Grafana 10.4 writes; later versions migrate it when they load it."""

COLUMNS: Final = 24
"""Grafana's grid is 24 columns wide."""


class Panel(NamedTuple):
    """One panel. ``queries`` are (PromQL, legend); ``width`` is in twenty-fourths of the page, ``height`` in grid rows."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    about: str = ""
    kind: Kind = "timeseries"
    width: int = 12
    height: int = 8
    stacked: bool = False
    limit: float | None = None
    """A line above which it is bad."""


class Row(NamedTuple):
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


class Dashboard(NamedTuple):
    """One page; ``key`` is its file's name and the end of its uid."""

    key: str
    title: str
    about: str
    rows: tuple[Row, ...]

    def queries(self) -> list[tuple[str, str]]:
        """(panel, PromQL) of all panels."""
        return [(panel.title, expr) for row in self.rows for panel in row.panels for expr, _ in panel.queries]


def to_json(dashboard: Dashboard, all_of_them: Sequence[Dashboard]) -> str:
    """The dashboard as a file that Grafana provisions."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in dashboard.rows:
        panels.append({
            "id": len(panels) + 1, "type": "row", "title": row.title, "collapsed": False, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        })  # fmt: skip
        y += 1
        x = tallest = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            panels.append(_panel(len(panels) + 1, panel, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    links = [
        {"type": "link", "title": other.title, "url": f"/d/{_uid(other)}", "keepTime": True, "includeVars": True}
        for other in all_of_them if other is not dashboard
    ]  # fmt: skip
    page = {
        "uid": _uid(dashboard), "title": f"Portcullis / {dashboard.title}", "description": dashboard.about,
        "tags": ["portcullis"], "schemaVersion": SCHEMA_VERSION, "version": 1, "editable": False, "graphTooltip": 1,
        "refresh": "30s", "time": {"from": "now-3h", "to": "now"}, "timezone": "", "links": links,
        "templating": {"list": _VARIABLES}, "annotations": {"list": [_GENERATIONS]}, "panels": panels,
    }  # fmt: skip
    return json.dumps(page, indent=1, ensure_ascii=False) + "\n"


def _uid(dashboard: Dashboard) -> str:
    return f"portcullis-{dashboard.key}"


_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

_VARIABLES: Final[list[dict[str, Any]]] = [
    {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0},
    {
        "name": "job", "label": "Job", "type": "query", "datasource": _SOURCE, "multi": True, "includeAll": True,
        "allValue": ".*", "refresh": 2, "query": {"query": "label_values(portcullis_build_info, job)", "refId": "job"},
        "current": {"text": "All", "value": "$__all"},
    },
]  # fmt: skip

_GENERATIONS: Final = {
    "name": "Generations", "enable": True, "iconColor": "purple", "datasource": _SOURCE, "titleFormat": "new generation",
    "expr": 'changes(portcullis_generation{job=~"$job"}[1m]) > 0', "step": "60s",
}  # fmt: skip


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": expr, "legendFormat": legend,
            "instant": panel.kind in ("bargauge", "table", "stat"), "range": panel.kind not in ("bargauge", "table"),
            **({"format": "table"} if panel.kind == "table" else {"format": "heatmap"} if panel.kind == "heatmap" else {}),
        }
        for index, (expr, legend) in enumerate(panel.queries)
    ]  # fmt: skip
    steps = [{"color": "green", "value": None}] + ([] if panel.limit is None else [{"color": "red", "value": panel.limit}])
    custom = {
        "lineWidth": 1, "fillOpacity": 20 if panel.stacked else 5, "showPoints": "never", "spanNulls": False,
        "stacking": {"mode": "normal" if panel.stacked else "none"},
        "thresholdsStyle": {"mode": "off" if panel.limit is None else "line"},
    }  # fmt: skip
    return {
        "id": number, "type": panel.kind, "title": panel.title, "description": panel.about, "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height}, "targets": targets,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit, "min": 0 if panel.kind == "timeseries" else None,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": custom if panel.kind == "timeseries" else {},
            },
            "overrides": [],
        },
        "options": _OPTIONS[panel.kind],
    }  # fmt: skip


_OPTIONS: Final[dict[Kind, dict[str, Any]]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area", "colorMode": "value"},
    "bargauge": {"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"]}},
    "table": {"showHeader": True},
    "heatmap": {"calculate": False, "yAxis": {"unit": "s"}, "color": {"mode": "scheme", "scheme": "Oranges"}},
}  # fmt: skip
