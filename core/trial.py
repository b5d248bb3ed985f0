"""A dissector that a person tries (``kshark dissect``): as strict as a capture, but it says where the mistake is.

Every call is interrupted after PATIENCE, every message is looked at by the same rules as live ones
(`kshark.given`), and what is wrong comes as a `Mistake` with the file and the line of the author's code.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import CodeType, GeneratorType
from typing import Any, Final, TypeVar

from kshark import limits
from kshark._spec_checks import misfit
from kshark.api import (
    Details,
    DissectError,
    Framed,
    Item,
    Layers,
    Message,
    ProtocolSpec,
    Side,
    Step,
    Switch,
)
from kshark.breaker import Overrun, interrupted, within
from kshark.explain import Trace
from kshark.faults import told
from kshark.given import Rubbish, checked, handed, listed
from kshark.render import Renderer

T = TypeVar("T")

PATIENCE: Final = limits.SECOND
"""ns that one call may take. Live it is BREAKER_FEED, by a clock that a busy machine does not move."""


STDLIB: Final = sysconfig.get_path("stdlib") + os.sep


class Mistake(Exception):
    """What the author did wrong, in a sentence, with the place."""


class Trial:
    """One dissector, from the moment it is made."""

    def __init__(self, make: Callable[[], Any], explain: bool) -> None:
        self.dissector: Any = self._call(make)
        self.trace: Trace | None = None
        if isinstance(self.dissector, Framed):
            self.trace = Trace(self.dissector, look, keep=explain)

    def introduce(self, after: Switch | None, layers: Layers | None) -> None:
        """What handed the flow over, and who rides in the exchanges, if it wants to know."""
        if after is not None and (switched := getattr(self.dissector, "switched", None)):
            self._call(switched, after)
        if layers is not None and (carry := getattr(self.dissector, "carry", None)):
            self._call(carry, layers)

    def feed(self, side: Side, data: bytes) -> Iterator[Item]:
        """What the dissector says of the next bytes."""
        return self._ask("feed", side, data)

    def gap(self, side: Side, missing: int) -> Iterator[Item]:
        """What it says of a hole."""
        return self._ask("gap", side, missing)

    def close(self) -> Iterator[Item]:
        """What it says at the end."""
        return self._ask("close")

    def details(self, spec: ProtocolSpec, message: Message, renderer: Renderer) -> Details | None:
        """The typed details of a message, as this renderer gives them."""
        if spec.details is None:
            return None
        given = self._call(spec.details, message)
        if isinstance(given, Details) and (wrong := misfit(given)):
            raise Mistake(f"details(): {wrong}")
        return self._call(renderer.details, message, spec.name)

    def _ask(self, name: str, *arguments: Any) -> Iterator[Item]:
        found = self._call(lambda: listed(getattr(self.dissector, name)(*arguments)))
        while (one := self._call(next, found, None)) is not None:
            try:
                yield sound(one)
            except Rubbish as error:
                raise Mistake(f"{error}{_waiting(found)}") from error

    def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            with within(PATIENCE):
                return function(*arguments)
        except (DissectError, Mistake):
            raise
        except BaseException as error:
            if interrupted(error):
                raise
            what = str(error) if isinstance(error, Overrun | Rubbish) else told(error)
            raise Mistake(f"{what}{_place(error)}") from error


def sound(one: object) -> Item:
    """A message as the engine would take it over, or a hand-over; `Rubbish` where it is neither."""
    return checked(one) if isinstance(one, Message) else handed(one)


def look(generator: object, want: Step | None, parse: Any) -> None:
    """What a `Framed.parse` is about to yield."""
    of = type(parse.__self__).__name__
    if not isinstance(generator, Generator):  # a compiled one is of another type
        what = f"{of}.parse() gives {type(generator).__name__}, not a generator"
        raise Mistake(f"{what}: there is no yield in it{_at(parse.__code__)}")
    try:
        if isinstance(want, Message):
            checked(want)
        elif not isinstance(want, Step):
            what = f"{of}.parse() yielded {type(want).__name__}"
            raise Rubbish(f"{what}, not int, bytes, Take, Message, Switch or Inner")
    except Rubbish as error:
        raise Mistake(f"{error}{_waiting(generator)}") from error


def _at(code: CodeType, line: int = 0) -> str:
    return f" ({Path(code.co_filename).name} line {line or code.co_firstlineno})"


def _waiting(generator: Any) -> str:
    """The line at which a generator of the author's waits, if that is what it is."""
    while isinstance(getattr(generator, "gi_yieldfrom", None), GeneratorType):
        generator = generator.gi_yieldfrom
    frame = getattr(generator, "gi_frame", None)
    if frame is None or str(frame.f_globals.get("__name__", "")).startswith("kshark."):
        return ""
    return _at(frame.f_code, frame.f_lineno)


def _place(error: BaseException) -> str:
    """The innermost line that is the author's: neither kshark's own nor the standard library's."""
    found, trace = "", error.__traceback__
    while trace is not None:
        code, name = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__", ""))
        library = code.co_filename.startswith(STDLIB) and "-packages" not in code.co_filename
        if not (name.startswith("kshark.") or library or code.co_filename.startswith("<")):
            found = _at(code, trace.tb_lineno)
        trace = trace.tb_next
    return found
