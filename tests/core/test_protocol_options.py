"""Options of protocols: from the file and the environment to `ProtocolSpec.configure`, and what plugins do wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from kshark._spec_checks import check
from kshark.api import Block, Options, PluginError, ProtocolSpec
from kshark.engine import Engine, EngineSettings
from kshark.places import places
from kshark.plan import make_plan
from kshark.settings import Given
from kshark.source import checked

PLUGIN = """
from typing import Annotated
from kshark.api import Framed, Options, PluginError, ProtocolSpec, hookimpl, option

class MineOptions(Options):
    greeting: Annotated[str, option("What a client says first")] = "HI"

def configure(options):
    {configure}

def spec(greeting="HI"):
    magic = (greeting.encode(),)
    return ProtocolSpec(
        name="mine", dissector=Framed, magic=magic, options=MineOptions, configure=configure
    )

@hookimpl
def register_protocols():
    return [spec()]
"""


def planned(
    folder: Path, configure: str, table: str = "", environ: dict[str, str] | None = None
) -> ProtocolSpec:
    """The protocol of the plugin as a run has it."""
    (folder / "mine.py").write_text(PLUGIN.format(configure=configure))
    (folder / "kshark.toml").write_text(table)
    (folder / "x.pcap").write_bytes(b"")
    line = {"read": Given([str(folder / "x.pcap")], "--read")}
    where = places(line, str(folder / "kshark.toml"), environ=environ or {})
    return make_plan(where, [str(folder / "mine.py")]).registry.protocols["mine"]


GOOD = "return spec(options.greeting)"


def test_the_file_and_the_environment(tmp_path: Path) -> None:
    table = '[protocol.mine]\ngreeting = "AHOY"\n'
    assert planned(tmp_path, GOOD).magic == (b"HI",)
    assert planned(tmp_path, GOOD, table).magic == (b"AHOY",)
    environ = {"KSHARK_PROTOCOL_MINE_GREETING": "HEY"}
    assert planned(tmp_path, GOOD, table, environ).magic == (b"HEY",)


@pytest.mark.parametrize(
    ("configure", "said"),
    [
        ("raise PluginError('no such greeting')", "^no such greeting$"),
        ("1 / 0", r"protocol mine: configure\(\) raised ZeroDivisionError"),
        ("return None", r"protocol mine: configure\(\) gave no ProtocolSpec of that name"),
        (
            "return ProtocolSpec(name='other', dissector=Framed)",
            "gave no ProtocolSpec of that name",
        ),
    ],
)
def test_what_a_plugin_does_wrong(tmp_path: Path, configure: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        planned(tmp_path, configure)


def test_wrong_options(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"has no option 'greting'; did you mean greeting"):
        planned(tmp_path, GOOD, '[protocol.mine]\ngreting = "x"\n')


def test_a_spec_is_checked() -> None:
    spec = ProtocolSpec(name="mine", dissector=Engine, options=Options)  # type: ignore[arg-type]
    assert "configure must be callable" in check(spec, ProtocolSpec)
    spec = ProtocolSpec(name="mine", dissector=Engine, options=int, configure=print)  # type: ignore[arg-type]
    assert "options must be a subclass" in check(spec, ProtocolSpec)
    spec = ProtocolSpec(name="mine", dissector=Engine, secrets=3)  # type: ignore[arg-type]
    assert "secrets must be callable" in check(spec, ProtocolSpec)


# ---------------------------------------------------------------- secrets of captures


def block(*secrets: bytes) -> Block:
    return Block(b"", b"", 0, 1, secrets=secrets)


def test_secrets_reach_whoever_wants_them() -> None:
    heard: list[bytes] = []
    mine = ProtocolSpec(name="mine", dissector=Engine, secrets=heard.append)  # type: ignore[arg-type]
    other = ProtocolSpec(name="other", dissector=Engine)  # type: ignore[arg-type]
    Engine([mine, other], EngineSettings(only=frozenset({"other"}))).feed(block(b"a", b"b"))
    assert heard == [b"a", b"b"]


def test_who_fails_at_them_is_blamed() -> None:
    said: list[str] = []
    mine = ProtocolSpec(name="mine", dissector=Engine, secrets=lambda one: 1 / 0)  # type: ignore[arg-type]
    engine = Engine([mine], None, said.append)
    engine.feed(block(b"a"))
    assert engine.ledger.errors == {"mine: ZeroDivisionError in the plugin": 1}
    assert "secrets()" in said[0]


def test_a_backend_gives_bytes() -> None:
    checked(block(b"a"))
    with pytest.raises(TypeError, match="secrets are not a tuple of bytes"):
        checked(Block(b"", b"", 0, 1, secrets=["a"]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="secrets are not a tuple of bytes"):
        checked(Block(b"", b"", 0, 1, secrets=b"a"))  # type: ignore[arg-type]
