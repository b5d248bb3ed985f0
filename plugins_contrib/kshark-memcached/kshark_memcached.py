"""memcached's text protocol, as `Framed`: one generator for each side.

Written from https://github.com/memcached/memcached/blob/master/doc/protocol.txt: storage commands
carry a data block, answers are in order, ``noreply`` has none.
"""

from typing import Annotated

from kshark.api import Details, DissectError, Framed, Kind, Message, ProtocolSpec, Redact, Side, Take, doc, hookimpl

STORAGE = set(b"set add replace append prepend cas".split())
OTHER = set(b"get gets gat gats delete incr decr touch stats version flush_all verbosity quit".split())
FAILED = set(b"ERROR CLIENT_ERROR SERVER_ERROR".split())
ANSWERS = FAILED | set(b"STORED NOT_STORED EXISTS NOT_FOUND DELETED TOUCHED OK VERSION RESET".split())
LONGEST = 1 << 30  # bytes of an item; memcached's own bound is 1 MiB unless -I says otherwise


def number(word):
    if not word.isdigit() or int(word[:12]) > LONGEST:
        raise DissectError(f"no size: {word[:20]!r}")
    return int(word)


def text(data):
    return data.decode("utf-8", "replace")


class Memcached(Framed):
    def parse(self, side):
        while True:
            yield from self.command() if side == Side.CLIENT else self.answer()

    def command(self):
        line = yield b"\r\n"
        words = line.split()
        verb, body, size = words[0] if words else b"", b"", 0
        if verb in STORAGE and len(words) >= 5:
            size = number(words[4])
            body = yield Take(size)
            if (yield 2) != b"\r\n":
                raise DissectError("a data block does not end where it should")
        elif verb not in OTHER:
            raise DissectError(f"no command: {verb[:20]!r}")
        silent = words[-1] == b"noreply" or verb == b"quit"
        kind = Kind.ONEWAY if silent else Kind.REQUEST
        target = text(words[1]) if len(words) > 1 else ""
        yield Message(kind, text(verb), target, head=line, body=body, truncated=len(body) < size)

    def answer(self):
        line = head = yield b"\r\n"
        body, size = b"", 0
        while line.startswith((b"VALUE ", b"STAT ")):
            if line.startswith(b"VALUE "):
                words = line.split()
                size = number(words[3]) if len(words) > 3 else 0
                body = yield Take(size)
                if (yield 2) != b"\r\n":
                    raise DissectError("a value does not end where it should")
            line = yield b"\r\n"
            if not line.startswith((b"VALUE ", b"STAT ", b"END")):
                raise DissectError("no END")
        word = head.split(maxsplit=1)[0] if head.split() else b""
        if word not in ANSWERS | {b"VALUE", b"STAT", b"END"} and not word.isdigit():
            raise DissectError(f"no answer: {word[:20]!r}")
        failed = word in FAILED
        cut = len(body) < size
        error = text(head.strip()) if failed else ""
        yield Message(Kind.RESPONSE, text(word), error, ok=not failed, head=head, body=body, truncated=cut)

    def resync(self, side, data):
        known = STORAGE | OTHER if side == Side.CLIENT else ANSWERS | {b"VALUE"}
        at = data.find(b"\r\n") + 2
        while at > 1:  # a line that begins with a word of ours; END may end what was lost
            if data[at : at + 16].replace(b"\r", b" ").split(b" ")[0] in known:
                return at
            at = data.find(b"\r\n", at) + 2
        return -1


class Request(Details):
    command: Annotated[str, doc("Command", otel="db.operation.name")] = ""
    keys: Annotated[list[str], doc("Keys")] = []
    value: Annotated[str, doc("What is stored", redact=Redact.VALUE)] = ""


class Response(Details):
    result: Annotated[str, doc("First word of the answer; END: nothing was found")] = ""
    key: Annotated[str | None, doc("First key that was found")] = None
    value: Annotated[str, doc("The last value of the answer", redact=Redact.VALUE)] = ""


def details(message):
    words = [text(word) for word in message.head.split()]
    if message.kind == Kind.RESPONSE:
        key = words[1] if message.verb == "VALUE" and len(words) > 1 else None
        return Response(result=message.verb, key=key, value=text(message.body))
    many = message.verb in ("get", "gets")
    return Request(command=message.verb, keys=words[1:] if many else words[1:2], value=text(message.body))


@hookimpl
def register_protocols():
    spec = ProtocolSpec(
        name="memcached", doc="memcached's text protocol", dissector=Memcached, ports=(11211,),
        magic=(*(word + b" " for word in sorted(STORAGE | OTHER - {b"version", b"quit"})), b"stats\r\n"),
        replies=(b"STORED\r\n", b"VALUE ", b"NOT_FOUND\r\n", b"END\r\n"),
        request=Request, response=Response, details=details,
    )  # fmt: skip
    return [spec]
