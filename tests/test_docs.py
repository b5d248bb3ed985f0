"""The docs say what is so: reference pages equal the code, examples run, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest

import kshark.grammar as kshark_grammar
import kshark.testing as kshark_testing
from kshark import api, cli, hookspecs, limits, plugins, settings
from kshark._spec_checks import check
from kshark.filter import Field as FilterField
from kshark.filter import known_fields
from kshark.lane import LaneOptions
from kshark.places import RunOptions
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


def test_examples_are_of_protocols_and_hide_secrets() -> None:
    """Each is recognised by an engine that knows all built-ins; what it shows is redacted."""
    known = plugins.load(options=plugins.PluginOptions(allow=["nobody"]))
    found = known.protocols.keys() | {name for one in known.enrichers.values() for name in one.adds}
    for path in (DOCS / "examples").iterdir():
        page = (DOCS / "reference" / "protocols" / f"{path.stem}.md").read_text()
        assert path.stem in found
        shown = page.partition("In the terminal")[2]
        assert shown
        assert not {word for word in ("c2VjcmV0", '"secret"') if word in shown}


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
        (tmp_path / title).parent.mkdir(exist_ok=True)
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


def test_the_enricher_and_the_command_of_the_docs(tmp_path: Path) -> None:
    for title, body in files_of(DOCS / "write-a-sink.md").items():
        (tmp_path / title).write_text(body)
    ping = "ffffffffffff 000000000000 0800 4500001c 0001 0000 4001 0000 0a000001 0a000002 0800 0000 0001 0001"
    done = kshark(
        "run", "-q", "--plugin", "one_backend.py", "--plugin", "tenant_enricher.py", "--backend", f"one:{ping}",
        "--filter", 'tenant.name == "home"', "--sink", "jsonl:-,full", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"tenant":{"name":"home"}' in done.stdout
    code = "from hello_command import register_commands as r; import click; g = click.Group(); r(g); print(*g.commands)"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["hello"]


def test_the_plugin_that_reads_bodies(tmp_path: Path) -> None:
    """Its own test passes, and a run gives it what it wants."""
    for title, body in files_of(DOCS / "write-a-sink.md").items():
        (tmp_path / title).write_text(body)
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_soap_enricher.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout
    ping = "ffffffffffff 000000000000 0800 4500001c 0001 0000 4001 0000 0a000001 0a000002 0800 0000 0001 0001"
    done = kshark(
        "run", "-q", "--plugin", "one_backend.py", "--plugin", "soap_enricher.py", "--backend", f"one:{ping}",
        "--sink", "jsonl:-", cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_filters_in_a_file_and_in_python(tmp_path: Path) -> None:
    files = files_of(DOCS / "filter.md")
    script = str(ROOT / "benchmarks" / "generate.py")
    subprocess.run(
        [sys.executable, script, "http", "--transactions", "3", "--out", str(tmp_path / "capture.pcap")],
        check=True, capture_output=True,
    )  # fmt: skip
    for title, body in files.items():
        (tmp_path / title).write_text(body)
    done = kshark("run", "--config", "kshark.toml", "--read", "capture.pcap", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = subprocess.run(
        [sys.executable, "wanted.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.stdout.startswith("3 True frozenset({'http'}) False"), told.stdout + told.stderr


# ---------------------------------------------------------------- nothing is undocumented


def undocumented() -> list[str]:
    """Hooks, options, fields, limits, commands and names of the kit of which no page speaks."""
    pages = {path.stem: path.read_text() for path in DOCS.rglob("*.md")}
    reference = {
        n: (DOCS / "reference" / f"{n}.md").read_text() for n in ("api", "options", "limits", "cli")
    }
    prose = "".join(text for name, text in pages.items() if name not in reference)
    found = [
        f"limit {name}" for name in limit_names() if f"| `{name}` |" not in reference["limits"]
    ]
    for hook in hook_names():
        found += [f"hook {hook}: no reference"] * (f"`{hook}(" not in reference["api"])
        found += [f"hook {hook}: no example"] * (f"def {hook}(" not in prose)
    for owner, options in option_owners().items():
        section = re.search(
            rf"^## {re.escape(owner)}\n(.*?)(?=^## |\Z)", reference["options"], re.M | re.S
        )
        for one in settings.fields(options):
            row = section and re.search(
                rf"^\| `{re.escape(one.key)}` \|.*\| (\S[^|]*) \|$", section[1], re.M
            )
            found += [f"option {one.key} of {owner}"] * (not row)
    plain = plugins.load(options=plugins.PluginOptions(allow=["nobody"])).protocols
    found += [f"field {one.name}" for one in known_fields(plain).values() if not one.doc.strip()]
    found += [f"command {name}" for name in cli.COMMANDS if f"kshark {name}" not in prose]
    kit = {"testing": kshark_testing.__all__, "grammars": kshark_grammar.__all__}
    found += [
        f"{name} on {page}.md"
        for page, names in kit.items()
        for name in names
        if name not in pages[page]
    ]
    return found


def limit_names() -> list[str]:
    """Every constant of `kshark.limits`: the units alone bound nothing."""
    return [
        name for name in vars(limits) if name.isupper() and name not in ("KIB", "MIB", "SECOND")
    ]


def hook_names() -> list[str]:
    return [name for name in vars(hookspecs) if name.startswith("register_")]


def option_owners() -> dict[str, type[api.Options]]:
    """Each table of options by the heading that it stands under."""
    found = plugins.load(options=plugins.PluginOptions(allow=["nobody"]))
    owners: dict[str, type[api.Options]] = {
        "A run": RunOptions,
        "Every sink": LaneOptions,
        "Plugins": plugins.PluginOptions,
    }
    kinds: dict[str, Any] = {
        "Backend": found.backends,
        "Sink": found.sinks,
        "Enricher": found.enrichers,
        "Protocol": {n: s for n, s in found.protocols.items() if s.options is not None},
    }
    for kind, specs in kinds.items():
        owners |= {f"{kind} {name}": spec.options for name, spec in specs.items()}
    return owners


def test_nothing_is_undocumented() -> None:
    assert undocumented() == []


def test_what_is_undocumented_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check bites: one of each kind is planted."""

    class More(RunOptions):
        planted: Annotated[int, api.option("")] = 0

    monkeypatch.setattr(limits, "PLANTED", 5, raising=False)
    monkeypatch.setattr(hookspecs, "register_planted", None, raising=False)
    monkeypatch.setitem(cli.COMMANDS, "planted", "kshark.cli_run")
    monkeypatch.setitem(globals(), "RunOptions", More)
    monkeypatch.setattr(kshark_grammar, "__all__", ["Planted"])
    schema = {"http.planted": FilterField("http.planted", "int", "", "")}
    monkeypatch.setitem(globals(), "known_fields", lambda protocols: schema)
    assert undocumented() == [
        "limit PLANTED", "hook register_planted: no reference", "hook register_planted: no example",
        "option planted of A run", "field http.planted", "command planted", "Planted on grammars.md",
    ]  # fmt: skip


def test_the_layer_of_the_docs() -> None:
    (code,) = files_of(DOCS / "carriers.md").values()
    names: dict[str, Any] = {}
    exec(compile(code, "kshark_upper.py", "exec"), names)
    (spec,) = names["register_protocols"]()
    assert not check(spec, api.ProtocolSpec)
    assert spec.layer(api.Message(api.Kind.REQUEST, "GET")) is None
    layer = spec.layer(api.Message(api.Kind.REQUEST, "POST"))
    lines = [*layer.feed(api.Side.CLIENT, b"one\ntw"), *layer.feed(api.Side.CLIENT, b"o\n")]
    assert [(m.verb, m.target, m.size, m.protocol) for m in lines] == [
        ("line", "one", 4, "upper"),
        ("line", "two", 4, "upper"),
    ]
    (whole,) = layer.end(api.Side.CLIENT, api.Message(api.Kind.REQUEST, "POST"))
    assert (whole.verb, whole.target, whole.protocol) == ("call", "one", "upper")
