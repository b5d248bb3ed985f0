"""The files of a new plugin: what ``kshark new-plugin`` writes. ``@NAME@`` and the like are filled in."""

from __future__ import annotations

from typing import Final

PYPROJECT: Final = """\
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "kshark-@NAME@"
version = "0.1"
description = "@NAME@ for kshark"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["kshark@EXTRA@"]

[project.optional-dependencies]
test = ["kshark[testing]"]

[project.entry-points.kshark]
@NAME@ = "@MODULE@"

[tool.setuptools]
py-modules = ["@MODULE@"]

[tool.pytest.ini_options]
addopts = "-p kshark.testing.pytest_plugin"
pythonpath = ["."]
testpaths = ["tests"]
"""

README: Final = """\
# kshark-@NAME@

@NAME@ as a protocol of [kshark](https://pypi.org/project/kshark/): requests with their responses,
live and from capture files.

```sh
pip install .
kshark plugins                                  # is it there?
kshark run@ASSUME@
kshark run --read capture.pcap@ASSUME@
```

## Work on it

```sh
pip install -e '.[test]'
pytest                                          # cases, laws, a little fuzzing
pytest --kshark-update                          # take what comes out now for what is expected
kshark dissect --plugin @MODULE@.py --protocol @NAME@ --hex --explain --watch < tests/cases/@CASE@.txt
kshark fuzz --plugin @MODULE@.py --protocol @NAME@ --seeds tests/cases --seconds 60
```

A case is a text file in `tests/cases`: `>` the client's bytes, `<` the server's, `=` the entries that must
come of them.
@STATE@"""

WORKFLOW: Final = """\
name: test
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-latest
    strategy:
      matrix:
        python: ["3.11", "3.12", "3.13"]
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "${{ matrix.python }}"}
      - run: pip install '.[test]'
      - run: pytest
"""

IGNORE: Final = (
    "__pycache__/\n*.egg-info/\n.hypothesis/\n.pytest_cache/\nbuild/\ndist/\nkshark-crashes/\n"
)

TESTS: Final = '''\
"""Every case gives its entries, and keeps the laws: see `kshark.testing.LAWS`."""

from pathlib import Path

import pytest

from kshark.testing import assert_dissector, assert_harmless, cases
from @MODULE@ import SPEC

RECOGNISED = False  # True once magic or probe tell it by its bytes: until then users say --assume PORT=@NAME@


@pytest.mark.parametrize("case", cases(Path(__file__).parent / "cases"), ids=str)
def test_case(case):
    if case.rows:
        assert_dissector(SPEC, case, recognised=RECOGNISED)
    else:
        assert_harmless(SPEC, case)  # nothing is expected of it yet
'''

LINE: Final = '''\
"""@NAME@: lines of text, requests from the client, responses from the server."""

from typing import Annotated

from kshark.api import Details, DissectError, Framed, Kind, Message, ProtocolSpec, Side, Verdict, doc, hookimpl

END = @END@


class @CLASS@(Framed):
    """One generator for each side: `yield END` gives all up to and with it."""

    def parse(self, side):
        while True:
            line = yield END
            text = line.decode("utf-8", "replace").strip()
            if not text.isprintable():
                raise DissectError("not a line of text")
            verb, _, rest = text.partition(" ")
            if side == Side.CLIENT:
                yield Message(Kind.REQUEST, verb=verb, target=rest, body=line)
            else:
                failed = "ERR" in verb.upper()
                yield Message(Kind.RESPONSE, verb=verb, target=rest if failed else "", ok=not failed, body=line)

    def resync(self, side, data):
        """After a gap: the next line begins behind the next line end."""
        return data.find(END) + len(END) if END in data else -1


class @CLASS@Request(Details):
    verb: Annotated[str, doc("The first word")] = ""
    arguments: Annotated[str, doc("What follows it")] = ""


class @CLASS@Response(Details):
    text: Annotated[str, doc("The line")] = ""


def details(message):
    """The typed fields, made when somebody asks: for filters, JSON, the detail tree."""
    text = message.body.decode("utf-8", "replace").strip()
    if message.kind == Kind.RESPONSE:
        return @CLASS@Response(text=text)
    verb, _, rest = text.partition(" ")
    return @CLASS@Request(verb=verb, arguments=rest)


def probe(data, side):
    """Is this @NAME@? Asked for the first bytes of each side, where no magic decides."""
    if not data:
        return Verdict.MORE  # cannot tell yet
    return Verdict.NO  # fill in: LIKELY or CERTAIN for what no other protocol says


SPEC = ProtocolSpec(
    name="@NAME@",
    doc="@NAME@ over TCP",
    dissector=@CLASS@,
    magic=(),  # how a client begins, such as (b"HELLO ",)
    probe=probe,
    ports=@PORTS@,  # a hint that breaks ties between probes
    request=@CLASS@Request,
    response=@CLASS@Response,
    details=details,
)


@hookimpl
def register_protocols():
    return [SPEC]
'''

BINARY: Final = '''\
"""@NAME@: messages with their length in front, requests from the client, responses from the server."""

from typing import Annotated

from kshark.api import Details, DissectError, Framed, Kind, Message, ProtocolSpec, Side, Take, Verdict, doc, hookimpl

HEAD = @HEAD@  # bytes up to and with the length
LONGEST = 16 * 1024 * 1024  # a longer message is none


class @CLASS@(Framed):
    """One generator for each side: `yield 4` gives four bytes, `yield Take(n)` a body of any length."""

    def parse(self, side):
        while True:
            head = yield HEAD
            size = int.from_bytes(head[@AT@:@HEAD@], "@ENDIAN@") + @ADJUST@  # of the whole message
            if not HEAD <= size <= LONGEST:
                raise DissectError(f"no message has {size} bytes")
            operation = yield min(1, size - HEAD)  # by itself: a body may have holes
            body = yield Take(size - HEAD - len(operation))
            yield Message(
                Kind.REQUEST if side == Side.CLIENT else Kind.RESPONSE,
                verb=f"op{operation[0]}" if operation else "empty",
                head=head + operation,
                body=body,
                truncated=HEAD + len(operation) + len(body) < size,
            )


class @CLASS@Message(Details):
    operation: Annotated[int, doc("The first byte behind the length")] = 0
    payload: Annotated[str, doc("What follows it, in hex digits")] = ""


def details(message):
    """The typed fields, made when somebody asks: for filters, JSON, the detail tree."""
    operation = message.head[HEAD] if len(message.head) > HEAD else 0
    return @CLASS@Message(operation=operation, payload=message.body.hex())


def probe(data, side):
    """Is this @NAME@? Asked for the first bytes of each side, where no magic decides."""
    if not data:
        return Verdict.MORE  # cannot tell yet
    return Verdict.NO  # fill in: LIKELY or CERTAIN for what no other protocol says


SPEC = ProtocolSpec(
    name="@NAME@",
    doc="@NAME@ over TCP",
    dissector=@CLASS@,
    magic=(),  # how a client begins, such as (b"\\x00\\x01",)
    probe=probe,
    ports=@PORTS@,  # a hint that breaks ties between probes
    request=@CLASS@Message,
    response=@CLASS@Message,
    details=details,
)


@hookimpl
def register_protocols():
    return [SPEC]
'''

CONSTRUCT: Final = '''\
"""@NAME@: a grammar. The framer finds whole messages, the struct says what is in them."""

from construct import Bytes, GreedyBytes, @INT@, Int8ub, Struct

from kshark.api import hookimpl
from kshark.grammar import Grammar, LengthPrefix

Packet = Struct(
@BEFORE@    "length" / @INT@ * "Length, as the framer reads it",
    "operation" / Int8ub * "What is asked",
    "payload" / GreedyBytes * "What follows",
)

GRAMMAR = Grammar(
    "@NAME@",
    Packet,
    LengthPrefix(@WIDTH@, at=@AT@, endian="@ENDIAN@", adjust=@ADJUST@),  # the message has so many bytes more
    verb=lambda m: f"op{m.operation}",
)
SPEC = GRAMMAR.spec(
    doc="@NAME@ over TCP",
    magic=(),  # how a client begins, such as (b"\\x00\\x01",): without it, say --assume PORT=@NAME@
    ports=@PORTS@,  # a hint that breaks ties between probes
)


@hookimpl
def register_protocols():
    return [SPEC]
'''
