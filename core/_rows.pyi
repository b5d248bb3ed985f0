from collections.abc import Callable, Sequence

from kshark.api import Entry

class Rows:
    def encode(self, batch: Sequence[Entry], objects: Sequence[bytes] = ()) -> bytes: ...

class Suspects:
    def __init__(self, secret: Callable[[str], bool]) -> None: ...
    def find(self, batch: list[Entry], protocols: frozenset[str]) -> list[Entry]: ...
