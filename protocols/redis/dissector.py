"""Redis: RESP2, RESP3, inline commands, pub/sub, MONITOR, CLIENT REPLY, replication.

Invariant: one RESPONSE a REQUEST, in order, so that the engine can pair them by order. What is never answered
(CLIENT REPLY OFF, REPLCONF ACK) and what nobody asked for (messages, invalidations, further confirmations of
one SUBSCRIBE, MONITOR's stream, a master's commands) is ONEWAY.

To tell these apart it counts commands and replies, and remembers the few commands whose answer is unlike
others (`Due`). After a hole that broke the framing the counts start again at zero: what then comes while no
command is known to wait is judged by its content alone.

Limits: heads are kept up to BODY_KEPT, everything else is counted (`kshark.protocols.redis.resp`);
DUE commands in `due`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kshark import limits
from kshark._pure import pure
from kshark.api import DissectError, Kind, Message, NotMine, Side

from .commands import COMMANDS, Act, Command, secrets
from .commands import known as is_known
from .identify import CONFIRMED, MONITORED, PUSHES, Search, shared
from .replication import Snapshot
from .words import TEXT, count, described, failure, placed, split, strings, text, words

if TYPE_CHECKING or pure(__name__):
    from .resp import Commands, Replies, command, reply
else:
    try:
        from ._resp import Commands, Replies, command, reply
    except ImportError:
        from .resp import Commands, Replies, command, reply

REQUEST = int(Kind.REQUEST)
RESPONSE = int(Kind.RESPONSE)
ONEWAY = int(Kind.ONEWAY)
KEPT = limits.BODY_KEPT
DUE = 128  # commands with an unusual answer that are remembered; each is rare
ORPHAN = 0  # a response, but not to the command whose turn it is ...
NOBODY = -1  # ... so its pairing key is one that no request has
PLAIN = int(Act.PLAIN)
SLIM = 1024  # bytes kept of a message under way when memory is short: what a row shows
NAME = 64  # characters of a command's name in a row
FEW = 16  # words in which a key is looked for
SKIP, OFF = 2, 3  # CLIENT REPLY: so many commands are not answered; none is

KNOWN = COMMANDS
COMMAND = "command"  # Message.extra of a one-way message that is a command
SNAPSHOT = "snapshot"  # ... or of a snapshot
NOTHING: tuple[str, ...] = ()
NESTED = ("nested-error",)
RESYNC = "resync"

STAR, DOLLAR, PUSH, PLUS, PIPE, LF = b"*$>+|\n"
FAILED = b"-!"
VERBS: dict[int, str] = {
    36: "bulk",
    40: "bignum",
    42: "array",
    44: "double",
    58: "int",
    35: "bool",
    37: "map",
    61: "verbatim",
    62: "push",
    95: "nil",
    126: "set",
}
STATUS = {b"+OK\r\n": "OK", b"+QUEUED\r\n": "QUEUED", b"+PONG\r\n": "PONG", b"+RESET\r\n": "RESET"}
SHARD = 2
TOPICS = {  # kind of subscription, and whether this ends one
    b"subscribe": (0, False),
    b"unsubscribe": (0, True),
    b"psubscribe": (1, False),
    b"punsubscribe": (1, True),
    b"ssubscribe": (SHARD, False),
    b"sunsubscribe": (SHARD, True),
}
WORD = re.compile(rb"[A-Za-z_][-\w.|:]{0,127}")


class Due:
    """A command that waits and whose answer is special: the how-manieth command it is, and what it does."""

    def __init__(self, index: int, act: int, verb: str, count: int) -> None:
        self.index = index
        self.act = act
        self.verb = verb
        self.count = count  # of its arguments
        self.misses = 0  # replies that cannot be its own


class Half:
    """One side: its framing, and the message under way."""

    def __init__(self, scan: Commands | Replies | Snapshot) -> None:
        self.scan: Any = scan
        self.began = False  # a message was seen
        self.search: Search | None = None  # framing is lost
        self.fault: DissectError | None = None  # to be raised by the next feed
        self.fresh()

    def fresh(self) -> None:
        """No message is under way."""
        self.held = bytearray()
        self.size = 0  # bytes of it, held or not
        self.skipped = 0  # bytes of nothing (empty lines) before it
        self.gap = 0  # bytes lost in it
        self.resync = False  # bytes that fit nowhere were passed over before it
        self.intact = False  # the last hole ended a message exactly
        self.slim = False  # no more of it is kept

    def hold(self, data: bytes, pos: int, end: int) -> None:
        """These bytes belong to a message of which more is, or was, in another chunk."""
        self.size += end - pos
        if len(self.held) < KEPT and not self.gap and not self.slim:
            self.held += data[pos : min(end, pos + KEPT - len(self.held))]


class RedisDissector:
    """A `kshark.api.Dissector`."""

    def __init__(self) -> None:
        self.answers = Replies()
        self.client = Half(Commands())
        self.server = Half(self.answers)
        self.out: list[Message] = []
        self.at = 0  # where the message under way began in the chunk at hand
        self.sent = 0  # commands to be answered
        self.answered = 0
        self.due: list[Due] = []  # at most DUE
        self.more = 0  # further confirmations of the last SUBSCRIBE
        self.channels = [0, 0, 0]  # channels, patterns, shards
        self.totals = [0, 0]  # as the server counts: channels and patterns, shards
        self.subscribed = False  # RESP2: messages come as plain arrays
        self.monitor = False
        self.stream = False  # the server is a master and sends commands to its replica
        self.mute = 0  # OFF, or the number of commands that are not answered
        self.multi = False  # commands are queued
        self.calm = True  # none of what changes the meaning of replies
        self.last: Any = None
        self.back: list[Message] | None = None  # what POP3 and NATS say too, until a Redis is sure

    # ------------------------------------------------------------ contract

    def feed(self, side: Side, data: bytes) -> list[Message]:
        """The next bytes of one side."""
        half = self.server if side else self.client
        out: list[Message] = []
        self.out = out
        half.intact = False
        if half.search is not None:
            data = self.searched(half, half.search, data)
        elif not side and self.server.search is not None:
            self.server.search.turn = True
        try:
            if side:
                self.replies(half, data)
            else:
                self.commands(half, data, 0)
        except DissectError as error:
            self.failed(half, error, data)
        return out

    def gap(self, side: Side, missing: int) -> list[Message]:
        """Bytes of one side are lost: skipped within a string, else framing starts again."""
        half = self.server if side else self.client
        out: list[Message] = []
        self.out = out
        skipped = half.scan.skip(missing) if half.search is None else 0
        if skipped:
            half.gap += missing
            if skipped == 2:
                self.whole(half, bytes(half.held))
                half.intact = True
            return out
        if half.search is not None:
            half.search.hole(missing)
        elif half.size:
            half.gap += missing
            self.cut(half)
        self.lose(half)
        return out

    def inside(self, side: Side) -> bool:
        """Within a message whose extent is known."""
        half = self.server if side else self.client
        return half.search is None and (half.intact or bool(half.scan.open()))

    def slim(self) -> int:
        """Of messages under way keep the beginning alone; the bytes that are still held."""
        for half in (self.client, self.server):
            if half.size:
                half.slim = True
                half.held = half.held[:SLIM]
        return len(self.client.held) + len(self.server.held)

    def close(self) -> list[Message]:
        """What the end cut short."""
        out: list[Message] = []
        self.out = out
        for half in (self.client, self.server):
            if half.size and half.search is None:
                self.cut(half)
                self.last.side = int(half is self.server)
        return out

    # ------------------------------------------------------------ framing

    def commands(self, half: Half, data: bytes, pos: int) -> None:
        """Commands of the client, or of a master to its replica."""
        size = len(data)
        while pos < size:
            self.at = pos
            if not half.size:
                found = command(data, pos)
                if found is not None:
                    end, name, first = found
                    head = data[pos : min(end, pos + KEPT)]
                    self.request(half, head, name, first, end - pos)
                    pos = end
                    continue
            end = half.scan.scan(data, pos)
            if end >= 0 and half.scan.inline and not half.scan.empty:
                self.plausible(half, bytes(half.held) + data[pos : min(end, pos + KEPT)])
            half.hold(data, pos, size if end < 0 else end)
            if end < 0:
                return
            pos = end
            if half.scan.empty:
                half.skipped += half.size
                half.size = 0
                half.held = bytearray()
            else:
                self.whole(half, bytes(half.held))

    def replies(self, half: Half, data: bytes) -> None:
        """Replies of the server, until it turns out to be a master."""
        size = len(data)
        pos = 0
        while pos < size:
            self.at = pos
            if not self.calm and not half.size:
                pos = self.expect(half, data, pos)
                if pos >= size:
                    return
            if self.stream:
                self.commands(half, data, pos)
                return
            end = -1 if half.size or half.scan is not self.answers else reply(data, pos)
            if end < 0:
                end = half.scan.scan(data, pos)
            if half.size or end < 0:
                half.hold(data, pos, size if end < 0 else end)
                if end < 0:
                    return
                self.whole(half, bytes(half.held))
            else:
                self.reply(half, data[pos : min(end, pos + KEPT)], end - pos)
            pos = end

    def whole(self, half: Half, head: bytes) -> None:
        """A message that came in pieces, or lost some, is complete."""
        if half is self.client or self.stream:
            found = words(head, 2)
            name = found[0] if found else b""
            self.request(half, head, name, found[1] if len(found) > 1 else b"", half.size)
        else:
            self.reply(half, head, half.size)

    def emit(self, half: Half, message: Message) -> None:
        """Complete a message by what its half knows of it."""
        if half.size or half.skipped or half.gap or half.resync:
            message.size += half.skipped
            if half.resync:
                message.notes = (*message.notes, RESYNC)
            message.gap_bytes = half.gap
            message.truncated = message.truncated or half.gap > 0
            half.fresh()
        sure = half.began or self.client.began or half is self.client
        if self.back is None and (sure or not shared(message.head)):
            self.out.append(message)
        else:
            self.doubt(half, message)
        self.last = message
        half.began = True

    def doubt(self, half: Half, message: Message) -> None:
        """Joined in mid-stream at ``+OK`` or ``-ERR``, a flow says nothing until something proves a Redis."""
        message.side = int(half is self.server)
        self.back = [*(self.back or ()), message]
        if not shared(message.head) or len(self.back) > DUE:
            self.out += self.back
            self.back = None

    # ------------------------------------------------------------ commands

    def request(self, half: Half, head: bytes, name: bytes, first: bytes, size: int) -> None:
        """One command, whole."""
        known = KNOWN.get(name)
        if known is None:
            known = KNOWN.get(name.upper()) or Command(text(name.upper(), NAME))
        verb, kind = known.verb, REQUEST
        if known.act == PLAIN:
            target = label(first)
        else:
            kind, verb, target = self.special(known, half, head)
        if half is not self.client or self.mute:
            kind = ONEWAY
            if half is self.client and self.mute != OFF:
                self.mute -= 1
        message = Message(kind, verb, target, 0, True, 0, size, head, b"", size > len(head))
        if kind == REQUEST:
            self.sent += 1
        else:
            message.extra = COMMAND
        self.emit(half, message)

    def plausible(self, half: Half, line: bytes) -> None:
        """Redis takes any line for a command; here it must look like one, and the first must be known."""
        name = next(iter(words(line, 1)), b"")
        if not WORD.fullmatch(name):
            raise DissectError("not a command line")
        unsure = self.back is not None or not (half.began or self.server.began)
        if unsure and not is_known(name):
            raise NotMine("the first line is no command of Redis")

    def special(self, known: Command, half: Half, head: bytes) -> tuple[int, str, str]:
        """A command whose key is elsewhere, or that changes the connection: its kind, verb and target."""
        args = words(head, 3 if known.act > Act.CLIENT else FEW)
        act, verb = known.act, known.verb
        if act == Act.PLACED:
            return REQUEST, verb, placed(args, known.key)
        if act in (Act.CONTAINER, Act.CLIENT) and len(args) > 1:
            verb = f"{verb} {text(args[1].upper(), NAME)}"
            if act == Act.CLIENT and half is self.client and args[1].upper() == b"REPLY":
                return self.client_reply(args), verb, text(args[2]) if len(args) > 2 else ""
            return REQUEST, verb, text(args[2]) if len(args) > 2 else ""
        target = text(args[1]) if len(args) > 1 else ""
        if act == Act.SECRET:
            return REQUEST, verb, target if len(args) > 2 else ""
        if act == Act.REPLCONF and len(args) > 1 and args[1].upper() == b"ACK":
            return ONEWAY, verb, target
        if half is self.client and act >= Act.SUBSCRIBE:
            self.remember(act, verb, head)
        return REQUEST, verb, target

    def client_reply(self, args: list[bytes]) -> int:
        """CLIENT REPLY ON | OFF | SKIP: whether it is answered itself, and what comes after it."""
        mode = args[2].upper() if len(args) == 3 and not self.multi else b""
        if mode == b"OFF":
            self.mute = OFF
        elif mode == b"ON":
            self.mute = 0
        elif mode == b"SKIP" and self.mute != OFF:
            self.mute = SKIP
        self.settle()
        return REQUEST

    def remember(self, act: int, verb: str, head: bytes) -> None:
        """What a command will change, once it is answered."""
        if act == Act.MULTI:
            self.multi = True
        elif act in (Act.EXEC, Act.RESET):
            self.multi = False
            if act == Act.RESET:
                self.mute = 0
        elif not self.multi and not self.mute and act != Act.REPLCONF:
            if len(self.due) >= DUE:
                self.due.pop(0)
            self.due.append(Due(self.sent, act, verb, count(head) - 1))
        self.settle()

    # ------------------------------------------------------------ replies

    def reply(self, half: Half, head: bytes, size: int) -> None:
        """One reply or push, whole."""
        kind = head[0]
        verb, target, ok, notes = VERBS.get(kind, ""), "", True, NOTHING
        if half.scan is not self.answers:
            self.snapshot(half, head, size)
            return
        if kind == PIPE:
            at = described(head)
            value = head[at:]
            kind = value[0] if value else PIPE
            verb = VERBS.get(kind, "")
        else:
            value = head
        if kind == PLUS:
            verb = STATUS.get(value, "status")
        elif kind in FAILED:
            verb, target = failure(value)
            ok = False
        elif kind in (DOLLAR, STAR) and value[1:2] == b"-":
            verb = "nil"
        if self.answers.errors:
            self.answers.errors = False
            notes = NESTED
        key = 0
        if self.calm and self.answered < self.sent and kind != PUSH:
            self.answered += 1
            role = RESPONSE
        else:
            role, name, subject = self.judge(kind, value)
            if role == ONEWAY:
                verb, target = name or verb, subject or target
            elif role == ORPHAN:
                role, key = RESPONSE, NOBODY
        message = Message(role, verb, target, 0, ok, key, size, head, b"", size > len(head), notes)
        self.emit(half, message)

    def judge(self, kind: int, value: bytes) -> tuple[int, str, str]:
        """Whether this answers a command; else what it is and what it is about."""
        due = self.waits()
        idle = self.answered >= self.sent
        if kind == PUSH or (kind == STAR and (self.subscribed or self.more or due or idle)):
            found = strings(value, 3)
            name = found[0] if found else b""
            if name in CONFIRMED and len(found) == 3:
                return self.confirmed(kind, name, found, due), text(name), text(found[1])
            if kind == PUSH or (name in PUSHES and (self.subscribed or idle)):
                self.subscribed = self.subscribed or kind == STAR
                self.settle()
                about = found[2:] if name == b"pmessage" else found[1:2]
                return ONEWAY, text(name, NAME), text(about[0]) if about else ""
        elif kind == PLUS and (self.monitor or idle) and MONITORED.match(value):
            self.monitor = True
            self.settle()
            shown = split(value.partition(b"] ")[2], 2)
            return ONEWAY, "monitor", " ".join(map(text, shown[:1] if secrets(shown) else shown))
        if due is not None and not fits(due.act, kind, value):
            due.misses += 1
            if due.act in (Act.SYNC, Act.PSYNC):
                self.due.pop(0)
                self.follow()  # the snapshot was not seen
            elif due.misses > DUE:
                self.due.pop(0)
            return ORPHAN, "", ""
        self.answered += not idle
        if due is not None:
            self.due.pop(0)
            self.effect(due, value)
        if value == b"+RESET\r\n":
            self.subscribed = self.monitor = False
            self.channels, self.totals = [0, 0, 0], [0, 0]
        self.settle()
        return RESPONSE, "", ""

    def waits(self) -> Due | None:
        """The special command whose turn it is to be answered."""
        return self.due[0] if self.due and self.due[0].index == self.answered else None

    def effect(self, due: Due, value: bytes) -> None:
        """A special command was answered: what changes."""
        if due.act == Act.MONITOR:
            self.monitor = value == b"+OK\r\n"
        elif due.act == Act.PSYNC and value.startswith(b"+FULLRESYNC"):
            self.server.scan = Snapshot()
        elif due.act == Act.PSYNC and value.startswith((b"+CONTINUE", b"+RDBCHANNELSYNC")):
            self.follow()

    def confirmed(self, kind: int, name: bytes, found: list[bytes], due: Due | None) -> int:
        """One confirmation of a SUBSCRIBE or UNSUBSCRIBE: the first answers it, more follow by themselves."""
        topic, ends = TOPICS[name]
        total = int(found[2]) if found[2].isdigit() and len(found[2]) < 10 else 0
        before, self.totals[topic == SHARD] = self.totals[topic == SHARD], total
        if total > before and not ends:
            self.channels[topic] += 1
        elif total < before and ends:
            self.channels[topic] = max(0, self.channels[topic] - 1)
        role = ONEWAY
        if self.more:
            self.more -= 1
        elif due is not None and due.verb == name.upper().decode():
            self.due.pop(0)
            self.answered += 1
            self.more = due.count - 1 if due.count else self.channels[topic]
            role = RESPONSE
        self.subscribed = kind == STAR and any(self.totals)
        self.settle()
        return role

    def settle(self) -> None:
        """Whether replies need a second look."""
        self.calm = not (self.due or self.subscribed or self.monitor or self.more)

    # ------------------------------------------------------------ replication

    def expect(self, half: Half, data: bytes, pos: int) -> int:
        """Before a reply: pass over a master's empty lines; the answer to SYNC is a snapshot."""
        due = self.waits()
        if due is None or due.act not in (Act.SYNC, Act.PSYNC):
            return pos
        while pos < len(data) and data[pos] == LF:
            pos += 1
            half.skipped += 1
        if due.act == Act.SYNC and pos < len(data) and data[pos] == DOLLAR:
            half.scan = Snapshot()
        return pos

    def snapshot(self, half: Half, head: bytes, size: int) -> None:
        """The whole data set, to a replica."""
        due, role = self.waits(), ONEWAY
        if due is not None and due.act == Act.SYNC:
            self.due.pop(0)
            self.answered += 1
            role = RESPONSE
        message = Message(role, "RDB", size=size, head=head, truncated=size > len(head))
        message.extra = SNAPSHOT
        self.emit(half, message)
        self.follow()

    def follow(self) -> None:
        """From now on the server sends commands."""
        self.stream = True
        self.server.scan = Commands()
        self.settle()

    # ------------------------------------------------------------ loss

    def cut(self, half: Half) -> None:
        """The message under way will not be seen to its end."""
        self.whole(half, bytes(half.held))
        message = self.last
        message.cut = message.truncated = True
        if b"\r\n" not in message.head and message.extra is None and message.kind != REQUEST:
            message.verb = message.target = ""  # of what kind it is was not seen

    def lose(self, half: Half) -> None:
        """Framing is lost; so is the count of what waits, if answers are missing."""
        half.scan.reset()
        if half.search is None:
            half.search = Search(half is self.client or self.stream)
        if half is self.server:
            self.sent = self.answered = self.more = 0
            self.due.clear()
            self.settle()

    def failed(self, half: Half, error: DissectError, data: bytes) -> None:
        """The framing broke. Tell the engine, unless this side was joined within a message."""
        lost = half.size + half.skipped
        half.fresh()
        half.scan.reset()
        half.search = Search(half is self.client or self.stream, data[self.at :])
        half.search.dropped = lost
        if not half.began and half is self.server:
            waiting = min(self.sent - self.answered, DUE)
            self.out += [Message(RESPONSE, cut=True, notes=(RESYNC,)) for _ in range(waiting)]
            self.lose(half)
        elif half.began or not self.server.began or isinstance(error, NotMine):
            if not self.out:
                raise error
            half.fault = error

    def searched(self, half: Half, search: Search, data: bytes) -> bytes:
        """What comes once framing is found again."""
        if half.fault is not None:
            error, half.fault = half.fault, None
            search.kept += data
            raise error
        found = search.feed(data)
        if found is None:
            return b""
        self.passed(half, search.dropped)
        half.search = None
        half.scan.reset()
        return found

    def passed(self, half: Half, size: int) -> None:
        """Bytes that belong to no message count with the next one, which says so."""
        half.fresh()
        half.skipped = size
        half.resync = True


def fits(act: int, kind: int, value: bytes) -> bool:
    """Whether a special command may be answered so (confirmations and snapshots apart)."""
    if kind in FAILED:
        return True
    if act == Act.MONITOR:
        return value == b"+OK\r\n"
    return act == Act.PSYNC and kind == PLUS


def label(raw: bytes) -> str:
    """`text` of what is usually short and plain."""
    if len(raw) > TEXT:
        return text(raw)
    try:
        found = raw.decode()
    except UnicodeDecodeError:
        return text(raw)
    return found if found.isprintable() else text(raw)
