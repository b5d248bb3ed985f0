"""Imports go one way: api <- core, protocols, backends, sinks, enrichers <- app and cli."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PUBLIC = {"kshark.api", "kshark.feeder", "kshark.limits", "kshark.made", "kshark._pure"}
TOP = {"app", "cli", "face", "workers", "doctor", "session", "__main__"}  # they know all
FILES = [
    p
    for d in ("core", "protocols", "backends", "sinks", "enrichers")
    for p in (ROOT / d).rglob("*.py")
]


def imports(path: Path) -> Iterator[str]:
    """Absolute names that a module imports, with those under TYPE_CHECKING left out."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module in {
                "kshark",
                "kshark.protocols",
                "kshark.backends",
                "kshark.sinks",
                "kshark.enrichers",
            }:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def own(path: Path) -> str:
    """kshark.protocols.http for protocols/http/head.py: the package that may know itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("kshark", *parts[:2]))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    ours = {name for name in imports(path) if name.split(".")[0] == "kshark"}
    if path == ROOT / "core" / "__init__.py":
        ours.discard("kshark.face")  # when somebody asks for it
    if folder == "core":
        stem = path.stem
        if stem == "api":
            assert ours <= {"kshark._framed"}, "api imports nothing of kshark before it is used"
        elif not (
            stem in TOP or stem.startswith("cli") or "testing" in path.parts or stem == "testing"
        ):
            wrong = {
                n
                for n in ours
                if n.split(".")[1] in {"protocols", "backends", "sinks", "enrichers", *TOP, "cli"}
            }
            assert not wrong, f"{path}: {wrong}"
    else:
        siblings = {n for n in ours if n.startswith((f"kshark.{folder}._", own(path)))}
        programs = {"kshark.bpf"} if folder == "backends" else set()
        assert ours - siblings <= PUBLIC | programs, f"{path}: {ours - siblings - PUBLIC}"


def test_no_file_is_too_long() -> None:
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 600, path
