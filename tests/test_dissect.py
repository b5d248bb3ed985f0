"""``kshark dissect`` with layers, hand-overs and types of bodies, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kshark.api import PluginError
from kshark.cli import cli

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def dissect(text: str | bytes, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["dissect", *arguments], input=text, standalone_mode=False)


def test_who_rides_in_the_exchanges() -> None:
    """A protocol without a dissector is shown alone; by its carrier's name, with all that it carries."""
    talk = (EXAMPLES / "grpc.txt").read_text()
    alone = dissect(talk, "--protocol", "grpc", "--hex", "--full")
    assert alone.return_value == 0
    assert "> request Get /shop.v1.Orders/Get 143 bytes" in alone.output
    assert 'body: {"1:varint":7,"2:string":"ann"}' in alone.output
    assert "Bearer REDACTED" in alone.output
    assert alone.output == dissect(talk, "--protocol", "http2", "--hex", "--full").output


def test_the_carrier_is_found_by_how_it_begins() -> None:
    head = "POST /a.B/C HTTP/1.1\\r\\ncontent-type: application/grpc-web\\r\\nContent-Length: 7\\r\\n\\r\\n"
    done = dissect(
        f'> "{head}\\0\\0\\0\\0\\2\\x08\\x07"\n', "--protocol", "grpc", "--hex", "--full"
    )
    assert "> request C /a.B/C" in done.output
    assert 'body: {"1:varint":7}' in done.output


def test_types_of_bodies(tmp_path: Path) -> None:
    (tmp_path / "shop.proto").write_text(
        'syntax = "proto3"; package shop.v1; message Ask { int32 id = 1; string name = 2; }\n'
        "message Got { string text = 1; }\n"
        "service Orders { rpc Get(Ask) returns (Got); rpc Watch(Ask) returns (stream Got); }\n"
    )
    talk = (EXAMPLES / "grpc.txt").read_text()
    done = dissect(talk, "--protocol", "grpc", "--hex", "--full", "--proto", str(tmp_path))
    assert 'body: {"id":7,"name":"ann"}' in done.output
    wrong = dissect(talk, "--protocol", "grpc", "--hex", "--proto", str(tmp_path / "none"))
    assert isinstance(wrong.exception, PluginError)


def test_a_hand_over_is_told() -> None:
    done = dissect((EXAMPLES / "websocket.txt").read_text(), "--protocol", "http", "--hex")
    assert "> oneway text /chat?room=1 43 bytes" in done.output


@pytest.mark.parametrize(
    ("arguments", "text", "told"),
    [
        (("--server",), "HTTP/", "no message in 5 bytes; an answer waits for its request"),
        ((), "GET ", "no message in 4 bytes\n"),
    ],
)
def test_nothing_is_said_why(arguments: tuple[str, ...], text: str, told: str) -> None:
    done = dissect(text, "--protocol", "http", *arguments)
    assert done.return_value == 1
    assert told in done.stderr


def test_an_answer_that_the_end_cuts_is_the_servers() -> None:
    done = dissect("HTTP/1.1 200 OK\r\n", "--protocol", "http", "--server")
    assert done.output.startswith("< response 200")
