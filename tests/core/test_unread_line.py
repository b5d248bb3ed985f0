"""The closing line: packets that nobody read, by why."""

from __future__ import annotations

from kshark.flow import EMPTY, NOBODY
from kshark.session import _unread


def test_what_is_encrypted_is_not_called_unknown() -> None:
    assert _unread({EMPTY: 3}) == []
    assert _unread({NOBODY: 3, EMPTY: 1, "encrypted": 2}) == [
        "3 packets of unknown protocols",
        "2 encrypted packets",
    ]
    assert _unread({"no secrets of it in the key log": 7}) == [
        "7 packets not read (no secrets of it in the key log)"
    ]
    assert _unread({"a": 1_000, "b": 1}) == ["1,001 packets not read (a, …)"]
