from kshark.api import Message

class Head:
    end: int
    raw: bytes
    verb: str
    target: str
    minor: int
    status: int
    coding: int
    length: int
    upgrade: bool
    flags: int
    def request(self, data: bytes, start: int) -> int: ...
    def response(self, data: bytes, start: int) -> int: ...
    def chunk(self, data: bytes, start: int) -> int: ...
    def message(
        self, kind: int, verb: str, target: str, status: int, size: int, head: bytes, body: bytes
    ) -> Message: ...
    def piece(self, data: bytes, start: int, end: int) -> bytes: ...
