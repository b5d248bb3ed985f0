"""Plugins: found by three ways, taken over whole or refused with one line, and never fatal."""

from __future__ import annotations

import importlib
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import click
import pytest

from kshark import hookspecs, limits, plugins
from kshark._spec_checks import check
from kshark.api import PluginError, ProtocolSpec
from kshark.plugins import DEFAULT_PLUGINS, PluginOptions, Registry, add_commands, load

HEAD = "from kshark.api import *\nfrom kshark.api import hookimpl\n"
ECHO = """
class Echo:
    def feed(self, side, data): return ()
    def gap(self, side, missing): return ()
    def close(self): return ()

@hookimpl
def register_protocols():
    return [ProtocolSpec(name="{name}", dissector=Echo, magic=(b"ECHO ",))]
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a plugin file; gives its path."""

    def write(text: str, name: str = "mine") -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(HEAD + dedent(text))
        return str(path)

    return write


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a distribution with an entry point in a folder of its own on sys.path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def install(name: str, module: str, text: str, version: str = "1.2") -> None:
        (site / f"{module}.py").write_text(HEAD + dedent(text))
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[kshark]\n{module} = {module}\n")
        importlib.invalidate_caches()

    yield install
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(*files: str, needed: object = None) -> str:
    """Load; give why the last plugin was refused."""
    found = load(files, needed={})
    assert found.plugins[-1].refused
    assert not found.plugins[-1].registered
    assert "\n" not in found.plugins[-1].line()
    return found.plugins[-1].refused


# ---------------------------------------------------------------- found


def test_every_builtin_registers_its_own_name_and_nothing_else() -> None:
    found = load()
    for module in DEFAULT_PLUGINS:
        _, kind, name = module.split(".")
        plugin = next(p for p in found.plugins if p.source == module)
        assert plugin.registered[0] == f"{kind.removesuffix('s')} {name}", plugin.line()
        others = {"grpc-types"} if name == "grpc" else set()  # asks servers: an enricher
        assert {one.split()[1] for one in plugin.registered} == {name} | others


def test_builtins_that_are_not_needed_are_not_loaded() -> None:
    found = load(needed={"sinks": ["console"]})
    assert list(found.sinks) == ["console"]
    assert not found.protocols
    assert not found.backends


def test_entry_point(installed: Callable[..., None]) -> None:
    installed("kshark-echo", "kshark_echo", ECHO.format(name="echo"))
    found = load(needed={})
    assert list(found.protocols) == ["echo"]
    (plugin,) = found.plugins
    assert (plugin.name, plugin.origin, plugin.source) == (
        "kshark_echo",
        "entry point",
        "kshark_echo",
    )
    assert (plugin.distribution, plugin.version) == ("kshark-echo", "1.2")
    assert plugin.registered == ["protocol echo"]


def test_file(plugin: Callable[..., str]) -> None:
    path = plugin(ECHO.format(name="echo"))
    found = load([path], needed={})
    assert found.plugins[0].origin == "file"
    assert found.plugins[0].source == path
    assert found.protocols["echo"].magic == (b"ECHO ",)


def test_files_of_the_configuration_and_twice_the_same(plugin: Callable[..., str]) -> None:
    path = plugin(ECHO.format(name="echo"))
    found = load([path, path], PluginOptions(files=[path]), needed={})
    assert len(found.plugins) == 1


def test_a_file_that_does_not_exist_is_the_users_mistake() -> None:
    with pytest.raises(PluginError, match=r"--plugin no.py: there is no such file"):
        load(["no.py"], needed={})


def test_a_generator_of_specs_is_fine(plugin: Callable[..., str]) -> None:
    text = ECHO.format(name="echo").replace("return [Pro", "yield Pro").replace(",))]", ",))")
    assert list(load([plugin(text)], needed={}).protocols) == ["echo"]


# ---------------------------------------------------------------- refused, and the rest runs


BAD = {
    "import": ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
    "syntax": ("def (", "SyntaxError: invalid syntax"),
    "raises": ("raise RuntimeError('boom\\nsecond')", "RuntimeError: boom (mine.py line 3)"),
    "exit": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt (mine.py line 3)"),
    "cancel": ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
    "no base": ("class E(BaseException): pass\nraise E", "E (mine.py line 4)"),
    "evil text": (
        "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
        "E (mine.py line 5)",
    ),
    "forever": ("while True: pass", "it took over 0.2 s (mine.py line 3)"),
    "forever, and on": (
        "while True:\n    try: len('')\n    except Exception: pass",
        "it took over 0.2 s (mine.py line",
    ),
    "sleeps": ("import time; time.sleep(3600)", "it took over 0.2 s (mine.py line 3)"),
    "hook forever": (
        "@hookimpl\ndef register_sinks():\n    while True: pass",
        "it took over 0.2 s",
    ),
    "nothing": (
        "@hookimpl\ndef register_sinks(): pass",
        "register_sinks must return a list of specs, not None",
    ),
    "empty": ("x = 1", "registers nothing"),
    "unknown hook": (
        "@hookimpl\ndef register_protcols(): return []",
        "there is no hook 'register_protcols'; did you mean register_protocols?",
    ),
    "signature": (
        "@hookimpl\ndef register_sinks(app): return []",
        "register_sinks takes {'app'}, which this hook does not give",
    ),
    "hook raises": (
        "@hookimpl\ndef register_sinks(): return 1 / 0",
        "ZeroDivisionError: division by zero (mine.py line 4)",
    ),
    "no list": ("@hookimpl\ndef register_sinks(): return 5", "return a list of specs, not int"),
    "a string": ("@hookimpl\ndef register_sinks(): return 'x'", "list of specs, not str"),
    "endless": (
        "import itertools\n@hookimpl\ndef register_sinks(): return itertools.count()",
        "more than 1000 specs",
    ),
    "wrong spec": (
        "@hookimpl\ndef register_sinks(): return [ProtocolSpec(name='x', dissector=print)]",
        "register_sinks: SinkSpec expected, not ProtocolSpec",
    ),
    "a class": ("@hookimpl\ndef register_sinks(): return [SinkSpec]", "not the class SinkSpec"),
    "no name": (
        "@hookimpl\ndef register_sinks(): return [SinkSpec(name='A b', make=print)]",
        "'A b' is not a name",
    ),
    "own name": (
        "@hookimpl\ndef register_protocols(): return [ProtocolSpec(name='tcp', dissector=print)]",
        "the name 'tcp' is kshark's own",
    ),
    "magic": (
        "@hookimpl\ndef register_protocols():\n"
        "    return [ProtocolSpec(name='x', dissector=print, magic=b'ab')]",
        "x: magic must be a tuple of bytes",
    ),
    "empty magic": (
        "@hookimpl\ndef register_protocols():\n"
        "    return [ProtocolSpec(name='x', dissector=print, magic=(b'',))]",
        "none of them empty",
    ),
    "schema": (
        "@hookimpl\ndef register_protocols():\n"
        "    return [ProtocolSpec(name='x', dissector=print, request=dict)]",
        "x: request must be a subclass of kshark.api.Details",
    ),
    "ports": (
        "@hookimpl\ndef register_protocols():\n"
        "    return [ProtocolSpec(name='x', dissector=print, ports=(0,))]",
        "x: ports must be",
    ),
    "transport": (
        "@hookimpl\ndef register_protocols():\n"
        "    return [ProtocolSpec(name='x', dissector=print, transport='sctp')]",
        "x: transport must be tcp or udp",
    ),
    "also the same transport": (
        "one = ProtocolSpec(name='x', dissector=print)\n@hookimpl\ndef register_protocols():\n"
        "    return [ProtocolSpec(name='x', dissector=print, also=(one,))]",
        "x: also must be of other transports, not 'tcp', 'tcp'",
    ),
    "also another name": (
        "other = ProtocolSpec(name='y', dissector=print, transport='udp')\n"
        "@hookimpl\ndef register_protocols():\n"
        "    return [ProtocolSpec(name='x', dissector=print, also=(other,))]",
        "x: also must have the same name",
    ),
    "also of also": (
        "inner = ProtocolSpec(name='x', dissector=print)\n"
        "other = ProtocolSpec(name='x', dissector=print, transport='udp', also=(inner,))\n"
        "@hookimpl\ndef register_protocols():\n"
        "    return [ProtocolSpec(name='x', dissector=print, also=(other,))]",
        "x: also must have no also of its own",
    ),
    "also a wrong one": (
        "other = ProtocolSpec(name='x', dissector=5, transport='udp')\n"
        "@hookimpl\ndef register_protocols():\n"
        "    return [ProtocolSpec(name='x', dissector=print, also=(other,))]",
        "x: dissector must be callable",
    ),
    "also no spec": (
        "@hookimpl\ndef register_protocols():\n"
        "    return [ProtocolSpec(name='x', dissector=print, also=('udp',))]",
        "x: also must be a tuple of ProtocolSpec",
    ),
    "make": (
        "@hookimpl\ndef register_backends(): return [BackendSpec(name='x', make=5)]",
        "x: make must be callable",
    ),
    "options": (
        "@hookimpl\ndef register_backends(): return [BackendSpec(name='x', make=print, options=5)]",
        "x: options must be a subclass",
    ),
    "fanout's option": (
        "class O(Options):\n    queue: int = 1\n"
        "@hookimpl\ndef register_sinks(): return [SinkSpec(name='x', make=print, options=O)]",
        "the option 'queue' is one that kshark gives every sink",
    ),
    "itself twice": (
        "s = SinkSpec(name='x', make=print)\n@hookimpl\ndef register_sinks(): return [s, s]",
        "registers the sink 'x' twice",
    ),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PLUGIN_LOAD", limits.SECOND // 5)


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD.keys())
def test_refused(plugin: Callable[..., str], text: str, said: str) -> None:
    assert said in refusal(plugin(text))


@pytest.mark.parametrize("text", [t for t, _ in BAD.values()], ids=BAD.keys())
def test_the_others_run(plugin: Callable[..., str], text: str) -> None:
    bad, good = plugin(text, "bad"), plugin(ECHO.format(name="echo"), "good")
    assert list(load([bad, good], needed={}).protocols) == ["echo"]


def test_a_plugin_is_taken_over_whole_or_not_at_all(plugin: Callable[..., str]) -> None:
    path = plugin(ECHO.format(name="echo") + "\n@hookimpl\ndef register_sinks(): return [5]\n")
    found = load([path], needed={})
    assert not found.protocols
    assert found.plugins[0].registered == []


def test_a_real_interrupt_while_a_plugin_is_loaded(plugin: Callable[..., str]) -> None:
    path = plugin("import signal\nsignal.raise_signal(signal.SIGINT)")
    with pytest.raises(KeyboardInterrupt):
        load([path], needed={})
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_not_python(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("hello")
    assert "is not a Python file" in refusal(str(path))


def test_first_wins(plugin: Callable[..., str]) -> None:
    one, two = (plugin(ECHO.format(name="echo"), name) for name in ("one", "two"))
    found = load([one, two], needed={})
    assert found.plugins[1].refused == "the protocol 'echo' is there already, by one"


def test_a_file_that_is_named_goes_before_an_installed_copy(
    installed: Callable[..., None], plugin: Callable[..., str]
) -> None:
    installed("kshark-echo", "kshark_echo", ECHO.format(name="echo"))
    path = plugin(ECHO.format(name="echo"), "kshark_echo")
    found = load([path], needed={})
    assert found.protocols["echo"].dissector.__module__.startswith("kshark_plugin_")
    [told] = found.refused()
    assert told.line() == (
        f"plugin kshark_echo (kshark-echo 1.2) refused: the protocol 'echo' of the file {path} goes first"
    )


def test_a_mistake_in_a_grammar_is_told_with_the_plugins_line(plugin: Callable[..., str]) -> None:
    path = plugin(
        "import construct as c\nfrom kshark.grammar import Grammar, LengthPrefix\n"
        "G = Grammar('g', c.Struct('n' / c.Byte), LengthPrefix(1), verb='m')", "mine"
    )  # fmt: skip
    assert re.fullmatch(
        r"Grammar 'g': verb='m': there is no such field; there is n \(mine.py line \d+\)",
        refusal(path),
    )


def test_the_names_of_the_builtins_fields_can_be_said() -> None:
    for spec in load().protocols.values():
        assert "field" not in check(spec, ProtocolSpec), spec.name


def maker(found: Registry) -> object:
    return found.sinks["console"].make


@pytest.mark.parametrize("needed", [None, {}], ids=["loaded", "not loaded"])
def test_nobody_shadows_a_builtin(
    plugin: Callable[..., str], needed: dict[str, str] | None
) -> None:
    path = plugin(
        "@hookimpl\ndef register_sinks(): return [SinkSpec(name='console', make=print)]", "evil"
    )
    found = load([path], needed=needed)
    assert "the sink 'console' is there already" in found.plugins[-1].refused
    assert needed is not None or maker(found) is not print


def test_a_denied_builtin_may_be_replaced(plugin: Callable[..., str]) -> None:
    path = plugin("@hookimpl\ndef register_sinks(): return [SinkSpec(name='console', make=print)]")
    found = load([path], PluginOptions(deny=["sinks.console"]), needed={"sinks": ["console"]})
    assert maker(found) is print
    assert [p.refused for p in found.plugins] == ["denied by the plugins' deny list", ""]
    assert not found.refused()  # what the user denies is no news to him


def test_deny_and_allow_by_pattern(
    installed: Callable[..., None], plugin: Callable[..., str]
) -> None:
    installed("kshark-a", "kshark_a", ECHO.format(name="a"))
    installed("kshark-b", "kshark_b", ECHO.format(name="b"))
    assert list(load(options=PluginOptions(deny=["*_a"]), needed={}).protocols) == ["b"]
    allowed = PluginOptions(allow=["kshark_a"])
    own = plugin(ECHO.format(name="own"))  # named by the user, so it is allowed
    assert list(load([own], allowed, needed={}).protocols) == ["own", "a"]


def test_an_entry_point_that_cannot_be_imported_names_its_distribution(
    installed: Callable[..., None],
) -> None:
    installed("kshark-bad", "kshark_bad", "import nothing_of_this_name")
    (plugin,) = load(needed={}).plugins
    assert plugin.line() == (
        "plugin kshark_bad (kshark-bad 1.2) refused: "
        "ModuleNotFoundError: No module named 'nothing_of_this_name' (kshark_bad.py line 3)"
    )


# ---------------------------------------------------------------- looking up


def test_find_suggests() -> None:
    with pytest.raises(PluginError, match=r"^--sink jsnol: no sink 'jsnol'; did you mean jsonl\?$"):
        load(needed={}).find("sinks", "jsnol", "--sink jsnol")


def test_find_says_when_a_plugin_was_refused(plugin: Callable[..., str]) -> None:
    with pytest.raises(PluginError, match="a plugin was refused: kshark plugins"):
        load([plugin("raise RuntimeError")], needed={}).find("protocols", "mqtt")


def test_find_says_why_a_builtin_is_not_there() -> None:
    found = load(options=PluginOptions(deny=["sinks.pcap"]), needed={})
    with pytest.raises(PluginError, match="the sink 'pcap' is not there: denied"):
        found.find("sinks", "pcap")


# ---------------------------------------------------------------- trace and commands


def test_trace_shows_every_hook_call(
    plugin: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plugin(ECHO.format(name="echo"))
    load([path], needed={})
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("KSHARK_TRACE_PLUGINS", "1")
    load([path], needed={})
    shown = capsys.readouterr().err
    assert "hook register_protocols of file mine" in shown
    assert "ProtocolSpec(name='echo'" in shown


def test_commands(plugin: Callable[..., str]) -> None:
    good = plugin(
        "import click\n@hookimpl\ndef register_commands(cli):\n"
        "    @cli.command()\n    def hello(): click.echo('hi')\n"
        "    @cli.command()\n    def run(): click.echo('evil')\n",
        "good",
    )
    bad = plugin("@hookimpl\ndef register_commands(cli): 1 / 0", "bad")
    own = click.Command("run")
    cli = click.Group(commands={"run": own})
    found: Registry = load([bad, good], needed={})
    add_commands(found, cli)
    assert cli.commands["run"] is own
    assert "hello" in cli.commands
    assert "ZeroDivisionError" in found.plugins[0].refused
    assert found.plugins[1].refused == "the command 'run' is there already"
    assert found.plugins[1].registered == ["command hello"]


def test_the_hooks_are_those_of_the_documentation() -> None:
    names = {n for n in vars(hookspecs) if n.startswith("register_")}
    assert names == {f"register_{kind}" for kind in [*plugins.KINDS, "commands"]}


def test_a_protocol_is_given_its_options(tmp_path: Path) -> None:
    """From the environment, the file's table, or a flag of the run; what `configure` returns takes its place."""
    from google.protobuf import descriptor_pb2

    from kshark.places import Places
    from kshark.plan import make_plan

    path = tmp_path / "types.pb"
    file = descriptor_pb2.FileDescriptorProto(name="a.proto")
    file.message_type.add(name="A")
    path.write_bytes(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())
    capture = tmp_path / "x.pcap"
    capture.write_bytes(b"\xd4\xc3\xb2\xa1\x02\0\x04\0" + bytes(8) + b"\xff\xff\0\0\x01\0\0\0")
    environ = {"KSHARK_READ": str(capture), "KSHARK_SINK": "jsonl:-"}
    plain = make_plan(Places(environ=environ)).registry.protocols["grpc"]
    for more in ({"KSHARK_PROTO": str(path)}, {"KSHARK_PROTOCOL_GRPC_PROTO": str(path)}):
        given = make_plan(Places(environ={**environ, **more})).registry.protocols["grpc"]
        assert given.details is not plain.details
    with pytest.raises(PluginError, match="nowhere"):
        make_plan(
            Places(environ=environ, tables={"protocol": {"grpc": {"proto": ["/nowhere.pb"]}}})
        )
