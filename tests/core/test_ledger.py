"""The ledger's own bounds."""

from __future__ import annotations

from kshark import limits
from kshark.engine import Engine


def test_a_table_has_a_bound() -> None:
    ledger = Engine([]).ledger
    for number in range(limits.REASONS + 50):
        ledger.count(ledger.errors, f"echo: bad frame {number}")
    ledger.count(ledger.errors, "echo: bad frame 0")
    assert len(ledger.errors) == limits.REASONS + 1
    assert ledger.errors["other reasons"] == 50
    assert ledger.errors["echo: bad frame 0"] == 2


def test_a_name_has_a_bound() -> None:
    ledger = Engine([]).ledger
    ledger.count(ledger.opaque, "x" * 10_000)
    assert [len(name) for name in ledger.opaque] == [120]
