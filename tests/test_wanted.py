"""Which entries an enricher is given: the twins agree, and what comes back takes the place of what was given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshark import _wanted
from kshark._spec_checks import check
from kshark.api import Endpoint, EnricherSpec, Entry, Flow, Message, Outcome
from kshark.breaker import Post
from kshark.enrich import Enriching, merged
from kshark.wanted import Wanted, wanted_by

FLOW = Flow("f", "tcp", Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2))
TWINS = pytest.mark.parametrize("kind", [Wanted, _wanted.Wanted], ids=["plain", "compiled"])


def entry(protocol: str, target: str = "", body: bytes = b"", asked: bool = True) -> Entry:
    request = Message(1, "GET", target, body=body) if asked else None
    return Entry(FLOW, 0, protocol, request, Message(2, status=200), Outcome.OK)


@TWINS
def test_what_is_wanted(kind: type[Wanted]) -> None:
    batch = [
        entry("http", "/a", b'{"x": "query"}'),
        entry("redis", "/a", b'{"query": 1}'),
        entry("http", "/a", b'{"query": 1}'),
        entry("http2", "/graphql"),
        entry("http", "/a", b"mutation { a }"),
        entry("http", "/a", b" mutation { a }"),
        entry("http", "/graphql", asked=False),
        entry("http", "/graphqx"),
        entry("http", "/naïve/graphql"),
    ]
    wanted = kind(("http", "http2"), (b'"query":',), (b"mutation",), ("graphql",))
    assert wanted.find(batch) == [batch[n] for n in (2, 3, 4, 8)]
    assert kind(("redis",)).find(batch) == [batch[1]]
    assert kind((), (b"query",)).find(batch) == batch[:3]
    assert wanted.find([]) == []


TEXT = st.text("ab\U0001f984", max_size=6)
BYTES = st.text("aqb", max_size=8).map(str.encode)
ENTRIES = st.builds(entry, st.sampled_from(["http", "dns"]), TEXT, BYTES, st.booleans())
SOME = st.lists(BYTES.filter(bool), max_size=3).map(tuple)


@given(
    st.lists(ENTRIES, max_size=8),
    st.lists(st.sampled_from(["http", "dns", "x"]), max_size=2).map(tuple),
    SOME,
    SOME,
    st.lists(TEXT.filter(bool), max_size=2).map(tuple),
)
def test_the_twins_agree(
    batch: list[Entry],
    protocols: tuple[str, ...],
    marks: tuple[bytes, ...],
    begins: tuple[bytes, ...],
    targets: tuple[str, ...],
) -> None:
    asked = (protocols, marks, begins, targets)
    plain, compiled = Wanted(*asked).find(batch), _wanted.Wanted(*asked).find(batch)
    assert list(map(id, plain)) == list(map(id, compiled))


def test_strange_entries_are_wanted() -> None:
    """Whatever another enricher left there, nobody crashes."""
    odd = entry("http")
    odd.request.target = "\ud800"  # type: ignore[union-attr]
    none: list[Entry] = [object()]  # type: ignore[list-item]
    wanted = _wanted.Wanted(("http",), (b"x",), (), ("y",))
    assert wanted.find([odd]) == [odd]
    assert wanted.find(none) == none


def test_who_asks_for_nothing_gets_all() -> None:
    assert wanted_by(EnricherSpec(name="x", make=lambda options, context: None)) is None  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("protocols", "http", "protocols must be a tuple of str"),
        ("marks", ("a",), "marks must be a tuple of bytes"),
        ("begins", (b"",), "begins must be a tuple of bytes, none of them empty"),
        ("targets", (b"a",), "targets must be a tuple of str"),
    ],
)
def test_wrong_specs(field: str, value: object, said: str) -> None:
    spec = EnricherSpec(name="x", make=lambda options, context: None, **{field: value})  # type: ignore[arg-type,return-value]
    assert said in check(spec, EnricherSpec)


def test_what_comes_back_takes_its_place() -> None:
    a, b, c, d = (entry("http", str(n)) for n in range(4))
    new = entry("http", "new")
    assert merged([a, b, c, d], [b, c], [b, c]) == [a, b, c, d]
    assert merged([a, b, c, d], [b, c], [new, c]) == [a, new, c, d]
    assert merged([a, b, c, d], [b, c], [c]) == [a, c, d]
    assert merged([a, b, c, d], [b, c, d], [c, new]) == [a, c, new]


def test_an_enricher_is_given_what_it_wants() -> None:
    class Drops:
        seen: list[Entry] = []

        def enrich(self, batch: list[Entry]) -> list[Entry]:
            self.seen += batch
            return batch[1:]

    own = Drops()
    said: list[str] = []
    made = Enriching("x", own, Post(), said.append, wanted=Wanted(("http",)))
    batch = [entry("dns"), entry("http", "1"), entry("http", "2"), entry("dns")]
    assert made.apply(batch) == [batch[0], batch[2], batch[3]]
    assert (own.seen, made.dropped, said) == (batch[1:3], 1, [])
    assert made.apply([batch[0]]) == [batch[0]]
    assert len(own.seen) == 2
