"""Prefixes first, then probes; ports only break ties."""

from __future__ import annotations

import pytest

from kshark.api import ProtocolSpec, Side, Verdict
from kshark.identify import Identifier, View


def spec(name: str, **facts: object) -> ProtocolSpec:
    return ProtocolSpec(name=name, dissector=lambda: None, **facts)  # type: ignore[arg-type,return-value]


def says(verdict: Verdict, only: Side | None = None) -> object:
    return lambda data, side: verdict if only in (None, side) else Verdict.NO


def asks(spec: ProtocolSpec, data: bytes, side: Side) -> Verdict:
    assert spec.probe is not None
    return spec.probe(data, side)


def view(
    client: bytes = b"", server: bytes = b"", oriented: bool = True, refused: tuple[str, ...] = ()
) -> View:
    return View((client, server), (40_000, 80), oriented, "tcp", frozenset(refused))


def chosen(
    specs: list[ProtocolSpec], look: View, last: bool = False
) -> tuple[str | None, bool, bool]:
    choice, more = Identifier(specs, {}, asks).decide(look, last)
    return (choice.spec.name if choice else None, bool(choice and choice.flip), more)


GET = spec("get", magic=(b"GET ",), replies=(b"OK ",))


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (view(b"GET /"), ("get", False, False)),
        (view(b"GE"), (None, False, True)),
        (view(b"PUT"), (None, False, False)),
        (view(b"", b"OK 1"), ("get", False, False)),
        (view(b"OK 1"), (None, False, False)),
        (view(b"OK 1", oriented=False), ("get", True, False)),
        (view(b"GET /", refused=("get",)), (None, False, False)),
    ],
)
def test_prefixes(look: View, expected: tuple[str | None, bool, bool]) -> None:
    assert chosen([GET], look) == expected


def test_the_longest_prefix_wins_and_a_shared_one_goes_to_the_first() -> None:
    long, same = spec("long", magic=(b"GET /api",)), spec("same", magic=(b"GET ",))
    assert chosen([GET, same, long], view(b"GET /api/x"))[0] == "long"
    assert chosen([GET, same, long], view(b"GET /"))[0] == "get"
    assert chosen([GET, same, long], view(b"GET /", refused=("get",)))[0] == "same"


def test_a_probe_may_veto_its_own_prefix() -> None:
    picky = spec("picky", magic=(b"GET ",), probe=says(Verdict.NO))
    assert chosen([picky], view(b"GET /")) == (None, False, False)


def test_likely_waits_for_those_who_want_more() -> None:
    likely, shy = spec("likely", probe=says(Verdict.LIKELY)), spec("shy", probe=says(Verdict.MORE))
    assert chosen([likely], view(b"x"))[0] == "likely"
    assert chosen([likely, shy], view(b"x")) == (None, False, True)
    assert chosen([likely, shy], view(b"x"), last=True)[0] == "likely"


def test_certain_beats_likely_and_ports_break_ties() -> None:
    likely = spec("likely", probe=says(Verdict.LIKELY), ports=(1,))
    hinted = spec("hinted", probe=says(Verdict.LIKELY), ports=(80,))
    certain = spec("certain", probe=says(Verdict.CERTAIN))
    assert chosen([likely, hinted], view(b"x"))[0] == "hinted"
    assert chosen([likely, hinted, certain], view(b"x"))[0] == "certain"


def test_without_a_syn_the_better_side_wins() -> None:
    server = spec("s", probe=says(Verdict.CERTAIN, Side.SERVER))
    assert chosen([server], view(b"x", oriented=False)) == ("s", True, False)
    assert chosen([server], view(b"x")) == (None, False, False)


def test_assumed_ports_need_no_bytes() -> None:
    identifier = Identifier([GET], {80: "get", 81: "nobody"}, asks)
    choice = identifier.assumed((40_000, 80))
    assert choice is not None
    assert choice.reason == "port 80 assumed"
    assert identifier.assumed((81, 82)) is None
