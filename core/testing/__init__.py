"""The kit for authors of dissectors, and for kshark's own tests.

    >>> from kshark.api import Framed, Kind, Message, ProtocolSpec, Side
    >>> from kshark.testing import check_laws
    >>> class Line(Framed):
    ...     def parse(self, side):
    ...         while True:
    ...             line = yield b"\\n"
    ...             yield Message(Kind(1 + side), verb=line.decode("latin-1").strip())
    >>> check_laws(
    ...     ProtocolSpec(name="line", dissector=Line),
    ...     [(Side.CLIENT, b"ping\\n"), (Side.SERVER, b"pong\\n")],
    ...     ["ping -> pong [ok]"],
    ...     examples=3,
    ... )

`replay` runs a capture file, `converse` a conversation through the engine, `messages` a conversation
through a dissector alone; `shown` is an entry's JSON as sinks get it, redacted. `check_laws` holds a dissector to
everything that kshark relies on, and `assert_dissector` is that and more, for the CI of a plugin.
`cases` reads conversations from text files.
`cuts`, `mutations`, `garbage` and `conversations` are hypothesis strategies, and so are `length_prefixed`,
`delimited`, `tlv`, `varint` and `varint_prefixed` for the bytes of messages.
"""

from kshark.testing._case import LawBroken
from kshark.testing._cases import case, cases
from kshark.testing.accept import assert_dissector, assert_harmless
from kshark.testing.framing import delimited, length_prefixed, tlv, varint, varint_prefixed
from kshark.testing.laws import LAWS, check_laws
from kshark.testing.play import Conversation, Piece, converse, messages, replay, rows, shown
from kshark.testing.strategies import conversations, cuts, garbage, mutations

__all__ = [
    "LAWS",
    "Conversation",
    "LawBroken",
    "Piece",
    "assert_dissector",
    "assert_harmless",
    "case",
    "cases",
    "check_laws",
    "conversations",
    "converse",
    "cuts",
    "delimited",
    "garbage",
    "length_prefixed",
    "messages",
    "mutations",
    "replay",
    "rows",
    "shown",
    "tlv",
    "varint",
    "varint_prefixed",
]
