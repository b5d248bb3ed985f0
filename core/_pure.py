"""``KSHARK_PURE``: run plain Python where compiled modules are installed too.

``KSHARK_PURE=1`` takes the pure twin of everything, ``KSHARK_PURE=kshark.protocols`` of one package.
Tests compare the two, benchmarks show what compiling is worth.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType


class SourceOnly:
    """A finder that knows ``*.py`` alone, for the packages below `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not name.startswith(self.prefix):
            return None
        for folder in path:
            spec = FileFinder(folder, (SourceFileLoader, [".py"])).find_spec(name)
            if spec is not None and spec.loader is not None:
                return spec
        return None


def wanted() -> str:
    """The prefix of the modules that shall be pure, or ""."""
    value = os.environ.get("KSHARK_PURE", "")
    return "kshark." if value in ("1", "all") else value


def pure(module: str) -> bool:
    """Whether `module` shall not use its compiled twin."""
    prefix = wanted()
    return bool(prefix) and module.startswith(prefix)


def install() -> None:
    """Put the finder first, once."""
    prefix = wanted()
    if prefix and not any(isinstance(f, SourceOnly) for f in sys.meta_path):
        sys.meta_path.insert(0, SourceOnly(prefix))
