"""The hooks of the backend ``ebpf`` in a guest, since this machine's kernel may refuse them: real traffic, all sets."""

from __future__ import annotations

import json
from typing import Any

import guest
import pytest

pytestmark = pytest.mark.kernel
Entry = dict[str, Any]
NOISE = {"time", "latency_ns", "duration_ns", "id"}
SENT = {
    ("http", "/small", 200, "curl", "nginx", 0),
    ("http", "/64k", 200, "curl", "nginx", 65_536),
    ("http", "/nosuch", 404, "curl", "nginx", 0),
    ("http", "/peek", 200, "python3", "python3", 0),
    ("redis", "k", 0, "redis-cli", "redis-server", 0),
    ("dns", "known.test", 0, "dig", "dnsmasq", 0),
    *(("dns", f"{name}.test", 0, "python3", "python3", 0) for name in "abcd"),
}
"""Protocol, target, status, both commands, and the bytes that pass through no process, of what inside.py sends."""
CALLS = 11
"""SET and GET have the same row."""


def row(entry: Entry) -> tuple[Any, ...]:
    source, target = entry["src"], entry["dst"]
    status = entry["response"]["status"] if entry["protocol"] == "http" else 0
    what = entry["protocol"], entry["request"]["target"], status
    return *what, source["comm"], target["comm"], entry["gap_bytes"]


def plain(entries: list[Entry]) -> list[str]:
    """Entries without what differs from round to round."""
    found = []
    for entry in entries:
        for half in (entry, entry["request"], entry["response"]):
            for key in NOISE & set(half):
                del half[key]
        for end in ("src", "dst"):
            del entry[end]["pid"], entry[end]["tid"], entry[end]["port"]
        found.append(json.dumps(entry, sort_keys=True))
    return sorted(found)


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, guest.Round]:
    """By the name of the set."""
    rounds = [
        {"name": name, "arguments": ["--backend", f"ebpf:,hooks={name}"], "entries": CALLS}
        for name in ("auto", "kprobe", "tracepoint")
    ]
    # Preemptible: programs at functions are interrupted there, and by each other.
    found = guest.run(guest.image(), rounds, tmp_path_factory.mktemp("guest"), "preempt=full")
    return {one["name"]: one for one in found}


@pytest.mark.parametrize("name", ["auto", "kprobe", "tracepoint"])
def test_what_was_sent_is_what_is_shown(captured: dict[str, guest.Round], name: str) -> None:
    found = captured[name]
    assert found["code"] == 0, found["said"]
    assert {row(entry) for entry in found["entries"]} == SENT
    assert len(found["entries"]) == CALLS


def test_they_say_where_each_process_lives(captured: dict[str, guest.Round]) -> None:
    ends = [e[end] for one in captured.values() for e in one["entries"] for end in ("src", "dst")]
    assert all(end["pid"] and end["tid"] and end["netns"] for end in ends)
    groups = {end.get("cgroup") for end in ends}
    assert {"/", "/calls"} <= groups <= {"/", "/calls", None}, (
        "None: it is looked for once a second"
    )


def test_the_best_set_is_taken(captured: dict[str, guest.Round]) -> None:
    assert "hooks: functions of the kernel (fentry)\n" in captured["auto"]["said"]
    assert "hooks: functions of the kernel (kprobe)\n" in captured["kprobe"]["said"]


def test_all_sets_tell_the_same(captured: dict[str, guest.Round]) -> None:
    first, second, third = (plain(one["entries"]) for one in captured.values())
    assert first == second == third
