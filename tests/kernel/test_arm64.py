"""The backend ``ebpf`` on arm64: its programs, its registers, its numbers of system calls, in an emulated machine."""

from __future__ import annotations

import arm64
import guest
import pytest
from image import ROOT
from kit_go import build
from test_hooks import CALLS, SENT, row

pytestmark = pytest.mark.kernel
CLEAR = {("GET", "/openssl"), ("POST", "/go")}
"""What is asked over TLS: by curl of a server of Python's, and by a Go program of another."""


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, guest.Round]:
    """By the name of the round."""
    folder = tmp_path_factory.mktemp("arm64")
    debian = arm64.debian()
    made = arm64.image(debian, arm64.programs(debian, folder))
    go = build(folder, "go", "-s", "-w", GOARCH="arm64", CGO_ENABLED="0")
    made.file("/kshark/go", go)
    made.file("/kshark/over_tls.py", ROOT / "tests/kernel/over_tls.py")
    rounds: list[guest.Round] = [
        {
            "name": name,
            "arguments": ["--backend", f"ebpf:,hooks={name},tls=false"],
            "entries": CALLS,
        }
        for name in ("auto", "tracepoint")
    ]
    clear = {"name": "clear", "arguments": ["--backend", "ebpf:,ports=443,ports=8443"]}
    rounds.append(clear | {"entries": 6, "traffic": ["python3 /kshark/over_tls.py"]})
    machine = arm64.machine(debian)
    found = guest.run(made, rounds, folder, "preempt=full", memory=2048, machine=machine)
    return {one["name"]: one for one in found}


@pytest.mark.parametrize("name", ["auto", "tracepoint"])
def test_what_was_sent_is_what_is_shown(captured: dict[str, guest.Round], name: str) -> None:
    found = captured[name]
    assert found["code"] == 0, found["said"]
    assert {row(entry) for entry in found["entries"]} == SENT
    assert len(found["entries"]) == CALLS


def test_the_best_set_is_taken_and_why_not_the_better(captured: dict[str, guest.Round]) -> None:
    said = captured["auto"]["said"]
    assert "hooks: functions of the kernel (kprobe); not fentry: " in said
    assert "this kernel does not support it" in said


def test_tls_in_clear(captured: dict[str, guest.Round]) -> None:
    found = captured["clear"]
    assert found["code"] == 0, found["said"]
    clear = [e for e in found["entries"] if e["protocol"] == "http"]  # and the hellos before
    asked = {(e["request"]["verb"], e["request"]["target"]) for e in clear}
    assert asked == CLEAR, found["said"]
    ends = {(e["src"]["comm"], e["dst"]["comm"]) for e in clear}
    assert ends == {("curl", "python3"), ("go", "go")}
