"""A dissector that does not come back fails its tests, with the input and the line; it holds nobody up."""

from __future__ import annotations

from time import monotonic

import pytest

from kshark.api import Details, DissectError, Framed, Kind, Message, ProtocolSpec, Side
from kshark.testing import LawBroken, assert_dissector, check_laws, converse, messages, play, rows

C, S = Side.CLIENT, Side.SERVER
TALK = [(C, b"a\n"), (S, b"b\n")]


class Spin(Framed):
    """Turns for ever at an empty line."""

    def parse(self, side):  # type: ignore[no-untyped-def]
        while True:
            line = yield b"\n"
            while line == b"\n":
                side = S
            yield Message(Kind(1 + side), line.decode("latin-1").strip())


SPIN = ProtocolSpec(name="spin", dissector=Spin, magic=(b"a",))


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "PATIENCE", 0.3)


@pytest.mark.parametrize("run", [check_laws, assert_dissector])
def test_the_laws_end(run) -> None:  # type: ignore[no-untyped-def]
    began = monotonic()
    with pytest.raises(
        LawBroken, match=r"'garbage' .* did not come back, at .*test_stuck.py:\d+"
    ) as told:
        run(SPIN, TALK)
    assert "from client b'" in str(told.value) or "from server b'" in str(told.value)
    assert monotonic() - began < 30


@pytest.mark.parametrize(
    "run", [lambda talk: converse(SPIN, talk), lambda talk: messages(Spin(), talk)]
)
def test_a_conversation_ends(run) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AssertionError, match=r"did not come back, at .*:\d+, .* client b'a\\n\\n'"):
        run([(C, b"a\n\n")])


def test_details_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from kshark.testing import _case

    class Text(Details):
        pass

    class Line(Framed):
        def parse(self, side):  # type: ignore[no-untyped-def]
            while True:
                line = yield b"\n"
                yield Message(Kind(1 + side), line.decode("latin-1").strip())

    def details(message: Message) -> Text:
        while message.verb == "b":
            pass
        return Text()

    monkeypatch.setattr(_case, "PATIENCE", 0.3)
    spec = ProtocolSpec(name="line", dissector=Line, details=details, request=Text, response=Text)
    with pytest.raises(LawBroken, match=r"details\(\) did not come back, at .*test_stuck.py:\d+"):
        check_laws(spec, TALK)


class Early(Framed):
    """Refuses its second line."""

    def parse(self, side):  # type: ignore[no-untyped-def]
        while True:
            line = yield b"\n"
            if line == b"BAD\n":
                raise DissectError("bad")
            yield Message(Kind.ONEWAY, line.decode("latin-1").strip())


def test_a_conversation_with_an_early_error_is_not_dissected_twice() -> None:
    """Who says which protocol it is (`converse`, --assume) is not asked again."""
    spec = ProtocolSpec(name="early", dissector=Early, magic=(b"A",))
    talk = [(C, b"A\n"), (C, b"BAD\n"), (C, b"B\n")]
    assert rows(converse(spec, talk)) == ["A -> - [ok]"]
