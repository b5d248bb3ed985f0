"""The package lists name every folder and every file that an installation needs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS: dict[str, Any] = SETTINGS["tool"]["setuptools"]
FOLDERS: dict[str, str] = {folder: name for name, folder in SETUPTOOLS["package-dir"].items()}


def package(folder: Path) -> str:
    """core/wire -> kshark.wire"""
    root, *rest = folder.relative_to(ROOT).parts
    return ".".join([FOLDERS[root], *rest])


def files(suffixes: tuple[str, ...]) -> list[Path]:
    roots = [ROOT / folder for folder in FOLDERS]
    return sorted(p for root in roots for p in root.rglob("*") if p.suffix in suffixes)


def test_every_folder_with_modules_is_a_package() -> None:
    assert {package(path.parent) for path in files((".py",))} == set(SETUPTOOLS["packages"])


@pytest.mark.parametrize(
    "path", files((".pyx", ".pxd", ".pxi", ".pyi", ".typed")), ids=lambda p: p.name
)
def test_sources_and_types_are_package_data(path: Path) -> None:
    data: dict[str, list[str]] = SETUPTOOLS["package-data"]
    for folder in path.parents:
        if folder == ROOT:
            break
        if any(path in folder.glob(pattern) for pattern in data.get(package(folder), ())):
            return
    pytest.fail(f"{path.relative_to(ROOT)} is in no pattern of package-data")
