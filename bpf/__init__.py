"""The programs that run in the kernel: one ``NAME.bpf.o`` for each ``NAME.bpf.c``, built by ``make bpf``.

The C is licensed GPL-2.0 OR Apache-2.0 (the kernel wants a licence string that is compatible with the GPL).
An object is CO-RE: built once, it finds the structures of the kernel that it is loaded into by BTF.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

MISSING: Final = (
    "this kshark was built without its eBPF programs: install a wheel, or in a checkout: make bpf"
)


def program(name: str) -> Path:
    """Where the object called `name` is, or would be."""
    # Resolved: an editable install is a tree of links, made before the objects were.
    return Path(__file__).resolve().parent / f"{name}.bpf.o"
