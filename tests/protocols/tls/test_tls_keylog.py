"""Key logs: lines, files that grow, what is not one, blocks of pcapng, and how they reach the dissector."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_kit import NAME, V13, with_keys

import kshark
from kshark import limits, plugins
from kshark.api import PluginError, ProtocolSpec
from kshark.places import places
from kshark.plan import make_plan
from kshark.protocols.tls.keylog import KeyLog
from kshark.settings import Given
from kshark.testing import _packets, rows

RANDOM, OTHER = bytes(range(32)), bytes(32)
LINE = f"CLIENT_RANDOM {RANDOM.hex()} {'ab' * 48}\n"
MASTER = {"master": b"\xab" * 48}


def test_a_file_is_read_on_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# SSL/TLS secrets log file\n")
    keys = KeyLog(str(path))
    assert (keys.of(RANDOM), keys.asked) == ({}, True)
    with path.open("a") as file:
        file.write(LINE[:50])
        file.flush()
        assert keys.of(RANDOM) == {}
        file.write(LINE[50:])
        file.flush()
        assert keys.of(RANDOM) == MASTER
    path.write_text(LINE.replace(RANDOM.hex(), OTHER.hex()))  # begun anew
    path.write_text("")
    assert keys.of(OTHER) == {}
    path.write_text(LINE.replace(RANDOM.hex(), OTHER.hex()))
    assert keys.of(OTHER) == MASTER
    path.unlink()
    assert keys.of(RANDOM) == MASTER


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"--tls-keylog .*: No such file"):
        KeyLog(str(tmp_path / "none"))
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(PluginError, match="it is no regular file"):
            KeyLog(str(path))


@pytest.mark.parametrize(
    "held", [b"-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n", b"root:x:0\n", b"\xd4\xc3\xb2\xa1\n\0\n"]
)
def test_a_file_that_is_no_key_log(tmp_path: Path, held: bytes) -> None:
    """Who names the server's key, or the capture, is told; an empty file may fill."""
    path = tmp_path / "wrong"
    path.write_bytes(held)
    with pytest.raises(PluginError, match=r"--tls-keylog .*/wrong: it is no key log"):
        KeyLog(str(path))
    path.write_bytes(b"\n# comment\nRSA 01 02\n")
    KeyLog(str(path))
    path.write_bytes(held + LINE.encode())
    assert KeyLog(str(path)).of(RANDOM) == MASTER


def test_a_last_line_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(LINE.strip())
    keys = KeyLog(str(path))
    assert keys.of(RANDOM) == MASTER
    path.write_text(f"{LINE}{LINE.replace(RANDOM.hex(), OTHER.hex())[:-5]}")
    assert KeyLog(str(path)).of(OTHER) == {}


@given(st.binary(max_size=300))
def test_any_bytes_may_be_a_key_log(data: bytes) -> None:
    keys = KeyLog()
    keys.learn(data)
    keys.learn(b"CLIENT_RANDOM " + data)


def test_odd_lines_are_passed_over() -> None:
    keys = KeyLog()
    keys.learn(b"\n".join([
        b"RSA 0123456789abcdef " + b"00" * 48,
        b"CLIENT_RANDOM " + b"00" * 31 + b" " + b"11" * 48,
        b"CLIENT_RANDOM " + b"zz" * 32 + b" " + b"11" * 48,
        b"NO_SUCH_LABEL " + b"00" * 32 + b" " + b"11" * 48,
        b"CLIENT_RANDOM " + b"00" * 32 + b" " + b"11" * 4000,
    ]))  # fmt: skip
    assert keys.known == {}
    keys.learn(LINE.upper().replace("\n", "\r\n").encode())
    assert keys.known == {RANDOM: MASTER}


def test_only_so_many_connections_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TLS_SECRETS", 10)
    keys = KeyLog()
    for number in range(15):
        keys.learn(LINE.replace(RANDOM.hex(), f"{number:064x}").encode())
    assert len(keys.known) == 10
    assert keys.forgotten == 5
    assert keys.of((14).to_bytes(32, "big")) == MASTER


def test_a_look_reads_no_more_than_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text("")
    keys = KeyLog(str(path))
    monkeypatch.setattr(limits, "TLS_KEYLOG_READ", 100)
    path.write_text(LINE)
    assert keys.of(RANDOM) == {}
    assert keys.of(RANDOM) == MASTER


# ---------------------------------------------------------------- from the line to the entries


def pcapng(frames: list[bytes], secrets: bytes, kind: int = 0x544C534B, big: bool = False) -> bytes:
    """A capture whose secrets come after its first packet."""
    mark = ">" if big else "<"

    def block(number: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        size = struct.pack(mark + "I", len(body) + 12)
        return struct.pack(mark + "I", number) + size + body + size

    def packet(number: int, frame: bytes) -> bytes:
        stamp = 1_700_000_000_000_000 + number
        head = struct.pack(
            mark + "IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(frame), len(frame)
        )
        return block(6, head + frame)

    section = struct.pack(mark + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    keys = block(10, struct.pack(mark + "II", kind, len(secrets)) + secrets)
    packets = [packet(number, frame) for number, frame in enumerate(frames)]
    start = block(0x0A0D0D0A, section) + block(1, struct.pack(mark + "HHI", 228, 0, 0))
    return start + packets[0] + keys + b"".join(packets[1:])


@pytest.fixture
def capture(tmp_path: Path) -> tuple[Path, Path, list[bytes]]:
    """A capture without secrets, its key log, and its packets."""
    talk, _ = with_keys(tmp_path / "keys", V13)
    start, middle, end = _packets.packets(talk, 1_000)
    frames = [*start, *middle, *end]
    path = tmp_path / "plain.pcapng"
    path.write_bytes(pcapng(frames, b""))
    return path, tmp_path / "keys", frames


OPAQUE = [f"hello {NAME} -> 1.3 [ok]", f"FLOW {NAME} -> . [ok]"]
CLEAR = [f"hello {NAME} -> 1.3 [ok]", "GET /secret -> 200 [ok]"]


@pytest.mark.parametrize("big", [False, True])
def test_secrets_of_a_capture(capture: tuple[Path, Path, list[bytes]], big: bool) -> None:
    path, keys, frames = capture
    assert rows(kshark.read(path)) == OPAQUE
    path.write_bytes(pcapng(frames, keys.read_bytes(), big=big))
    assert rows(kshark.read(path)) == CLEAR
    path.write_bytes(pcapng(frames, keys.read_bytes(), kind=0x57474B4C, big=big))  # WireGuard's
    assert rows(kshark.read(path)) == OPAQUE


def test_damaged_secrets(capture: tuple[Path, Path, list[bytes]]) -> None:
    path, keys, frames = capture
    data = pcapng(frames, keys.read_bytes())
    at = data.index(struct.pack("<I", 0x544C534B))
    path.write_bytes(data[: at + 4] + b"\xff\xff\xff\x7f" + data[at + 8 :])
    assert rows(kshark.read(path)) == OPAQUE


def test_dissect(capture: tuple[Path, Path, list[bytes]], tmp_path: Path) -> None:
    talk, _ = with_keys(tmp_path / "again", V13)
    text = "".join(f"{'><'[side]} {data.hex()}\n" for side, data in talk)
    command = [sys.executable, "-m", "kshark", "dissect", "--protocol", "tls", "--hex"]

    def shown(*words: str) -> list[str]:
        done = subprocess.run(
            [*command, *words], input=text, capture_output=True, text=True, check=True
        )
        return [*done.stdout.splitlines(), *done.stderr.splitlines()]

    closed, opened = shown(), shown("--tls-keylog", str(tmp_path / "again"))
    assert closed[0].startswith(f"> request hello {NAME}")
    assert closed[-1] == "kshark: from here on nothing can be read: encrypted"
    assert [line.split(" bytes")[0].rpartition(" ")[0] for line in opened[2:]] == [
        "> request GET /secret", "< response 200",
    ]  # fmt: skip


def test_blocks_of_secrets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from kshark.backends import _pcapng

    monkeypatch.setattr(_pcapng, "SECRET_BLOCKS", 3)
    reader = _pcapng.Pcapng(bytearray())
    for number in range(5):
        reader._learn(struct.pack("<III", 0x544C534B, 4, number), "little")
    assert [int.from_bytes(one, "little") for one in reader._secrets] == [2, 3, 4]


def test_python(capture: tuple[Path, Path, list[bytes]]) -> None:
    path, keys, _ = capture
    assert rows(kshark.read(path, tls_keylog=keys)) == CLEAR
    only = list(kshark.read(path, tls_keylog=keys, protocols=["http"]))
    assert [one.protocol for one in only] == ["http"]


def test_the_line(capture: tuple[Path, Path, list[bytes]]) -> None:
    path, keys, _ = capture
    command = [sys.executable, "-m", "kshark", "run", "--read", str(path), "--sink", "jsonl:-"]
    found = subprocess.run(
        [*command, "--tls-keylog", str(keys)], capture_output=True, text=True, check=True
    )
    shown = [json.loads(line) for line in found.stdout.splitlines()]
    assert [one["protocol"] for one in shown] == ["tls", "http"]
    assert shown[1]["request"]["target"] == "/secret"
    wrong = subprocess.run(
        [*command, "--tls-keylog", "/none"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert wrong.stderr == "kshark: --tls-keylog /none: No such file or directory\n"


def held(spec: ProtocolSpec) -> KeyLog:
    """The key log of a protocol."""
    found: KeyLog = spec.secrets.__self__  # type: ignore[union-attr]
    return found


def test_the_file_and_the_environment(
    capture: tuple[Path, Path, list[bytes]], tmp_path: Path
) -> None:
    path, keys, _ = capture
    settings = tmp_path / "kshark.toml"
    settings.write_text(f'[protocol.tls]\nkeylog = "{keys}"\n')
    line = {"read": Given([str(path)], "--read")}
    for where in (
        places(line, str(settings), environ={}),
        places(line, environ={"KSHARK_PROTOCOL_TLS_KEYLOG": str(keys)}),
        places(line, environ={"KSHARK_TLS_KEYLOG": str(keys)}),
    ):
        plan = make_plan(where)
        assert plan.notes == []
        assert held(plan.registry.protocols["tls"]).path == str(keys)
    settings.write_text('[protocol.tls]\nkeyfile = "x"\n')
    with pytest.raises(PluginError, match=r"has no option 'keyfile'"):
        make_plan(places(line, str(settings), environ={}))
    settings.write_text("[protocol.tsl]\n")
    assert "no such protocol; did you mean tls?" in str(
        make_plan(places(line, str(settings), environ={})).notes
    )


def test_runs_do_not_share_secrets() -> None:
    one, two = plugins.load().protocols["tls"], plugins.load().protocols["tls"]
    assert one.secrets is not None
    one.secrets(LINE.encode())
    assert held(one).known
    assert not held(two).known
