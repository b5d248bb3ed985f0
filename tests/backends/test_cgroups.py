"""Paths of control groups by number, on hosts with either version of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kshark.api import PluginError
from kshark.backends import _cgroups
from kshark.backends._cgroups import OLD, Paths, hierarchies, number

NOBODY = 1 << 30
"""No process has this number."""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two hierarchies, as a hybrid host has them."""
    for folder in ("new/system.slice", "old/kubepods/pod1/c1", "old/kubepods/pod2"):
        (tmp_path / folder).mkdir(parents=True)
    mounted = {0: str(tmp_path / "new"), OLD: str(tmp_path / "old")}
    monkeypatch.setattr(_cgroups, "hierarchies", lambda: mounted)
    return tmp_path


def test_a_group_is_found_by_its_number_after_its_process_has_ended(host: Path) -> None:
    inside = os.stat(host / "old/kubepods/pod1/c1").st_ino | OLD
    paths = Paths()
    assert paths.find(inside, NOBODY) == "/kubepods/pod1/c1"
    assert paths.find(os.stat(host / "new").st_ino, NOBODY) is None, "a moment ago nobody knew it"
    (host / "old/kubepods/pod1/c1").rmdir()
    assert paths.find(inside, NOBODY) == "/kubepods/pod1/c1", "remembered"


def test_the_root_is_a_slash(host: Path) -> None:
    assert Paths().find(os.stat(host / "new").st_ino, NOBODY) == "/"


def test_the_oldest_are_forgotten(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cgroups, "GROUP_PATHS", 1)
    monkeypatch.setattr(_cgroups, "PAUSE", 0.0)
    paths = Paths()
    for folder in ("pod1", "pod2"):
        paths.find(os.stat(host / "old/kubepods" / folder).st_ino | OLD, NOBODY)
    assert len(paths._known) == 1


def test_the_search_has_an_end(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cgroups, "GROUP_FOLDERS", 2)
    assert len(list(_cgroups._folders(str(host)))) == 2


def test_a_path_is_one_of_a_hierarchy_or_of_the_file_system(host: Path) -> None:
    expected = os.stat(host / "old/kubepods").st_ino | OLD
    assert number("/kubepods") == number(str(host / "old/kubepods")) == expected
    assert number("/system.slice") == os.stat(host / "new/system.slice").st_ino
    with pytest.raises(PluginError, match="there is no /nosuch in"):
        number("/nosuch")


def test_this_machine_has_some() -> None:
    assert all(Path(place).is_dir() for place in hierarchies().values())
