r"""Options: declared once as an `kshark.api.Options`, read from three places, the later wins.

1. the TOML file: ``[sink.jsonl]`` with ``rotate_bytes = "1GiB"``;
2. the environment: ``KSHARK_SINK_JSONL_ROTATE_BYTES=1GiB`` (dashes of a name become underscores);
3. the line: ``--sink jsonl:out.ndjson,rotate_bytes=1GiB``.

On the line, the text after the colon up to the first comma is the target, the rest ``key=value``
(a bare key switches a yes/no option on, a repeated key adds to a list). A comma that belongs to a
value is written ``\,`` and a backslash ``\\``. In a string, the elements of a list are separated by
commas; those of a list of expressions (unit ``words``) by blanks, quoted as in a shell.

Whatever is wrong ends as one `PluginError` that names the option, its value, its place, and the
nearest name that exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_args, get_origin

import msgspec

from kshark import units
from kshark.api import Options, PluginError

O = TypeVar("O", bound=Options)  # noqa: E741

YES: Final = frozenset({"1", "true", "yes", "on", ""})
NO: Final = frozenset({"0", "false", "no", "off"})


class Given(NamedTuple):
    """A value as it was given, and where: the beginning of the message if it is wrong."""

    value: object
    origin: str


Layer = Mapping[str, Given]


@dataclass(frozen=True, slots=True)
class Field:
    """One option: its key, its Python name, and what strings mean for it."""

    key: str
    attribute: str
    type: Any
    unit: str
    text: str
    default: object
    required: bool

    @property
    def bare(self) -> Any:
        """The type without its annotations and without None."""
        return _bare(self.type)

    @property
    def many(self) -> bool:
        return get_origin(self.bare) in (list, tuple, set, frozenset)

    @property
    def yes_no(self) -> bool:
        return self.bare is bool


def _bare(kind: Any) -> Any:
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    arguments = [a for a in get_args(kind) if a is not type(None)]
    if type(None) in get_args(kind) and len(arguments) == 1:
        return _bare(arguments[0])
    return kind


def _meta(kind: Any) -> list[msgspec.Meta]:
    """The annotations of a type, those of ``X | None`` included."""
    found = [m for m in getattr(kind, "__metadata__", ()) if isinstance(m, msgspec.Meta)]
    if get_origin(kind) is Annotated:
        found += _meta(get_args(kind)[0])
    elif type(None) in get_args(kind):
        found += [m for part in get_args(kind) for m in _meta(part)]
    return found


@cache
def fields(options: type[Options]) -> tuple[Field, ...]:
    """The options that a class declares, in order."""
    found = []
    for info in msgspec.structs.fields(options):
        meta = _meta(info.type)
        extra = {k: v for m in meta for k, v in (m.extra or {}).items()}
        text = next((m.description for m in meta if m.description), "")
        default = info.default
        if info.default_factory is not msgspec.NODEFAULT:
            default = info.default_factory()
        found.append(
            Field(info.encode_name, info.name, info.type, str(extra.get("unit", "")), text,
                  None if info.required else default, info.required)
        )  # fmt: skip
    return tuple(found)


# ---------------------------------------------------------------- names that nearly exist


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean jsonl?"`` or, where nothing is near, the whole list."""
    from difflib import get_close_matches

    names = sorted(set(known))
    lower = {one.lower(): one for one in names}
    close = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {lower[close[0]]}?"
    return f"; there is {', '.join(names)}" if names else "; there is none"


# ---------------------------------------------------------------- the three places


def split(text: str, separator: str = ",") -> list[str]:
    r"""Split at `separator`, except where a backslash stands before it.

    >>> split(r"out\,1.ndjson,full")
    ['out,1.ndjson', 'full']
    """
    parts = [""]
    for piece in re.findall(rf"\\[\\{separator}]|[^\\{separator}]+|.", text, re.DOTALL):
        if piece == separator:
            parts.append("")
        elif len(piece) == 2 and piece[0] == "\\" and piece[1] == separator:
            parts[-1] += separator
        elif piece == "\\\\":
            parts[-1] += "\\"
        else:
            parts[-1] += piece
    return parts


@dataclass(slots=True)
class Use:
    """``NAME[:TARGET][,key=value]...`` taken apart: what ``--sink`` and ``--backend`` are given."""

    name: str
    origin: str
    given: dict[str, Given] = field(default_factory=dict)

    @property
    def target(self) -> str:
        held = self.given.get("target")
        return str(held.value) if held else ""


def given_at(layers: Sequence[Layer], key: str) -> str:
    """Where the value of `key` that wins was given: ``--sink``, ``KSHARK_SINK``, ``x.toml [run] sink``."""
    return next((layer[key].origin for layer in reversed(layers) if key in layer), f"--{key}")


def said(origin: str, text: str) -> str:
    """A value as it was given at `origin`: ``--sink jsonl``, ``KSHARK_SINK=jsonl``."""
    return f"{origin}{'=' if origin.startswith('KSHARK_') else ' '}{text}"


def parse_use(text: str, at: str) -> Use:
    """Take apart one value given at `at` (``--sink``), as the module's docstring says."""
    origin = said(at, text)
    name = re.match(r"[^:,]*", text)[0]  # type: ignore[index]
    if not name:
        raise PluginError(f"{origin}: a name is missing, as in NAME[:TARGET][,key=value]")
    use = Use(name, origin)
    rest = text[len(name) :]
    pieces = split(rest[1:]) if rest else []
    if rest.startswith(":") and (target := pieces.pop(0)):
        use.given["target"] = Given(target, origin)
    for piece in pieces:
        key, equals, value = piece.partition("=")
        _add(use.given, key.strip().replace("-", "_"), value if equals else True, origin)
    return use


def _add(given: dict[str, Given], key: str, value: object, origin: str) -> None:
    """A repeated key becomes a tuple, which only lists accept."""
    if key in given:
        before = given[key].value
        value = (*(before if isinstance(before, tuple) else (before,)), value)
    given[key] = Given(value, origin)


def from_table(table: object, place: str) -> dict[str, Given]:
    """A TOML table as a layer; `place` is ``kshark.toml [sink.jsonl]``."""
    if not isinstance(table, dict):
        raise PluginError(f"{place} must be a table of options")
    return {str(k).replace("-", "_"): Given(v, f"{place} {k}") for k, v in table.items()}


def variable(*parts: str) -> str:
    """``("sink", "jsonl", "full")`` -> ``KSHARK_SINK_JSONL_FULL``."""
    return "_".join(("kshark", *parts)).upper().replace("-", "_").replace(".", "_")


def from_environment(
    environ: Mapping[str, str],
    parts: Sequence[str],
    known: Sequence[Field],
    others: Iterable[str] = (),
) -> dict[str, Given]:
    """The variables ``KSHARK_<PARTS>_<KEY>`` as a layer.

    A variable with that beginning that names no option is a mistake, unless it begins with one of
    `others` (the variables of a longer name).
    """
    found = {}
    start = variable(*parts) + "_"
    names = {variable(*parts, f.key): f.key for f in known}
    for name, value in environ.items():
        if name in names:
            found[names[name]] = Given(value, name)
        elif name.startswith(start) and not any(name.startswith(o) for o in others):
            raise PluginError(f"{name}={value}: no such option{nearest(name, names)}")
    return found


# ---------------------------------------------------------------- layers to a value


def resolve(options: type[O], layers: Iterable[Layer], what: str) -> O:
    """The options of `what` (``sink jsonl``); `PluginError` for what is wrong."""
    known = {f.key: f for f in fields(options)}
    given: dict[str, tuple[Field, Given]] = {}
    for layer in layers:
        for key, held in layer.items():
            one = known.get(key) or _target(known.values(), key)
            if one is None:
                raise PluginError(_unknown(key, held, known, what))
            given[one.attribute] = (one, held)
    values = {attribute: coerce(one, held) for attribute, (one, held) in given.items()}
    for one in known.values():
        if one.required and one.attribute not in values:
            raise PluginError(f"{what} needs the option {one.key}: {one.text}".rstrip(": "))
    try:
        made: O = options(**values)
    except (ValueError, TypeError) as error:
        raise PluginError(f"{what}: {error}") from error
    return made


def _target(known: Iterable[Field], key: str) -> Field | None:
    """What follows the colon goes to the attribute ``target``, whatever its key (``url``)."""
    return next((f for f in known if key == "target" == f.attribute), None)


def _unknown(key: str, held: Given, known: Iterable[str], what: str) -> str:
    if key == "target":
        return f"{held.origin}: {what} takes no target (what follows the colon)"
    hint = " (a comma that belongs to a value is written \\,)" if held.value is True else ""
    return f"{held.origin}: {what} has no option {key!r}{nearest(key, known)}{hint}"


def coerce(one: Field, held: Given) -> Any:
    """A given value as the type of its option."""
    try:
        value = _parse(one, held.value)
        return msgspec.convert(value, one.type, strict=not _text(held.value))
    except (ValueError, msgspec.ValidationError) as error:
        shown = held.value if isinstance(held.value, str) else repr(held.value)
        raise PluginError(f"{_place(one.key, held.origin, shown)}: {_why(error, one)}") from error


def _place(key: str, origin: str, shown: str) -> str:
    """Where a wrong value was given, and the value."""
    if origin == f"--{key}":
        return f"{origin} {shown}"
    if origin.startswith("KSHARK_"):
        return f"{origin}={shown}"
    if origin.endswith(f" {key}"):
        return f"{origin} = {shown}"
    return f"{origin}: {key} = {shown}"


def _text(value: object) -> bool:
    return isinstance(value, str | tuple) or value is True


def _why(error: Exception, one: Field) -> str:
    text = str(error).replace("Expected", "must be", 1).replace("`", "")
    if text.startswith("Invalid enum value"):
        return "must be " + " or ".join(filter(None, map(str, get_args(one.bare))))
    text = text.partition(", got ")[0].partition(" - at ")[0]
    text = re.sub(r"must be int\b", "must be a whole number", text)
    return re.sub(r"must be float\b", "must be a number", text)


def _parse(one: Field, value: object) -> object:
    if one.many:
        return [_one(one, element) for element in _elements(one, value)]
    if isinstance(value, tuple):
        raise ValueError("is given twice")  # noqa: TRY004
    if value is True and not one.yes_no:
        raise ValueError("needs a value")
    return _one(one, value)


def _elements(one: Field, value: object) -> Iterable[object]:
    if isinstance(value, str):
        if one.unit == "words":
            import shlex

            return shlex.split(value)
        return [part.strip() for part in split(value) if part.strip()]
    if isinstance(value, tuple):
        return [e for part in value for e in _elements(one, part)]
    return value if isinstance(value, list) else [value]


def _one(one: Field, value: object) -> object:
    if not isinstance(value, str):
        return value
    if one.yes_no:
        return _boolean(value)
    if one.unit == "bytes":
        return units.size(value)
    if one.unit == "seconds":
        time = units.seconds(value)
        return int(time) if one.bare is int and time.is_integer() else time
    return value


def _boolean(text: str) -> bool:
    lower = text.strip().lower()
    if lower not in YES | NO:
        raise ValueError("must be yes or no")
    return lower in YES
