"""Every example in a docstring runs, in each module that has one."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

import kshark
import kshark.backends
import kshark.protocols
import kshark.sinks

FOLDERS = {
    "kshark": kshark,
    "kshark.backends": kshark.backends,
    "kshark.protocols": kshark.protocols,
    "kshark.sinks": kshark.sinks,
}
EXAMPLE = re.compile(r"^\s*>>> (?!.*\+SKIP)", re.MULTILINE)


def modules() -> dict[str, int]:
    """Names of the modules with examples, and how many lines of them they have."""
    found = {}
    for package, module in FOLDERS.items():
        root = Path(str(module.__file__)).parent
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            examples = len(EXAMPLE.findall(path.read_text()))
            if examples and (
                package != "kshark"
                or parts[0] not in ("backends", "protocols", "sinks", "enrichers")
            ):
                found[name] = examples
    return found


MODULES = modules()


def test_the_public_faces_have_examples() -> None:
    assert {"kshark.api", "kshark.engine", "kshark.face", "kshark.testing"} <= set(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_examples(name: str) -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    done = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert done.failed == 0
    # Those of a compiled module are found twice: Cython keeps them in __test__, too.
    assert done.attempted in (MODULES[name], 2 * MODULES[name])
