"""What the benchmarks say of themselves: completeness, costs, the closing line of a live run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gate
import live
import measure
import offline
import pytest
import same_minute
from verify import verify


def line(number: int, answer: int | None = None, **more: Any) -> bytes:
    entry: dict[str, Any] = {
        "protocol": "http",
        "request": {"target": f"/api/t{number:09d}?x"},
        "response": {"status": 200},
        "outcome": "ok",
        **more,
    }
    if answer is not None:
        entry["http"] = {"response": {"headers": [["x-request-id", f"t{answer:09d}"]]}}
    return json.dumps(entry).encode()


def test_a_complete_output_has_no_problems() -> None:
    report = verify([line(0, 0), line(2, 2), line(1, 1)], 3)
    assert report.problems() == []
    assert report.line() == (
        "all 3 transactions are there, once, and paired, 3 answers are their own"
    )


@pytest.mark.parametrize(
    ("lines", "problems"),
    [
        ([line(0)], ["1 missing"]),
        ([line(0), line(1), line(1)], ["1 doubled"]),
        ([line(0), line(1, response=None, outcome="unanswered")], ["1 unpaired"]),
        ([line(0), line(1), line(0, request=None)], ["1 foreign"]),
        ([line(0, 1), line(1, 1)], ["1 wrong"]),
        ([line(0), line(1, 10)], ["1 wrong"]),
    ],
)
def test_what_is_not_complete_is_told(lines: list[bytes], problems: list[str]) -> None:
    report = verify(lines, 2)
    assert report.problems() == problems
    assert report.line().startswith(f"NOT complete: {problems[0]}")


def test_a_connection_without_a_request_is_no_transaction() -> None:
    report = verify([line(0), line(0, protocol="tcp", request={"target": ""})], 1)
    assert (report.problems(), report.flows) == ([], 1)


def test_an_integer_may_be_the_answer() -> None:
    entry = line(41, protocol="redis", redis={"response": {"value": 41}})
    assert verify([entry], 42).wrong == 0
    entry = line(41, protocol="redis", redis={"response": {"value": 410}})
    assert verify([entry], 42).wrong == 1


def test_the_cost_of_a_process_includes_its_memory() -> None:
    code = "import sys; x = b'x' * 100_000_000; sum(range(2_000_000)); sys.stderr.write('a\\nb')"
    cost = measure.run([sys.executable, "-c", code])
    assert cost.peak > 100_000_000
    assert cost.cpu > 0.005
    assert (cost.code, cost.said) == (0, "b")
    assert measure.run([sys.executable, "-c", "raise SystemExit(3)"]).code == 3


def test_the_middle_of_costs_keeps_a_failure() -> None:
    costs = [measure.Cost(cpu, cpu, 10, code) for cpu, code in ((1, 0), (5, 1), (2, 0))]
    found = measure.middle(costs)
    assert (found.cpu, found.code) == (2, 1)


def test_a_missing_tool_has_no_version() -> None:
    assert measure.version("no-such-tool-of-that-name") == ""


def result(name: str, cpu: float, code: int = 0, startup: float = 0.0) -> offline.Result:
    cost = measure.Cost(cpu, cpu, 30_000_000, code, "why")
    return offline.Result(name, cost, 1_000, 4_000, 1, "remark", startup)


def test_ratios_are_to_tuned_tshark_without_its_start_up() -> None:
    rows = offline.shown([result("kshark", 0.5), result("tshark tuned", 11.0, 0, 1.0)])
    assert "20.0" in rows.splitlines()[1]
    assert " 100 " in rows.splitlines()[2]


def test_a_tool_that_failed_gets_no_rate() -> None:
    row = offline.shown([result("kshark", 0.5, -11)]).splitlines()[1]
    assert "FAILED with -11: why" in row
    assert "2,000" not in row


def test_the_closing_line_of_a_live_run() -> None:
    said = (
        "kshark: af_packet eth0\nkshark: 229,450 packets, 1,200 lost (af_packet: ring); 114,660 "
        "entries (114,658 ok); jsonl 114,650, 10 lost (drop_oldest); 4.8 s\n"
    )
    assert live.counts(said) == (114_650, 229_450, 1_200)


def minute(port: int, second: int, verb: str = "GET", **more: Any) -> str:
    entry: dict[str, Any] = {
        "time": f"2026-01-02T03:04:{second:02d}.5Z",
        "protocol": "http",
        "src": {"ip": "10.0.0.1", "port": port},
        "dst": {"ip": "10.0.0.2", "port": 80},
        "request": {"verb": verb, "target": "/"},
        "response": {"status": 200},
        "outcome": "ok",
        "midstream": False,
        **more,
    }
    return json.dumps(entry)


def test_the_same_minute_by_two_ways() -> None:
    """What is at the edges, was joined in mid-stream, or is no talk of processes, is not missed."""
    files = {
        "ebpf": [minute(1, 10), minute(2, 11), minute(2, 11), minute(4, 1)],
        "af_packet": [minute(1, 10), minute(2, 12), minute(5, 59), minute(6, 20, midstream=True)],
    }
    files["af_packet"] += [minute(7, 20, protocol="icmp"), minute(8, 20, "PUT")]
    found = same_minute.compare(files, "2026-01-02T03:04:05", "2026-01-02T03:04:55")  # type: ignore[arg-type]
    assert found.both == 2
    assert [sum(only.values()) for only in found.only.values()] == [1, 1]
    assert "PUT" in next(iter(found.only["af_packet"]))
    assert not found.same


def test_the_gate(capsys: pytest.CaptureFixture[str]) -> None:
    """A tenth more passes; of figures that another interpreter accepted, a half more."""
    accepted = {"interpreter": gate.interpreter(), "instructions": {"http": 1000, "dns": 1000}}
    assert gate.compare({"http": 1100, "dns": 300}, accepted) == 0
    assert gate.compare({"http": 1101, "dns": 300}, accepted) == 1
    assert "TOO SLOW" in capsys.readouterr().out
    accepted["interpreter"] = "another"
    assert gate.compare({"http": 1500, "dns": 300}, accepted) == 0
    assert gate.compare({"http": 1501, "dns": 300}, accepted) == 1


def test_the_table_from_the_command_line(tmp_path: Path) -> None:
    """kshark alone, on a small capture: complete, and the figures as JSON."""
    script = Path(offline.__file__)
    argv = [sys.executable, str(script), "--transactions", "400", "--tshark-transactions", "100"]
    argv += ["--rounds", "2", "--only", "kshark compiled", "--json", str(tmp_path / "x.json")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "all 400 transactions are there, once, and paired" in done.stdout
    assert "100 answers are their own" in done.stdout
    figures = json.loads((tmp_path / "x.json").read_text())
    assert [r["name"] for r in figures["results"]] == ["kshark compiled"]
