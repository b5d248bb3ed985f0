"""Filters where they are used: a run, its sinks, the library, doctor; and the books with them."""

from __future__ import annotations

import asyncio
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import kshark
from kshark import session, settings
from kshark._spec_checks import FANOUT_KEYS
from kshark.api import PluginError
from kshark.app import Capture
from kshark.cli import cli, main
from kshark.engine import needed
from kshark.filter import known_fields
from kshark.lane import LaneOptions
from kshark.places import places
from kshark.plan import CARRIERS, HELD, Plan, builtin_names, make_plan
from kshark.plugins import load
from kshark.settings import Given
from kshark.testing._packets import Peers

FAKE = str(Path(__file__).parent.parent / "fake_plugin.py")


def planned(
    environ: dict[str, str] | None = None, config: str = "", plugin: str = "", **flags: Any
) -> Plan:
    """The plan of a run with fake packets: UDP, from ports 1024 to 1123."""
    flags = {"backend": ["fakefile"], "sink": ["fakesink"], **flags}
    line = {key: Given(value, f"--{key}") for key, value in flags.items() if value is not None}
    return make_plan(
        places(line, config, environ=environ or {}), [FAKE, plugin][: 1 + bool(plugin)]
    )


def ran(plan: Plan, codes: tuple[int, ...] = (0,)) -> Capture:
    capture = session.execute(plan, lambda text: None)
    assert capture.check() == []
    assert capture.code in codes
    return capture


def sinks(capture: Capture) -> dict[str, tuple[int, int, int]]:
    """By sink: entries that came, that it did not want, that it got."""
    books = capture.snapshot()["sinks"]
    return {n: (b["entries"], b["filtered"], b["delivered"]) for n, b in books.items()}


# ---------------------------------------------------------------- a run


def test_a_filter_for_all_sinks() -> None:
    capture = ran(planned(filter="src.port < 1034", sink=["fakesink:a", "fakesink:b"]))
    assert sinks(capture) == {"fakesink": (10, 0, 10), "fakesink:b": (10, 0, 10)}
    delivery = capture.snapshot()["delivery"]
    assert (delivery["made"], delivery["filtered"], delivery["beyond_count"]) == (100, 90, 0)


def test_a_filter_of_one_sink() -> None:
    two = ["fakesink:a,filter=src.port in [1024\\, 1025]", "fakesink:b"]
    capture = ran(planned(sink=two))
    assert sinks(capture) == {"fakesink": (100, 98, 2), "fakesink:b": (100, 0, 100)}
    assert capture.snapshot()["delivery"]["filtered"] == 0


def test_both() -> None:
    capture = ran(planned(filter="src.port < 1034", sink=["fakesink,filter=src.port > 1030"]))
    assert sinks(capture) == {"fakesink": (10, 7, 3)}


def test_count_is_of_entries_that_match() -> None:
    capture = ran(planned(filter="src.port >= 1030", count="5"))
    assert sinks(capture) == {"fakesink": (5, 0, 5)}
    assert capture.snapshot()["delivery"]["filtered"] == 6


@pytest.mark.parametrize("policy", ["block", "drop_oldest", "sample"])
def test_what_a_sink_does_not_want_never_waits(policy: str) -> None:
    plan = planned(sink=[f"fakesink,policy={policy},queue=1,filter=src.port == 1050"])
    capture = session.execute(plan, lambda text: None)
    assert sinks(capture) == {"fakesink": (100, 99, 1)}
    assert capture.check() == []


def test_a_sink_that_failed_lost_only_what_it_wanted() -> None:
    capture = session.execute(
        planned(sink=["fakesink,how=raise,filter=src.port < 1034"]), lambda text: None
    )
    books = capture.snapshot()["sinks"]["fakesink"]
    assert (books["filtered"], sum(books["dropped"].values())) == (90, 10)
    assert capture.check() == []


def test_an_unbooked_filter_is_found() -> None:
    capture = ran(planned(filter="src.port < 1034"))
    capture.filtered -= 1
    assert capture.check() == ["sink fakesink: 11 entries passed on, 10 came"]


def test_after_the_enrichers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSHARK_ENRICHER_FAKE_HOW", "drop")
    capture = ran(planned(environ={"KSHARK_ENRICHER_FAKE_HOW": "drop"}, filter="src.port < 1034"))
    assert sinks(capture) == {"fakesink": (5, 0, 5)}
    delivery = capture.snapshot()["delivery"]
    assert (delivery["dropped_by_enrichers"], delivery["filtered"]) == (50, 45)


TENANT = """
from typing import Annotated
from kshark.api import *
class Tenant(Details):
    "Whose call it was"
    name: Annotated[str | None, doc("Its name")] = None
    tier: Annotated[int, doc("What it pays for")] = 0
    secret: Annotated[str, doc("A key", redact=Redact.VALUE)] = "s"
class Enricher:
    def __init__(self, options, context):
        pass
    def enrich(self, batch):
        for entry in batch:
            number = entry.src.port - 1024
            if number % 2 == 0:
                entry.extra = {"tenant": Tenant(name=f"t{entry.src.port}", tier=number)}
            if number == 1:
                entry.extra = {"tenant": "rubbish"}
        return batch
@hookimpl
def register_enrichers():
    return [EnricherSpec(name="tenant", make=Enricher, adds={"tenant": Tenant})]
"""


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("tenant", 51),  # the rubbish is there, and has no field
        ("has(tenant.name)", 50),
        ("!tenant", 49),
        ("tenant.tier > 4", 47),
        ('tenant.name == "t1026" && udp', 1),
        ('tenant.secret == "s"', 0),
        ('tenant.secret == "REDACTED"', 50),
    ],
)
def test_what_enrichers_add(text: str, count: int, tmp_path: Path) -> None:
    (tmp_path / "tenant.py").write_text(TENANT)
    plan = planned(plugin=str(tmp_path / "tenant.py"), filter=text)
    assert sinks(ran(plan, codes=(0, 1)))["fakesink"][0] == count  # who asks for the rubbish fails


def test_wrong_names_of_what_enrichers_add(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tenant.py").write_text(TENANT)
    plugin = ["--plugin", str(tmp_path / "tenant.py")]
    assert main(["run", *plugin, "--read", "x.pcap", "--filter", "tenant.nme == 'a'"]) == 2
    assert "no field tenant.nme; did you mean tenant.name" in capsys.readouterr().err
    assert main(["run", *plugin, "--read", "x.pcap", "--filter", "tenant.tier == 'a'"]) == 2
    assert "== between a number and text" in capsys.readouterr().err
    assert main(["fields", "tenant", *plugin]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert shown[1] == ["tenant", "bool", "Whose", "call", "it", "was"]
    assert [line[0] for line in shown[2:]] == ["tenant.name", "tenant.tier", "tenant.secret"]


def test_with_workers() -> None:
    capture = ran(planned(backend=["shared"], workers="2", filter="src.port < 1034"))
    assert sinks(capture) == {"fakesink": (10, 0, 10)}
    assert capture.snapshot()["delivery"]["made"] == 200


# ---------------------------------------------------------------- where it is given


def test_the_places(tmp_path: Path) -> None:
    config = tmp_path / "k.toml"
    config.write_text('[run]\nfilter = "src.port < 1029"\n[sink.fakesink]\nfilter = "udp"\n')
    assert sinks(ran(planned(config=str(config)))) == {"fakesink": (5, 0, 5)}
    environ = {"KSHARK_FILTER": "udp", "KSHARK_SINK_FAKESINK_FILTER": "src.port == 1024"}
    assert sinks(ran(planned(environ, str(config)))) == {"fakesink": (100, 99, 1)}
    assert sinks(ran(planned(environ, filter=""))) == {"fakesink": (100, 99, 1)}


@pytest.mark.parametrize(
    ("environ", "flags", "origin"),
    [
        ({}, {"filter": "udpp"}, "--filter"),
        ({"KSHARK_FILTER": "udpp"}, {}, "KSHARK_FILTER"),
        ({}, {"sink": ["fakesink,filter=udpp"]}, "sink fakesink filter"),
        ({"KSHARK_SINK_FAKESINK_FILTER": "udpp"}, {}, "sink fakesink filter"),
    ],
)
def test_errors_say_where_it_was_given(
    environ: dict[str, str], flags: dict[str, Any], origin: str
) -> None:
    with pytest.raises(PluginError) as caught:
        planned(environ, **flags)
    assert str(caught.value) == f"{origin}: no field udpp; did you mean udp?\n  udpp\n  ^"


def test_on_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    fake = ["run", "--plugin", FAKE, "--backend", "fakefile", "--sink", "fakesink"]
    assert main([*fake, "--filter", "src.prot == 1"]) == 2
    problem, shown, caret = capsys.readouterr().err.splitlines()
    assert problem == "kshark: --filter: no field src.prot; did you mean src.port, src.ip, src.tid?"
    assert (shown, caret) == ("  src.prot == 1", "  ^")
    assert main([*fake, "--filter", "src.port == 1050"]) == 0
    assert "100 entries (100 unanswered); 99 filtered out; fakesink 1;" in capsys.readouterr().err
    assert main([*fake[:-1], "fakesink,filter=src.port == 1050"]) == 0
    assert "; fakesink 1, 99 filtered out;" in capsys.readouterr().err


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(PluginError, match=r"^filters need .*: pip install 'kshark\[filter\]'$"):
        planned(filter="udp")
    assert planned().filter is None


def test_a_run_without_a_filter_imports_nothing_of_it() -> None:
    code = (
        "import sys; from kshark.cli import main\n"
        f"main(['run', '--plugin', {FAKE!r}, '--backend', 'fakefile', '--sink', 'fakesink'])\n"
        "print([m for m in sys.modules if m.startswith(('kshark.filter', 'cel_expr', 're2'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


# ---------------------------------------------------------------- what is dissected


@pytest.fixture
def capture_file(tmp_path: Path) -> Path:
    """One HTTP and one Redis connection."""
    http = [
        (0, b"GET /a HTTP/1.1\r\nHost: x\r\nX-Tenant: t\r\nCookie: s=1\r\n\r\n"),
        (1, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        (0, b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"),
        (1, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
    ]
    redis = [(0, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), (1, b"$1\r\nv\r\n")]
    frames = []
    for number, talk in enumerate((http, redis)):
        peers = Peers()
        peers.seq[0] += number
        sent = [peers.packet(0, 2), peers.packet(1, 18), peers.packet(0, 16)]
        sent += [peers.packet(side, 24, data) for side, data in talk]
        port = struct.pack(">H", 50_000 + number)
        for frame, side in zip(sent, [0, 1, 0, *(side for side, _ in talk)], strict=True):
            at = 20 if side == 0 else 22
            frames.append(frame[:at] + port + frame[at + 2 :])
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 228)
    for number, frame in enumerate(frames):
        data += struct.pack("<IIII", 1_700_000_000, number, len(frame), len(frame)) + frame
    path = tmp_path / "both.pcap"
    path.write_bytes(data)
    return path


ALL = builtin_names("protocols")


@pytest.mark.parametrize(
    ("flags", "dissected"),
    [
        ({"filter": "http"}, ALL - {"redis"}),
        ({"filter": "http && error || http.request.method == 'GET'"}, ALL - {"redis"}),
        ({"sink": ["fakesink,filter=http"]}, ALL - {"redis"}),
        ({"sink": ["fakesink:a,filter=http", "fakesink:b"]}, set()),
        ({"sink": ["fakesink:a,filter=http", "fakesink:b,filter=redis"]}, set()),
        ({"sink": ["fakesink:a", "fakesink:b"], "filter": "http"}, ALL - {"redis"}),
        ({"filter": "redis"}, set()),  # HTTP may hand a flow over
        ({"filter": "!redis"}, set()),  # flows that nobody dissects would change
        ({"filter": "tcp"}, set()),
        ({"filter": "http || tcp"}, set()),
        ({"filter": "error"}, set()),
        ({"filter": "http", "assume": ["7000=redis"]}, set()),
        ({"filter": "http", "protocol": ["redis", "http"]}, {"redis", "http"}),
        ({}, set()),
    ],
)
def test_what_no_filter_can_match_is_not_dissected(
    flags: dict[str, Any], dissected: set[str]
) -> None:
    assert planned(**flags).only == dissected


def test_enrichers_see_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSHARK_ENRICHER_FAKE_HOW", "ok")
    assert planned(filter="http").only == set()


def test_only_built_ins_that_keep_their_flows_are_left_out() -> None:
    assert HELD <= ALL
    for name in HELD:
        module = sys.modules[load().protocols[name].dissector.__module__]
        folder = Path(str(module.__file__)).parent
        assert not any(
            "Switch(" in p.read_text() for p in folder.glob("*.py*") if p.suffix != ".pyc"
        )


@pytest.mark.parametrize("text", ["http", "redis", "tcp", "!http", "http && response.ok", "true"])
def test_a_filter_gives_what_a_search_in_everything_gives(capture_file: Path, text: str) -> None:
    from kshark.filter import compile_filter

    everything = list(kshark.read(capture_file))
    assert {entry.protocol for entry in everything} == {"http", "redis"}
    wanted = compile_filter(text, load().protocols).select(everything)
    found = list(kshark.read(capture_file, filter=text))
    assert [entry.id for entry in found] == [entry.id for entry in wanted]


# ---------------------------------------------------------------- the library, doctor, fields


def test_read(capture_file: Path) -> None:
    text = "http.request.headers['x-tenant'] == 't' && http.request.headers.cookie == 'REDACTED'"
    assert [e.request.target for e in kshark.read(capture_file, filter=text) if e.request] == ["/a"]
    text = "http.request.headers.cookie == 's=1'"
    assert len(list(kshark.read(capture_file, filter=text, redact=False))) == 1
    with pytest.raises(PluginError, match=r"^filter: no field htp"):
        kshark.read(capture_file, filter="htp")


def test_capture() -> None:
    async def work() -> list[int]:
        options = {"filter": "src.port < 1030", "plugins": [FAKE]}
        async with kshark.capture("fakefile", **options) as entries:  # type: ignore[arg-type]
            return [entry.src.port async for entry in entries]

    assert asyncio.run(work()) == list(range(1024, 1030))


def test_doctor(capture_file: Path) -> None:
    done = CliRunner().invoke(cli, ["doctor", "--read", str(capture_file), "--filter", "http"])
    assert re.search(r"delivered +2  entries\n +1    filtered out\nthe books balance", done.output)
    assert re.search(r"dissected +\d+  packets\n", done.output)
    assert "no dissector matched" not in done.output  # the account is of everything


def test_fields() -> None:
    found = CliRunner().invoke(cli, ["fields", "--json"])
    rows = json.loads(found.output)
    known = known_fields(load().protocols)
    assert [row["field"] for row in rows] == list(known)
    assert all(row["doc"] and row["type"] for row in rows)
    shown = CliRunner().invoke(cli, ["fields", "redis"]).output.splitlines()
    assert shown[0].split() == ["field", "type", "doc"]
    assert re.match(r"redis +bool +\S", shown[1])
    assert all(line.startswith("redis") for line in shown[1:])
    assert main(["fields", "htp"]) == 2


def test_options_of_every_sink_are_taken() -> None:
    """A plugin's sink may not have an option of the same name: it would never get it."""
    assert frozenset(field.key for field in settings.fields(LaneOptions)) == FANOUT_KEYS


def test_what_others_come_in_is_loaded_with_them() -> None:
    """``--protocol websocket`` reads HTTP of both kinds up to the tunnel, and hides its secrets."""
    plan = planned(protocol=["websocket"])
    assert {spec for one in load().protocols.values() for spec in one.over} <= CARRIERS
    wanted = needed(frozenset({"websocket"}), list(plan.registry.protocols.values()))
    assert wanted == {"http", "http2", "tls", "websocket"}  # in TLS, where there are keys
