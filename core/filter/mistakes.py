"""What is wrong with a filter, in a user's words: the library's problems, and what was probably meant.

People write filters in the language that they know: Wireshark's, SQL, Python, tcpdump. Each message says what is
wrong at the place of the caret, and after a semicolon how it is written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import Final

from kshark import limits
from kshark.filter.fields import HALVES, Field
from kshark.filter.literals import TIMES, Wrong

FUNCTIONS: Final[Mapping[str, str]] = {
    "slow": "slow(100), slow(1.5s)", "has": "has(src.name)", "size": "size(request.target) > 100",
    "contains": 'request.target.contains("/cart")', "startsWith": 'src.ip.startsWith("10.")',
    "endsWith": 'request.target.endsWith(".png")', "matches": 'request.target.matches("^/api/")',
    "lowerAscii": 'request.verb.lowerAscii() == "get"', "upperAscii": 'request.verb.upperAscii() == "GET"',
    "exists": 'notes.exists(n, n == "late")', "exists_one": 'notes.exists_one(n, n == "late")',
    "all": 'notes.all(n, n != "late")', "filter": 'size(notes.filter(n, n != "late")) > 1',
    "map": 'notes.map(n, n.size()) == [4]', "int": 'int("7") == 7', "double": "double(response.status) > 499.5",
    "string": 'string(response.status).startsWith("5")', "dyn": "dyn(response.status) == 500",
}  # fmt: skip
"""What may be called, each with an example; ``kshark.filter.emit`` says how each is compiled."""

MEANT: Final[Mapping[str, str]] = {
    "len": "size", "length": "size", "count": "size", "lower": "lowerAscii", "tolower": "lowerAscii",
    "tolowercase": "lowerAscii", "upper": "upperAscii", "toupper": "upperAscii", "touppercase": "upperAscii",
    "includes": "contains", "like": "contains", "regex": "matches", "match": "matches", "search": "matches",
    "any": "exists", "some": "exists", "every": "all", "isset": "has", "defined": "has", "str": "string",
    "float": "double",
}  # fmt: skip
"""Functions of other languages."""

ALIASES: Final[Mapping[str, str]] = {
    "ip.src": "src.ip", "ip.dst": "dst.ip", "ip.addr": "src.ip", "client": "src.ip", "source": "src.ip",
    "client.ip": "src.ip", "server": "dst.ip", "server.ip": "dst.ip", "destination": "dst.ip",
    "tcp.srcport": "src.port", "tcp.dstport": "dst.port", "udp.port": "dst.port", "frame.time": "time",
    "http.response.code": "response.status", "status_code": "response.status", "code": "response.status",
    "statuscode": "response.status", "url": "request.target", "uri": "request.target", "path": "request.target",
    "http.request.uri": "request.target", "command": "request.verb", "verb": "request.verb",
    "http.user_agent": "http.request.user_agent", "bytes": "response.size", "elapsed": "latency",
}  # fmt: skip
"""Fields of other languages."""

WORDS: Final[Mapping[str, str]] = {
    "bool": "yes/no",
    "int": "a number",
    "uint": "an unsigned number",
    "double": "a decimal number",
    "string": "text",
    "bytes": "bytes",
    "null_type": "null",
    "dyn": "any value",
}
OPERATORS: Final[Mapping[str, str]] = {
    "and": "and is written &&", "or": "or is written ||", "not": "not is written !",
    "&": "and is written &&", "|": "or is written ||", "=": "equality is written ==",
    "=~": 'a regular expression is written field.matches("...")',
    "~": 'a regular expression is written field.matches("...")',
    "!~": 'this is written !field.matches("...")',
    "exists": "this is written has(field)", "present": "this is written has(field)", "<>": "not equal is written !=",
    "like": 'this is written field.contains("...")', "is": "equality is written ==", "===": "equality is written ==",
    "!==": "not equal is written !=", "=>": "at least is written >=", "=<": "at most is written <=",
    "eq": "equality is written ==", "ne": "not equal is written !=", "gt": "this is written >",
    "lt": "this is written <", "ge": "this is written >=", "le": "this is written <=",
    "between": "a range is written x >= a && x <= b",
    ";": "and is written &&", ",": "and is written &&", ":": "equality is written ==",
    "if": "a choice is written condition ? one : other", "$": "a field is its name alone",
}  # fmt: skip

NEARBY: Final = 200
"""Characters before a place that are looked at."""
_TEXTUAL: Final = "contains|startsWith|endsWith|matches"
_UNITS: Final = r"(?:ns|us|ms|[smhd]|[kMGT]?i?B)\b"
HABITS: Final = (
    (r"(?<![\w.])\d+(?:\.\d+){2,3}(?:/\d+)?", 'an address stands in quotes: "{0}"'),
    (r"(?<!\w)\w+\s*\.\.\s*\w+", "a range is written x >= a && x <= b"),
    (r"\bin\s*\([^)]*\)?", "a list stands in [ ]: in [1, 2]"),
    (rf"(?i:\b(?:{_TEXTUAL}))\s+\S+", 'functions have brackets: field.contains("...")'),
    (r"\b(?:slow|has)\s+\w+", "functions have brackets: slow(100), has(src.name)"),
    (rf"\d\s+{_UNITS}", "a unit follows its number at once: 100ms, 1MB"),
    (r"(?<!\w)\d+(?:,\d+)+", "numbers have no commas, and lists stand in [ ]"),
    (r"=>|=<|[!=]==|!~|=~", ""),
    (r"[“”„‘’‚«»`]", "quotes are \" or '"),
    (r"(?:&&|\|\|)\s*(?:[<>]=?|[!=]=)", "each comparison names its field: x >= 400 && x < 500"),
    (r"^\s*(?:tcp|udp|ip|host|port|net|src|dst)\s+\w+", "this looks like tcpdump's language, which --bpf takes"),
    (r"[(=]\s*/\S*", 'text stands in quotes: "/cart"'),
)  # fmt: skip
"""What is written otherwise elsewhere, and how it is here; {0} is what was found. Without a text: an operator."""

_DOTTED: Final = re.compile(r"[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*")
_HYPHENS: Final = re.compile(r"(?<![\w.])((?:\w+\.)+headers)\s*(?:\.\s*|\[\s*)(\w+(?:-\w+)*)")
_CLOCK: Final = 'there is no clock; as in time >= "2026-01-02T03:04"'


def explained(problem: str, at: int, text: str, known: Mapping[str, Field]) -> Wrong:
    """The library's message as ours."""
    if "recursion" in problem:
        return Wrong(0, f"nested deeper than {limits.FILTER_DEPTH} levels")
    if problem.startswith("undeclared reference") or "operand of a select" in problem:
        return _unknown(at, text, known, problem)
    if match := re.match(r"found no matching overload for '(.+)' applied to '\((.*)\)'", problem):
        return _mismatch(at, match[1], _arguments(match[2]), text, known)
    if match := re.match(r"expression of type '(.+?)' cannot be the range", problem):
        return Wrong(at, f"{spoken(match[1])} has no elements", "lists and maps have")
    if problem.startswith(("Syntax error", "reserved identifier")):
        return _syntax(at, text, problem)
    if re.match("invalid .* literal", problem):
        return Wrong(at, "this number is too large")
    if "has() argument" in problem:
        return Wrong(at, "has() takes a field", "as in has(src.name)")
    return Wrong(at, problem)


def spoken(kind: str) -> str:
    """A type in words.

    >>> spoken("int"), spoken("list(string)"), spoken("map(string, string)")
    ('a number', 'a list', 'a map')
    """
    return WORDS.get(kind) or f"a {kind.partition('(')[0].rpartition('.')[2].lower()}"


# ---------------------------------------------------------------- names


def _unknown(at: int, text: str, known: Mapping[str, Field], problem: str) -> Wrong:
    """A name that is no field, or a call of what is no function."""
    places = list(_DOTTED.finditer(text))
    around = next((m for m in places if m.start() <= at <= m.end()), None)
    if around is not None and around[0] == "has":  # reported at the macro, not at its argument
        around = next((m for m in places if m.start() > at), None)
    if around is None:
        return Wrong(at, problem)
    name, hint = re.sub(r"\s", "", around[0]), _hyphens(at, text, known)
    if hint is not None:
        return hint
    if text[around.end() :].lstrip().startswith("("):
        owner, _, called = name.rpartition(".")
        if not owner or f"'{called}'" in problem:
            return _function(around.end() - len(called), called)
        name = owner
    return Wrong(
        around.start(), f"no field {name}", _field_hint(name, text[: around.start()], known)
    )


def _function(at: int, called: str) -> Wrong:
    """A call of what is no function, or of one in another way."""
    if called in FUNCTIONS:
        return Wrong(at, f"{called}() takes something else", f"as in {FUNCTIONS[called]}")
    if called in ("now", "today"):
        return Wrong(at, f"no function {called}", _CLOCK)
    meant = MEANT.get(called.lower())
    hint = f"did you mean {meant}? As in {FUNCTIONS[meant]}" if meant else near(called, FUNCTIONS)
    return Wrong(at, f"no function {called}", hint)


def _hyphens(at: int, text: str, known: Mapping[str, Field]) -> Wrong | None:
    """``headers.x-tenant`` and ``headers[x-tenant]``: a subtraction, for the parser."""
    for match in _HYPHENS.finditer(text):
        plain = match[0].endswith(f".{match[2]}") and "-" not in match[2]
        if match.start() <= at <= match.end() and match[1] in known and not plain:
            return Wrong(
                match.start(2), "such a name stands in quotes", f'{match[1]}["{match[2].lower()}"]'
            )
    return None


def _field_hint(name: str, before: str, known: Mapping[str, Field]) -> str:
    """What was meant by a name that is no field."""
    owner, _, last = name.rpartition(".")
    if name in HALVES:
        return f"has({name}) asks for it; {near(name, known)}"
    if name in known["outcome"].values:
        return f'write outcome == "{name}"'
    if (alias := ALIASES.get(name.lower())) in known:
        return f"did you mean {alias}?"
    if name in FUNCTIONS and not any(one.endswith(f".{name}") for one in known):
        return f"{name} is a function, as in {FUNCTIONS[name]}"
    if owner in known and MEANT.get(last, last) == "size":
        return f"did you mean size({owner})?"
    if (held := _held(name, known)) is not None:
        return f"{held.name} is {spoken(held.type)}, without parts"
    if name in ("now", "today"):
        return _CLOCK
    parts = [one for one in known if one.startswith(f"{name}.")]
    if parts:
        return f"it has {', '.join(parts[:3])}{' ...' if len(parts) > 3 else ''}"
    compared = re.search(rf"(?:[!=<>]=|[<>\[,]|\.(?:{_TEXTUAL})\()\s*$", before[-NEARBY:])
    if compared and ("." not in name or not _close(name, known)):
        return f'text stands in quotes: "{name}"'
    return near(name, known)


def _held(name: str, known: Mapping[str, Field]) -> Field | None:
    """The field before the last dots, where it has no fields within."""
    while name := name.rpartition(".")[0]:
        if name in known:
            return known[name] if known[name].type != "bool" else None
    return None


def near(name: str, known: Iterable[str]) -> str:
    """``did you mean ...?``, or where the names are listed."""
    names = list(known)
    if close := _close(name, names):
        return f"did you mean {', '.join(close)}?"
    if len(names) > len(FUNCTIONS):
        return "`kshark fields` lists them"
    return "there is " + ", ".join(names)


def _close(name: str, known: Iterable[str]) -> list[str]:
    """Three names at most: those that end alike and share most parts, else those that are spelt alike."""
    lower = {one.lower(): one for one in known}
    parts = name.lower().split(".")
    same = [one for one in lower if one.rpartition(".")[2] == parts[-1]]
    shared = {one: len({*one.split(".")} & {*parts}) for one in same}
    best = [one for one in same if shared[one] == max(shared.values())]
    best.sort(key=lambda one: -SequenceMatcher(None, one, name.lower()).ratio())
    found = best or get_close_matches(name.lower(), lower, n=3, cutoff=0.6)
    return [lower[one] for one in found[:3]]


# ---------------------------------------------------------------- types


def _arguments(text: str) -> list[str]:
    """``map(string, string), int`` as its two types."""
    return [m[0].strip() for m in re.finditer(r"[^,(]+(?:\([^)]*\)+)?", text) if m[0].strip()]


def _mismatch(
    at: int, function: str, kinds: list[str], text: str, known: Mapping[str, Field]
) -> Wrong:
    """An operator or function whose operands do not fit."""
    sides = [spoken(kind) for kind in kinds]
    operator = function.strip("_@")
    if function in ("_&&_", "_||_", "!_", "_?_:_"):
        wrong = next((s for s, k in zip(sides, kinds, strict=True) if k != "bool"), sides[-1])
        if function == "_?_:_":
            return Wrong(at, f"a ? b : c takes yes/no and two of one type, not {', '.join(sides)}")
        return Wrong(at, f"{operator} takes yes/no, this is {wrong}", _compare(at, kinds, text))
    if function == "@in":
        return Wrong(at, f"{sides[0]} in {sides[-1]}", 'as in x in ["a", "b"]')
    if function == "_[_]":
        return Wrong(at, f"{sides[0]} has no element by {sides[-1]}")
    if function.startswith("_"):
        hint = "an absent field: !has(field)" if "null_type" in kinds else ""
        hint = hint or _operands(at, operator, kinds, text, known)
        return Wrong(at, f"{operator} between {' and '.join(sides)}", hint)
    if function == "-_":
        return Wrong(at, f"- takes a number, this is {sides[-1]}")
    hint = (
        'as in "late" in notes'
        if function == "contains" and sides[0] in ("a list", "a map")
        else ""
    )
    return Wrong(at, f"{function}() does not take {', '.join(sides)}", hint)


def _compare(at: int, kinds: list[str], text: str) -> str:
    if re.match(r"[&|]{2}\s*[\d'\"]", text[at : at + NEARBY]):
        return "each comparison names its field: x == 1 || x == 2"
    if re.match(r"!\s*[\w.]+\s*[=!<>]", text[at : at + NEARBY]):
        return "write !(a == b), or a != b"
    kind = next((k for k in kinds if k != "bool"), "")
    examples = {"string": 'as in field == "text"', "int": "as in field > 0"}
    return examples.get(kind, "")


def _operands(
    at: int, operator: str, kinds: list[str], text: str, known: Mapping[str, Field]
) -> str:
    """The usual reasons why the two sides of an operator differ."""
    pair = set(kinds)
    left = re.search(r"([\w.]*)\s*$", text[max(at - NEARBY, 0) : at])
    right = re.match(r"([\w.]*)", text[at + len(operator) :].lstrip())
    names = [m[1] for m in (left, right) if m]
    if "time" in names and pair == {"int", "string"}:
        return 'time is text: time >= "2026-01-02T03:04"'
    if TIMES & {name.removesuffix("_ns") for name in names} and "int" in pair:
        return "a time is a number with a unit and no quotes: 100ms"
    if pair == {"bool", "string"}:
        flags = (n for n in names if n in known and known[n].type == "bool")
        flag = "" if {*text[at + len(operator) :].lstrip()[:1]} & {"'", '"'} else next(flags, "")
        return (
            f'text stands in quotes: "{flag}"' if flag else "a yes/no field stands alone: x or !x"
        )
    if kinds[0] == "string" and kinds[-1] == "int" and operator[0] in "<>":
        return "int(...) makes a number of text"
    if pair == {"int", "string"}:
        return "text stands in quotes, numbers do not"
    if pair == {"int", "double"}:
        return "convert one side: double(...) or int(...)"
    if "bool" in pair and re.search("[<>]", re.split(r"[&|()]", text[:at])[-1]):
        return "a range is written a <= x && x < b"
    if "bool" in pair and len(pair) == 2:
        return "a yes/no field stands alone: x or !x"
    return ""


# ---------------------------------------------------------------- syntax


def _syntax(at: int, text: str, problem: str) -> Wrong:
    """A syntax error by what stands there."""
    rest = text[at:].lstrip()
    hint = _habit(at, text) or _operator(at, text, rest)
    if "token recognition error" in problem and rest[:1] in ("'", '"'):
        escape = re.match(r"(\"|')(?:\\[^\W_]|[^\\\n])*?\1", rest)
        return Wrong(at, "a wrong \\ in this text" if escape else "this quote is not closed")
    if match := re.search(r"missing '(.)' at", problem):
        return Wrong(at, f"{match[1]} is missing", hint)
    if "<EOF>'" in problem and not rest:
        return Wrong(at, "it ends where more is expected", hint)
    piece = re.match(r"\w+|\S", rest)
    return Wrong(at, f"{piece[0] if piece else 'this'} is not expected here", hint)


def _habit(at: int, text: str) -> str:
    """How what stands around `at` is written here."""
    for pattern, hint in HABITS:
        for found in re.finditer(pattern, text):
            if found.start() <= at <= found.end():
                return hint.format(found[0]) or OPERATORS[found[0]]
    return ""


def _operator(at: int, text: str, rest: str) -> str:
    """The operator of another language, at the place or before it."""
    nearby = text[max(at - NEARBY, 0) : at]
    before = re.search(r"([A-Za-z]+|[^\sA-Za-z0-9\"')\]]+)\s*$", nearby)
    words = re.match(r"[A-Za-z]+|[^\w\s\"'(]+", rest)
    hints = [OPERATORS.get(m[0].strip().lower(), "") for m in (words, before) if m]
    return next((one for one in hints if one), "")
