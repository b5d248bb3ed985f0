"""gRPC's own greeter in Go (`make tools` builds it), through a recording proxy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from kit_proxy import Recorder

from kshark.engine import Engine, EngineSettings
from kshark.protocols import grpc, http2
from kshark.testing import rows, shown
from kshark.testing.play import play

BUILT = Path(__file__).parents[3] / "build" / "go"


def built(name: str) -> str:
    """The path of a program, or a visible skip: it takes Go and its module proxy."""
    if not (BUILT / name).exists():
        assert "CI" not in os.environ, f"make tools builds {name}"
        pytest.skip(f"no {name}: make tools, with Go installed")
    return str(BUILT / name)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def test_go() -> None:
    port = free_port()
    server = subprocess.Popen([built("greeter_server"), f"-port={port}"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        recorder = Recorder(port)
        client = [built("greeter_client"), f"-addr=127.0.0.1:{recorder.port}", "-name=kshark"]
        for _ in range(2):
            done = subprocess.run(client, capture_output=True, text=True, timeout=30, check=True)
            assert "Hello kshark" in done.stderr
        recorder.close()
    finally:
        server.terminate()
        server.wait(10)
    for talk in recorder.talks:
        engine = Engine([http2.SPEC, grpc.SPEC], EngineSettings(assume={47: "http2"}))
        found = [e for e in play(engine, http2.SPEC, talk) if e.protocol == "grpc"]
        assert rows(found) == ["SayHello /helloworld.Greeter/SayHello -> OK [ok]"]
        row = shown(grpc.SPEC, found)[0]["grpc"]
        assert json.loads(row["request"]["body"]) == {"1:string": "kshark"}
        assert json.loads(row["response"]["body"]) == {"1:string": "Hello kshark"}
        assert row["request"]["user_agent"].startswith("grpc-go/")
        assert row["request"]["deadline_ns"] <= 1_000_000_000
    assert len(recorder.talks) == 2
