from kshark.api import Entry

class Wanted:
    def __init__(
        self,
        protocols: tuple[str, ...],
        marks: tuple[bytes, ...] = (),
        begins: tuple[bytes, ...] = (),
        targets: tuple[str, ...] = (),
    ) -> None: ...
    def find(self, batch: list[Entry]) -> list[Entry]: ...
