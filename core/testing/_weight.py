"""How many bytes a dissector holds: its own objects, and all that only they lead to."""

from __future__ import annotations

import gc
import sys
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MethodDescriptorType,
    ModuleType,
)
from typing import Final

_SHARED: Final = (
    type,
    ModuleType,
    FunctionType,
    BuiltinFunctionType,
    CodeType,
    GetSetDescriptorType,
    MethodDescriptorType,
)
"""What belongs to the program and not to one flow."""


def weigh(*roots: object) -> int:
    """Bytes of these objects and of everything that can be reached from them; each counts once."""
    seen: set[int] = set()
    waiting = list(roots)
    total = 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _SHARED):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one, 0)
        waiting += gc.get_referents(one)
    return total
