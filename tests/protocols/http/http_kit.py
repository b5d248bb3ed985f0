"""What the tests of HTTP share: both builds of the dissector, ways to cut a stream, the corpora."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from kshark import _pure
from kshark.api import DissectError, Message, Side, Switch

PACKAGE = "kshark.protocols.http"
C, S = Side.CLIENT, Side.SERVER
CORPORA = Path(
    os.environ.get("KSHARK_CORPORA", Path(__file__).parents[3] / ".." / "shared" / "corpora")
)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

Piece = tuple[int, bytes]  # side and bytes
Found = list[Message | Switch]


def fresh(name: str, pure: bool) -> ModuleType:
    """A module of the package, of its own import: from source, or as installed."""
    twins = {f"{PACKAGE}.{n}" for n in ("_head", "lane", "dissector", "quick")}
    kept = {n: m for n, m in sys.modules.items() if n in twins}
    before, finders = os.environ.get("KSHARK_PURE"), list(sys.meta_path)
    try:
        for module in kept:
            del sys.modules[module]
        os.environ["KSHARK_PURE"] = PACKAGE if pure else ""
        _pure.install()
        return importlib.import_module(f"{PACKAGE}.{name}")
    finally:
        for module in twins:
            sys.modules.pop(module, None)
        sys.modules.update(kept)
        sys.meta_path[:] = finders
        os.environ.pop("KSHARK_PURE")
        if before is not None:
            os.environ["KSHARK_PURE"] = before


PURE = fresh("dissector", True).HttpDissector
BUILT = fresh("dissector", False)
BUILDS: dict[str, Callable[[], Any]] = {
    "pure": PURE,
    "quick": fresh("quick", True).QuickDissector,
}
if BUILT.__file__ and not BUILT.__file__.endswith(".py"):
    BUILDS["compiled"] = BUILT.HttpDissector
elif os.environ.get("KSHARK_REQUIRE_COMPILED"):
    raise RuntimeError("the compiled dissector is not there")

builds = pytest.mark.parametrize("make", BUILDS.values(), ids=BUILDS)


def plain(found: Iterable[Message | Switch]) -> list[Any]:
    """Comparable between builds, which have classes of their own."""
    return [(type(item).__name__, msgspec.to_builtins(item)) for item in found]


def play(make: Callable[[], Any], pieces: Iterable[Piece], close: bool = True) -> Found:
    """All that one dissector finds; an error of the peer ends it."""
    dissector = make()
    found: Found = []
    for side, data in pieces:
        found += dissector.feed(side, data)
    if close:
        found += dissector.close()
    return found


def cut(pieces: Sequence[Piece], size: int) -> Iterable[Piece]:
    for side, data in pieces:
        for at in range(0, len(data), size):
            yield side, data[at : at + size]


def messages(found: Iterable[Message | Switch]) -> list[Message]:
    return [item for item in found if isinstance(item, Message)]


def lenient(make: Callable[[], Any], pieces: Iterable[tuple[int, bytes | int]]) -> Found:
    """As the engine does: an int is a gap, a DissectError asks for a new start, nothing else may come."""
    dissector = make()
    found: Found = []
    for side, piece in pieces:
        try:
            if isinstance(piece, int):
                found += dissector.gap(side, piece)
            else:
                found += dissector.feed(side, piece)
        except DissectError:
            found += dissector.gap(side, 0)
    found += dissector.close()
    return found
