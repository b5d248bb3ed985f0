"""The snapshot that a master sends to a replica: an RDB file between two texts.

``$<length>`` CRLF and so many bytes with no CRLF behind them, or (diskless) ``$EOF:<40 bytes>`` CRLF, bytes,
and the same 40 bytes again. While the file is being made the master sends empty lines to stay connected
(replication.c: replicationCron, readSyncBulkPayload). It is counted, not kept.
"""

from __future__ import annotations

from kshark.api import DissectError

from .resp import number

MARK = 40  # RDB_EOF_MARK_SIZE
SNAPSHOT = 2**50  # bytes; beyond any server's memory


class Snapshot:
    """Where the snapshot ends; a sibling of `resp.Replies`."""

    __slots__ = ("left", "line", "mark", "recent")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what is under way."""
        self.line = b""
        self.left = 0
        self.mark = b""
        self.recent = b""  # the last bytes, where the mark may have begun

    def scan(self, data: bytes, pos: int) -> int:
        """The offset behind the snapshot, or -1: all is used, go on."""
        if not self.open():
            pos = self.head(data, pos)
            if pos < 0 or not self.open():
                return pos
        return self.marked(data, pos) if self.mark else self.counted(data, pos)

    def head(self, data: bytes, pos: int) -> int:
        """The line with the length, behind any empty ones."""
        while not self.line and pos < len(data) and data[pos] in b"\r\n":
            pos += 1
        found = data.find(b"\n", pos)
        self.line += data[pos : found + 1 if found >= 0 else pos + 64]
        if len(self.line) > 64 or self.line[:1] not in (b"$", b""):
            raise DissectError("no snapshot where one was announced")
        if found < 0:
            return -1
        value = self.line[1:].rstrip(b"\r\n")
        self.line = b""
        if value.startswith(b"EOF:") and len(value) == MARK + 4:
            self.mark = value[4:]
        else:
            self.left = number(value, SNAPSHOT)
        return found + 1

    def counted(self, data: bytes, pos: int) -> int:
        taken = min(self.left, len(data) - pos)
        self.left -= taken
        return -1 if self.left else pos + taken

    def marked(self, data: bytes, pos: int) -> int:
        """The mark may be cut by the border of two chunks."""
        joint = self.recent + data[pos : pos + MARK]
        found = joint.find(self.mark)
        if found >= 0:
            end = pos + found + MARK - len(self.recent)
            self.reset()
            return end
        found = data.find(self.mark, pos)
        if found >= 0:
            self.reset()
            return found + MARK
        self.recent = (self.recent + data[max(pos, len(data) - MARK) :])[-MARK + 1 :]
        return -1

    def open(self) -> bool:
        """Within the file itself."""
        return bool(self.left or self.mark)

    def skip(self, missing: int) -> int:
        """Lost bytes: 1 skipped, 2 and they end the snapshot, 0 cannot tell."""
        if self.mark:
            self.recent = b""
            return 1
        if not 0 < missing <= self.left:
            return 0
        self.left -= missing
        return 1 if self.left else 2
