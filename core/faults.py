"""What plugins do wrong: in short for the ledger, in one line for the user, said once a plugin and kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kshark import limits
from kshark.api import PluginError
from kshark.breaker import Charge, Overrun, interrupted
from kshark.given import Rubbish

SHORT: Final[dict[type[BaseException], str]] = {Overrun: "too long a call", Rubbish: "rubbish"}
"""What the ledger says of errors that are our own findings."""


class Raised(Exception):
    """What a plugin raised that is no `Exception` (SystemExit, an `Overrun`); its text is what to say."""


def kind_of(error: BaseException) -> str:
    """What it was, without any text of the plugin's: that may quote what was read."""
    return SHORT.get(type(error), type(error).__name__)


def shown(error: BaseException) -> str:
    """The same where there is room for our own findings' texts."""
    return str(error) if isinstance(error, Raised | Rubbish | Overrun) else type(error).__name__


def line(who: str, where: str, error: BaseException, outcome: str) -> str:
    """What was done wrong by whom, what becomes of it, and the place."""
    what = shown(error) + ("" if type(error) in SHORT else f" in {where}")
    at = "" if type(error) is Rubbish else f": {place(error)}"
    return f"{who}: {what}; {outcome}{at}"


def place(error: BaseException) -> str:
    """Where in the plugin: file and line, never the bytes. The innermost frame that is not ours, if any."""
    found, trace = "no place known", error.__traceback__
    ours = True
    while trace is not None:
        code = trace.tb_frame.f_code
        inside = str(trace.tb_frame.f_globals.get("__name__", "")).startswith("kshark.")
        if ours or not inside:
            found, ours = f"{code.co_filename}:{trace.tb_lineno}", inside
        trace = trace.tb_next
    return found


def told(error: BaseException | None) -> str:
    """An exception in one line, with its text, for a user. The text is the plugin's: it may fail to be one."""
    try:
        text = str(error).strip()
    except BaseException:
        text = ""
    if isinstance(error, PluginError | Raised | Overrun):
        return text or type(error).__name__
    first = (text.splitlines() or [""])[0][: limits.LINE]
    return f"{type(error).__name__}: {first}".rstrip(": ")


class Faults:
    """Those of one run, outside of its engines."""

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        self.say = say
        self.counts: dict[str, int] = {}

    def blame(self, who: str, where: str, error: BaseException, outcome: str) -> str:
        """Count it, and say it the first time; gives it in short. Raises what is not the plugin's."""
        kind = kind_of(error)
        name = f"{who}: {kind} in {where}"
        if name not in self.counts and len(self.counts) < limits.REASONS:
            self.counts[name] = 0
            self.say(line(who, where, error, outcome))
        if name in self.counts:
            self.counts[name] += 1
        return kind


def others(error: BaseException, charge: Charge) -> bool:
    """Whether an exception that comes out of a plugin's call is none of its doing."""
    if isinstance(error, Overrun) and error.charge is not charge:
        return True  # of whoever called this one
    return interrupted(error)
