"""Dashboards and alert rules for Grafana, Prometheus and Loki, written from ``boards.toml``.

    python deploy/grafana/boards.py

A dashboard takes its data source from a variable, so it can be imported anywhere and provisioned as it is.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
COLUMNS: Final = 24
HEIGHTS: Final = {"stat": 4, "timeseries": 8, "table": 9, "logs": 14}
"""Rows of Grafana's grid (30 pixels each), by kind of panel."""
RULES: Final = {"prometheus": "prometheus-rules.yaml", "loki": "loki-rules.yaml"}
CHOSEN: Final[dict[str, dict[str, Any]]] = {
    "node": {
        "type": "query", "label": "Node", "query": "label_values(kshark_packets_received_total, instance)",
        "refresh": 2,
        "includeAll": True, "multi": True, "allValue": ".*", "sort": 1,
        "current": {"text": "All", "value": "$__all"},
        "datasource": {"type": "prometheus", "uid": "${source}"},
    },
    "by": {
        "type": "custom", "label": "By", "query": "dst_name,protocol,request_verb,outcome",
        "current": {"text": "dst_name", "value": "dst_name"},
    },
    "where": {
        "type": "textbox", "label": "Labels", "query": 'job="kshark"',
        "current": {"text": 'job="kshark"', "value": 'job="kshark"'},
    },
    "slow": {
        "type": "textbox", "label": "Slower than (ms)", "query": "1000",
        "current": {"text": "1000", "value": "1000"},
    },
}  # fmt: skip
"""What can be chosen at the top of a board."""


def dashboard(board: dict[str, Any]) -> dict[str, Any]:
    """A board as Grafana's JSON."""
    source = {"type": "datasource", "name": "source", "label": "Data source"}
    variables = [{**source, "query": board["source"]}]
    variables += [{"name": name, **CHOSEN[name]} for name in board["chosen"]]
    return {
        "uid": board["uid"],
        "title": board["title"],
        "description": board["about"],
        "tags": ["kshark"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [
            {"type": "dashboards", "tags": ["kshark"], "title": "kshark", "asDropdown": True}
        ],
        "templating": {"list": variables},
        "panels": panels(board),
    }


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels, from left to right and from top to bottom."""
    found, x, y, tallest = [], 0, 0, 0
    for number, given in enumerate(board["panel"], 1):
        kind, width = given.get("kind", "timeseries"), given.get("width", 12)
        if x + width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        place = {"x": x, "y": y, "w": width, "h": HEIGHTS[kind]}
        found.append({"id": number, "gridPos": place, **panel(given, kind, board["source"])})
        x, tallest = x + width, max(tallest, HEIGHTS[kind])
    return found


def panel(given: dict[str, Any], kind: str, source: str) -> dict[str, Any]:
    once = kind == "table"
    target = {
        "refId": "A",
        "expr": given["query"],
        "datasource": {"type": source, "uid": "${source}"},
    }
    if source == "prometheus":
        target |= {"range": True, "instant": False}
    else:
        target |= {"queryType": "instant" if once else "range"}
    defaults = {"unit": given["unit"]} if "unit" in given else {}
    made = {
        "type": kind,
        "title": given["title"],
        "datasource": target["datasource"],
        "targets": [target],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {},
    }
    if kind == "logs":
        made["options"] = {"showTime": True, "wrapLogMessage": True, "prettifyLogMessage": True}
    elif once:
        made["transformations"] = [
            {"id": "labelsToFields", "options": {}},
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": True}}},
            {"id": "sortBy", "options": {"sort": [{"field": "Value #A", "desc": True}]}},
        ]
    return made


def rules(given: list[dict[str, Any]], source: str) -> str:
    """The alert rules of a source. A JSON string is one of YAML, so nothing needs a library."""
    lines = ["# written by boards.py from boards.toml", "groups:", "  - name: kshark", "    rules:"]
    for rule in given:
        if rule["source"] == source:
            lines += [
                f"      - alert: {rule['name']}",
                f"        expr: {json.dumps(rule['query'])}",
                f"        for: {rule['for']}",
                f"        labels: {{severity: {rule['severity']}}}",
                f"        annotations: {{summary: {json.dumps(rule['summary'])}}}",
            ]
    return "\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """What is written where."""
    source = tomllib.loads((HERE / "boards.toml").read_text(encoding="utf-8"))
    found = {
        HERE / "dashboards" / f"{board['uid']}.json": json.dumps(dashboard(board), indent=1) + "\n"
        for board in source["board"]
    }
    for name, file in RULES.items():
        found[HERE / file] = rules(source["rule"], name)
    return found


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
