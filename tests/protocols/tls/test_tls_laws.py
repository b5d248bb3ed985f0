"""The laws that every dissector is held to, without secrets and with them.

Two of them do not hold for TLS, and say why:

- ``sizes``: what a client says in the handshake after its hello belongs to no message, and what is encrypted is
  handed over to nobody;
- ``packets``: a flow that is opaque counts what comes late as sent twice (`kshark.wire`), in the row of the flow.
"""

from __future__ import annotations

from pathlib import Path
from ssl import TLSVersion

import pytest
from tls_kit import NAME, V12, V13, conversation, refused, with_keys

from kshark.protocols.tls import SPEC, spec
from kshark.testing import assert_dissector, converse, rows

EXCEPT = {"sizes", "packets"}
FLOW = f"FLOW {NAME} -> . [ok]"


@pytest.mark.parametrize(("version", "name"), [(V12, "1.2"), (V13, "1.3")])
def test_without_secrets(version: TLSVersion, name: str) -> None:
    expected = [f"hello {NAME} -> {name} [ok]", FLOW]
    assert_dissector(
        SPEC, conversation(version), expected, recovers=False, skip=EXCEPT, examples=30
    )


@pytest.mark.parametrize(("version", "name"), [(V12, "1.2"), (V13, "1.3")])
def test_with_secrets(version: TLSVersion, name: str, tmp_path: Path) -> None:
    talk, keys = with_keys(tmp_path / "keys", version)
    expected = [f"hello {NAME} -> {name} [ok]", "FLOW -> . [ok]"]  # nobody here reads HTTP
    assert_dissector(spec(keys), talk, expected, recovers=False, skip=EXCEPT, examples=15)


def test_a_handshake_that_is_refused() -> None:
    assert_dissector(SPEC, refused(), recovers=False, skip={"packets"}, examples=30)


def test_rows_are_the_same_in_any_order_of_packets() -> None:
    """What the law says of all rows, of those of TLS."""
    from kshark.engine import Engine
    from kshark.testing import _packets

    talk = conversation(V13)
    start, middle, end = _packets.packets(talk, 300)
    whole = [row for row in rows(converse(SPEC, talk)) if row.startswith("hello")]
    for at in range(len(middle) - 1):
        frames = [*start, *middle[:at], middle[at + 1], middle[at], *middle[at + 2 :], *end]
        engine = Engine([SPEC])
        entries = engine.feed(_packets.block(frames)) + engine.finish()
        assert [row for row in rows(entries) if row.startswith("hello")] == whole
        assert engine.ledger.check() == []
