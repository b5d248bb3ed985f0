"""The docs say what is so: reference pages equal the code, examples run, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kshark.testing import LAWS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PROSE = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]
BLOCK = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```$', re.M | re.S)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_pages_are_those_of_the_code() -> None:
    for path, text in generator().pages().items():
        assert path.exists(), f"{path.name} is missing: run python docs/generate.py"
        assert path.read_text() == text, f"{path.name} is old: run python docs/generate.py"


@pytest.mark.parametrize("page", PROSE, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def files_of(page: Path) -> dict[str, str]:
    """The files that a page shows piece by piece."""
    found: dict[str, str] = {}
    for _, title, body in BLOCK.findall(page.read_text()):
        found[title] = found.get(title, "") + body
    return found


@pytest.mark.parametrize("name", ["write-a-dissector.md", "write-a-sink.md", "testing.md"])
def test_examples_run(name: str, tmp_path: Path) -> None:
    files = files_of(DOCS / name)
    assert files
    for title, body in files.items():
        (tmp_path / title).write_text(body)
    for title in files:
        if title.startswith("test_"):
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", title],
                cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
        elif title.endswith(".py"):
            compile(files[title], title, "exec")


def test_the_examples_of_the_python_face(tmp_path: Path) -> None:
    files = files_of(DOCS / "python.md")
    script = str(ROOT / "benchmarks" / "generate.py")
    generate = [sys.executable, script, "http", "--transactions", "3"]
    subprocess.run(
        [*generate, "--out", str(tmp_path / "capture.pcap")], check=True, capture_output=True
    )
    wanted = {
        "read.py": "-> 10.",
        "details.py": "[('host', ",
        "engine.py": "icmp 10.0.0.1 10.0.0.2",
    }
    assert set(files) == {*wanted, "live.py"}
    compile(files["live.py"], "live.py", "exec")
    for name, text in wanted.items():
        (tmp_path / name).write_text(files[name])
        done = subprocess.run(
            [sys.executable, name], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert text in done.stdout, done.stdout


def test_every_law_is_explained() -> None:
    text = (DOCS / "testing.md").read_text()
    assert re.findall(r"^\| `(\w+)` \| [A-Z]", text, re.M) == list(LAWS)


def kshark(*arguments: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kshark", *arguments],
        cwd=cwd, input=stdin, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_the_tutorial_dissector_on_the_line(tmp_path: Path) -> None:
    for title, body in files_of(DOCS / "write-a-dissector.md").items():
        (tmp_path / title).write_text(body)
    done = kshark(
        "dissect", "--plugin", "kshark_kv.py", "--protocol", "kv", "--hex",
        cwd=tmp_path, stdin="0001 0007 47 61",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "GET" in done.stdout


def test_the_sink_and_the_backend_of_the_docs(tmp_path: Path) -> None:
    for title, body in files_of(DOCS / "write-a-sink.md").items():
        (tmp_path / title).write_text(body)
    ping = "ffffffffffff 000000000000 0800 4500001c 0001 0000 4001 0000 0a000001 0a000002 0800 0000 0001 0001"
    done = kshark(
        "run", "--plugin", "one_backend.py", "--plugin", "count_sink.py",
        "--backend", f"one:{ping}", "--sink", "count:n",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "n").read_text() == "1\n"
