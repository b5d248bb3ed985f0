"""The pages that a plugin's author walks along: what they say to write is written, what they say to type is run.

A block whose title is a path is a file, added to where it has come before on the page; ``shell`` is run by bash, one
after the other as in one terminal; ``output`` is what the block before it must print, ``...`` standing for anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from kit_captures import FRAMES, PINGS, pcap

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.M | re.S)
WALKS = [
    "tutorial-mqtt.md",
    "plugin-from-capture.md",
    "grammars.md",
    "fuzz-and-verify.md",
    "compiled-dissector.md",
]


def like(pattern: str, text: str) -> bool:
    """Whether a text is as it is shown, ``...`` standing for anything."""
    parts = [re.escape(part) for part in pattern.strip().split("...")]
    return re.fullmatch(".*?".join(parts), text.strip(), re.S) is not None


def run(command: str, folder: Path) -> tuple[str, Path]:
    """What bash prints, and the folder that it ends in; fails where a command of it fails."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with NamedTemporaryFile("r") as ended:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", f"{command}\npwd > {ended.name}"], cwd=folder,
            env={**os.environ, "PATH": path, "KSHARK_PLUGINS": "", "PYTEST_ADDOPTS": "-p no:cacheprovider"},
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout, Path(ended.read().strip())


@pytest.mark.parametrize("page", WALKS)
def test_the_walk(page: str, tmp_path: Path) -> None:
    pcap(tmp_path / "capture.pcap", PINGS, FRAMES)
    written: set[str] = set()
    printed, folder = "", tmp_path
    for title, body in BLOCK.findall((DOCS / page).read_text()):
        if title == "shell":
            printed, folder = run(body, folder)
        elif title == "output":
            assert like(body, printed), f"{page} shows\n{body}\nand this came:\n{printed}"
        else:
            path = tmp_path / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((path.read_text() if title in written else "") + body)
            written.add(title)
    for title in sorted(written):
        if Path(title).name.startswith("test_") and not title.startswith("kshark-"):
            run(f"python -m pytest -q {title}", tmp_path)


def test_both_mappings_to_tshark_are_the_same() -> None:
    import tomllib

    from kshark._tshark import table_of

    files = dict(BLOCK.findall((DOCS / "fuzz-and-verify.md").read_text()))
    names: dict[str, object] = {}
    exec(files["mapping.py"], names)
    given = tomllib.loads(files["fields.toml"])["mqtt"]
    assert table_of(names["TSHARK"], "page") == table_of(given, "page")


@pytest.mark.skipif(
    shutil.which("tshark") is None and os.environ.get("CI") != "true",
    reason="tshark is not installed",
)
def test_the_mapping_fits_the_tutorials_dissector(tmp_path: Path) -> None:
    from kshark.testing import case

    tutorial = dict(BLOCK.findall((DOCS / "tutorial-mqtt.md").read_text()))
    files = dict(BLOCK.findall((DOCS / "fuzz-and-verify.md").read_text()))
    module = tutorial["kshark-mqtt/kshark_mqtt.py"]
    (tmp_path / "one.py").write_text(module)
    (tmp_path / "own.py").write_text(module + files["mapping.py"])
    (tmp_path / "fields.toml").write_text(files["fields.toml"])
    (tmp_path / "publish.txt").write_text(tutorial["kshark-mqtt/tests/cases/publish.txt"])
    pieces = [(s, p) for s, p in case(tmp_path / "publish.txt").pieces if isinstance(p, bytes)]
    pcap(tmp_path / "x.pcap", pieces)
    for how in ("--plugin one.py --map fields.toml", "--plugin own.py"):
        printed, _ = run(f"kshark verify x.pcap --protocol mqtt {how}", tmp_path)
        assert printed == "mqtt: 5 messages are the same, 0 differ\n"


def test_the_metadata_is_that_of_the_packages() -> None:
    """A page's ``pyproject.toml`` asks for what its keys need, as the contributed ones do."""
    import tomllib

    shown = tomllib.loads(dict(BLOCK.findall((DOCS / "publish.md").read_text()))["pyproject.toml"])
    real = tomllib.loads(
        (ROOT / "plugins_contrib" / "kshark-memcached" / "pyproject.toml").read_text()
    )
    assert shown["build-system"] == real["build-system"]
    assert set(shown["project"]["entry-points"]) == {"kshark"}


def test_patterns() -> None:
    assert like("a ... c\n", "a b c")
    assert like("...\nb", "x\ny\nb\n")
    assert not like("a ... c", "a b d")
