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
    def piece(self, data: bytes, start: int, end: int) -> bytes: ...
