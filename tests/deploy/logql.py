"""The part of LogQL that the dashboards and rules use, evaluated over rows: what Loki would answer.

Written from Grafana's documentation of LogQL, so that the queries are checked where no Loki is; `lezer.mjs` checks
with Grafana's own grammar that they are LogQL at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

NS: Final = 1_000_000_000
TOKEN: Final = re.compile(
    r'\s*("(?:[^"\\]|\\.)*"|\d+(?:\.\d+)?[smh]?|[A-Za-z_]\w*|!=|=~|!~|>=|<=|[{}()\[\],|=><*/])'
)
UNITS: Final = {"s": 1, "m": 60, "h": 3600}

Labels = Mapping[str, str]
Vector = dict[frozenset[tuple[str, str]], float]


class Row(NamedTuple):
    """A row of Loki."""

    ns: int
    labels: Labels
    line: str


COMPARED: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "=~": lambda a, b: re.fullmatch(b, a) is not None,
    "!~": lambda a, b: re.fullmatch(b, a) is None,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}


def evaluate(query: str, rows: list[Row], at: int) -> Vector:
    """The instant vector of a metric query, `at` so many ns."""
    parser = Parser(query, rows, at)
    found = parser.expression()
    assert parser.peek() is None, f"{parser.peek()} is left over of {query}"
    return found


class Parser:
    """Evaluates as it reads."""

    def __init__(self, query: str, rows: list[Row], at: int) -> None:
        self.tokens = TOKEN.findall(query)
        assert "".join(self.tokens) == re.sub(r'\s+(?=(?:[^"]*"[^"]*")*[^"]*$)', "", query), query
        self.place = 0
        self.rows, self.at = rows, at

    def peek(self) -> str | None:
        return str(self.tokens[self.place]) if self.place < len(self.tokens) else None

    def take(self, expected: str = "") -> str:
        token = str(self.tokens[self.place])
        assert not expected or token == expected, f"{token}, not {expected}"
        self.place += 1
        return token

    def text(self) -> str:
        return str(json.loads(self.take()))

    def names(self) -> list[str]:
        """``(a, b)``"""
        self.take("(")
        found = [self.take()]
        while self.peek() == ",":
            self.take(",")
            found.append(self.take())
        self.take(")")
        return found

    # -- metric queries

    def expression(self) -> Vector:
        left = self.term()
        while (operator := self.peek()) in ("/", ">"):
            self.take()
            if operator == ">":
                bound = float(self.take())
                left = {labels: value for labels, value in left.items() if value > bound}
            else:
                right = self.term()
                left = {labels: left[labels] / right[labels] for labels in left if labels in right}
        return left

    def term(self) -> Vector:
        name = self.take()
        if name == "(":
            found = self.expression()
            self.take(")")
            return found
        if name in ("sum", "max"):
            by = self.names() if self.peek() == "by" and self.take() else []
            self.take("(")
            inner = self.expression()
            self.take(")")
            return grouped(inner, by, sum if name == "sum" else max)
        if name == "topk":
            self.take("(")
            count = int(self.take())
            self.take(",")
            inner = self.expression()
            self.take(")")
            return dict(sorted(inner.items(), key=lambda one: -one[1])[:count])
        return self.over(name)

    def over(self, name: str) -> Vector:
        """A function of a range."""
        self.take("(")
        share = 0.0
        if name == "quantile_over_time":
            share = float(self.take())
            self.take(",")
        found = list(self.pipeline())
        self.take("[")
        span = self.take()
        self.take("]")
        self.take(")")
        by = self.names() if self.peek() == "by" and self.take() else None
        seconds = int(span[:-1]) * UNITS[span[-1]]
        values: dict[frozenset[tuple[str, str]], list[float]] = {}
        for ns, labels, value in found:
            if self.at - seconds * NS < ns <= self.at:
                kept = labels if by is None else {k: v for k, v in labels.items() if k in by}
                values.setdefault(frozenset(kept.items()), []).append(value)
        if name == "absent_over_time":
            return {} if values else {frozenset(): 1.0}
        return {labels: folded(name, those, share, seconds) for labels, those in values.items()}

    # -- rows

    def pipeline(self) -> Iterator[tuple[int, dict[str, str], float]]:
        """Rows with their labels and the value that is unwrapped."""
        self.take("{")
        tests = [self.test()]
        while self.take() == ",":
            tests.append(self.test())
        stages = []
        while self.peek() == "|":
            self.take()
            stages.append(self.stage())
        for row in self.rows:
            if all(test(row.labels) for test in tests):
                labels, value = dict(row.labels), [1.0]
                if all(stage(labels, row.line, value) for stage in stages):
                    yield row.ns, labels, value[0]

    def test(self) -> Callable[[Labels], bool]:
        name, compared, wanted = self.take(), COMPARED[self.take()], self.text()
        return lambda labels: compared(labels.get(name, ""), wanted)

    def stage(self) -> Callable[[dict[str, str], str, list[float]], bool]:
        name = self.take()
        if name == "json":
            return self.json()
        if name == "unwrap":
            return unwrap(self.take())
        compared, wanted = COMPARED[self.take()], self.take()
        if wanted.startswith('"'):
            return lambda labels, line, value: compared(labels.get(name, ""), json.loads(wanted))
        return lambda labels, line, value: (
            name in labels and compared(float(labels[name]), float(wanted))
        )

    def json(self) -> Callable[[dict[str, str], str, list[float]], bool]:
        """``json a="b.c", d="e"``: labels out of the line."""
        paths = {}
        while True:
            name = self.take()
            self.take("=")
            paths[name] = self.text().split(".")
            if self.peek() != ",":
                break
            self.take(",")

        def extract(labels: dict[str, str], line: str, value: list[float]) -> bool:
            whole = json.loads(line)
            for name, path in paths.items():
                found = whole
                for part in path:
                    found = found.get(part) if isinstance(found, dict) else None
                if found is not None:
                    labels[name] = found if isinstance(found, str) else json.dumps(found)
            return True

        return extract


def unwrap(name: str) -> Callable[[dict[str, str], str, list[float]], bool]:
    def stage(labels: dict[str, str], line: str, value: list[float]) -> bool:
        value[0] = float(labels.pop(name))
        return True

    return stage


def grouped(inner: Vector, by: list[str], fold: Callable[[list[float]], float]) -> Vector:
    groups: dict[frozenset[tuple[str, str]], list[float]] = {}
    for labels, value in inner.items():
        groups.setdefault(frozenset(one for one in labels if one[0] in by), []).append(value)
    return {labels: fold(values) for labels, values in groups.items()}


def folded(name: str, values: list[float], share: float, seconds: int) -> float:
    if name == "rate":
        return len(values) / seconds
    if name == "count_over_time":
        return float(len(values))
    if name == "max_over_time":
        return max(values)
    assert name == "quantile_over_time", name
    rank, ordered = share * (len(values) - 1), sorted(values)
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)
