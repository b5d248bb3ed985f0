"""Which protocols can a filter match at all? A necessary condition, and cheap to be sure of.

What a filter excludes by protocol need not be dissected; `kshark.plan` decides that with the answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from kshark.filter.checked import Call, Const, Items, Name, Node, Select
from kshark.filter.emit import flat
from kshark.filter.fields import Field
from kshark.filter.literals import HAS

Names = frozenset[str] | None  # None: any protocol


def narrow(node: Node, fields: Mapping[str, Field]) -> Names:
    """The protocols of entries for which `node` may be true."""
    if isinstance(node, Const):
        return frozenset() if node.value is False else None
    if not isinstance(node, Call):
        return _fields_of(node, fields)
    if node.function == "_&&_":
        return _all([narrow(term, fields) for term in flat(node, "_&&_")])
    if node.function == "_||_":
        return _any([narrow(term, fields) for term in flat(node, "_||_")])
    if node.function in ("!_", "_?_:_"):
        return None
    return _named(node) or _operands(node, fields)


def _operands(node: Call, fields: Mapping[str, Field]) -> Names:
    """A comparison or function needs all of its operands, those that are yes/no apart."""
    operands = [arg for arg in node.args if arg.type != "bool"]
    return _all([_needed(arg, fields) for arg in operands])


def _needed(node: Node, fields: Mapping[str, Field]) -> Names:
    """The protocols of entries for which a value may be there."""
    if isinstance(node, Call):
        return None if node.function == "_?_:_" else _operands(node, fields)
    return _fields_of(node, fields)


def _fields_of(node: Node, fields: Mapping[str, Field]) -> Names:
    while isinstance(node, Select):
        node = node.operand
    if not isinstance(node, Name):
        return None
    one = fields.get(node.name.removeprefix(HAS))
    if one is None or not one.protocol:
        return None
    if node.name.startswith(HAS) and not one.needs:  # has(http) is always true
        return None
    return frozenset({one.protocol})


def _named(node: Call) -> Names:
    """``protocol == "http"``, ``protocol in ["http", "redis"]``."""
    if node.function == "_==_":
        for one, two in (node.args, node.args[::-1]):
            if _is_protocol(one) and isinstance(two, Const) and isinstance(two.value, str):
                return frozenset({two.value})
    if node.function == "@in" and _is_protocol(node.args[0]) and isinstance(node.args[1], Items):
        elements = node.args[1].elements
        values = [one.value for one in elements if isinstance(one, Const)]
        if len(values) == len(elements):
            return frozenset(value for value in values if isinstance(value, str))
    return None


def _is_protocol(node: Node) -> bool:
    return isinstance(node, Name) and node.name == "protocol"


def _all(found: list[Names]) -> Names:
    """All must hold."""
    some = [one for one in found if one is not None]
    return frozenset.intersection(*some) if some else None


def _any(found: list[Names]) -> Names:
    """One must hold."""
    some = [one for one in found if one is not None]
    return frozenset.union(*some) if len(some) == len(found) and some else None
