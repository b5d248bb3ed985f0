"""No secret of a capture in what a whole run shows, whichever protocols were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit_captures import C, S, pcap

from kshark.cli import main

ASKED = b"GET /login?token=hunter2 HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("flags", [[], ["--protocol", "http"], ["--filter", "http"]], ids=str)
@pytest.mark.parametrize("sink", ["console", "jsonl:-"])
def test_targets_are_redacted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], sink: str, flags: list[str]
) -> None:
    path = pcap(tmp_path / "login.pcap", [(C, ASKED), (S, ANSWER)])
    assert main(["run", "--read", str(path), "--sink", sink, *flags]) == 0
    shown, said = capfd.readouterr()
    assert "/login?token=REDACTED" in shown
    assert "hunter2" not in shown + said
