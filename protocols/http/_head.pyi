class Head:
    end: int
    verb_end: int
    target_start: int
    target_end: int
    minor: int
    status: int
    coding: int
    length: int
    upgrade: bool
    flags: int
    def request(self, data: bytes, start: int) -> int: ...
    def response(self, data: bytes, start: int) -> int: ...
    def chunk(self, data: bytes, start: int) -> int: ...
