"""What is checked when a `Grammar` is made: a mistake in it is told by whoever imports it, not by a flow.

Each check raises `PluginError`, with the grammar's name, what is wrong and what was probably meant.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from kshark.api import Details, PluginError, Redact
from kshark.grammar.derive import certain, details_of, is_details
from kshark.grammar.parts import LISTS, STRUCTS, branches, kind_of, meant, names, resolve

RULES: Final[Mapping[str, tuple[str, str, str]]] = {
    "kind": (
        "(m, side)", "by side: the client asks", "a `kshark.api.Kind`: request, response, interim, one-way",
    ),
    "verb": ("a field or (m)", "empty", "what is asked; of a response what it is"),
    "target": ("a field or (m)", "empty", "of what; of a response its error text (`response.error` of an entry)"),
    "status": ("a field or (m)", "0", "a number, 0 where there is none"),
    "ok": ("a field or (m)", "true", "whether it went well"),
    "key": ("a field or (m)", "in order", "a number that both halves share, 0 included; None: the order pairs"),
}  # fmt: skip
"""Each rule: what it may be, what is so without it, and what it says. `docs/generate.py` writes them down."""
_NUMERIC: Final = ("status", "key")
_UNREADABLE: Final = frozenset({"Bytes", "GreedyBytes", "StringEncoded"})
_SPOKEN: Final = {int: "a number", float: "a number", str: "text", bool: "a yes or no"}


def rule(name: str, given: object, structs: Sequence[Any]) -> Callable[[Any], Any] | None:
    """A rule as a function of the parsed message; `given` is a dotted name, a function or None."""
    if given is None:
        return None
    if callable(given):
        _takes(name, given, 1)
        return given
    if not isinstance(given, str):
        raise PluginError(f"{name}={given!r}: a field's dotted name or a function is needed")
    found = [resolve(struct, given, lists=False) for struct in structs]
    if not any(found) or (name == "key" and not all(found)):
        side = "" if not any(found) else " in the struct of each side"
        known = [one for struct in structs for one in names(struct, lists=False)]
        hint = "" if any(found) else meant(given, known)
        raise PluginError(f"{name}={given!r}: there is no such field{side}{hint}")
    for sub in (one for subs in found for part in subs for one in branches(part)):
        if kind_of(sub) in STRUCTS | LISTS | {"FlagsEnum"}:
            inner = names(sub, lists=False)
            hint = f", as in {given}.{inner[0]}" if inner else ""
            raise PluginError(
                f"{name}={given!r}: that is no single value; name a field in it{hint}"
            )
        if name in _NUMERIC and kind_of(sub) in _UNREADABLE:
            raise PluginError(
                f"{name}={given!r}: that is no number; give a function that makes one"
            )
    return reader(given)


def reader(path: str) -> Callable[[Any], Any]:
    """A function that reads a dotted name: None where the message at hand has no such field."""
    parts = path.split(".")
    if len(parts) == 1:
        return lambda parsed: getattr(parsed, path, None)

    def read(parsed: Any) -> Any:
        for part in parts:
            parsed = getattr(parsed, part, None)
        return parsed

    return read


def kind(given: object) -> None:
    """`kind` is a function of the parsed message and the side."""
    if given is None:
        return
    if not callable(given):
        raise PluginError(
            f"kind={given!r}: a function of the message and the side is needed, "
            f"as in kind=lambda m, side: Kind.REQUEST"
        )
    _takes("kind", given, 2)


def _takes(name: str, function: Callable[..., Any], count: int) -> None:
    """Whether it can be called with so many arguments; what has no signature may."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*range(count))
    except TypeError:
        what = "the parsed message and the side" if count == 2 else "the parsed message alone"
        raise PluginError(f"{name}: a function of {what} is needed, not {signature}") from None


# ---------------------------------------------------------------- details


def details(
    names_of: str,
    structs: Sequence[Any],
    given: Sequence[type[Details] | None],
    redact: Mapping[str, Redact],
    own_values: bool,
    module: str,
) -> list[type[Details]]:
    """The details of both sides: those that were given, checked, or derived ones."""
    for path, secret in redact.items():
        if not isinstance(secret, Redact):
            raise PluginError(f"redact: {path!r} needs a kshark.api.Redact, not {secret!r}")
        if not any(resolve(struct, path) for struct in structs):
            known = [one for struct in structs for one in names(struct)]
            raise PluginError(f"redact: there is no field {path!r}{meant(path, known)}")
    title = "".join(part.capitalize() for part in names_of.replace("-", "_").split("_"))
    found = []
    for side, struct, own in zip(("request", "response"), structs, given, strict=True):
        if own is None:
            own = details_of(f"{title}{side.capitalize()}", struct, redact, module=module)
        else:
            _given(side, struct, own, redact, own_values)
        found.append(own)
    return found


def _given(
    side: str, struct: Any, own: type[Details], redact: Mapping[str, Redact], own_values: bool
) -> None:
    """Typed details of the author's own: what is secret is marked in them, and they fit the struct."""
    if not is_details(own):
        raise PluginError(f"{side}= must be a subclass of kshark.api.Details")
    for path in redact:
        there = path.partition(".")[0] in own.__struct_fields__
        if resolve(struct, path) and not marked(own, path) and (there or own_values):
            raise PluginError(
                f"redact: {path!r} has no effect on {side}={own.__name__}: mark the field there, "
                f"Annotated[..., doc('...', redact=Redact.VALUE)]"
            )
    if not own_values:
        _fits(side, struct, own)


def marked(own: type[Details], path: str) -> bool:
    """Whether a field, or one around it, has a redaction class of its own."""
    name, _, rest = path.partition(".")
    for one in msgspec.inspect.type_info(own).fields:  # type: ignore[attr-defined]
        if one.name == name:
            if _secret(one.type):
                return True
            inner = next((f for f in msgspec.structs.fields(own) if f.name == name), None)
            within = certain(inner.type) if inner is not None else None
            return bool(rest) and is_details(within) and marked(cast(type[Details], within), rest)
    return False


def _secret(kind: Any) -> bool:
    while isinstance(kind, msgspec.inspect.Metadata):
        if (kind.extra or {}).get("redact"):
            return True
        kind = kind.type
    return False


def _fits(side: str, struct: Any, own: type[Details]) -> None:
    """Every field of the details is one of the struct, and of its type."""
    derived = {one.name: one for one in msgspec.structs.fields(details_of("Derived", struct))}
    for one in msgspec.structs.fields(own):
        where = f"{side}={own.__name__}: the field {one.name!r}"
        if one.name not in derived:
            hint = meant(one.name, derived)
            raise PluginError(f"{where} is none of the struct; values= can give it{hint}")
        declared, real = certain(one.type), certain(derived[one.name].type)
        if declared != real and declared in (int, float, bool, str, bytes) and real is not Any:
            if (declared, real) == (float, int):
                continue
            said = _SPOKEN.get(real, "no single value")
            name = getattr(declared, "__name__", declared)
            raise PluginError(f"{where} is {name}, and {said} in the struct; values= can change it")
