"""Lines on standard error, whoever speaks in the midst of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from kshark.stderr import say

LINES = 2_000
INTERRUPTED = f"""
import signal
from kshark.stderr import say
signal.signal(signal.SIGUSR1, lambda number, frame: say("heard"))
for number in range({LINES}):
    say(f"line {{number}}")
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
"""


def test_a_signal_may_speak_in_the_midst_of_a_line() -> None:
    """It comes as soon as a line can be read, when whoever wrote it is not back yet."""
    words = [sys.executable, "-c", INTERRUPTED]
    said = []
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            process.send_signal(signal.SIGUSR1)
    assert process.returncode == 0, said[-20:]
    assert [one for one in said if "line" in one] == [f"kshark: line {n}\n" for n in range(LINES)]
    assert {one for one in said if "line" not in one} == {"kshark: heard\n"}


@pytest.mark.parametrize("close", ["sys.stderr.close()", "os.close(2)", "sys.stderr = None"])
def test_a_standard_error_that_is_closed_takes_nothing(close: str) -> None:
    words = f"import os, sys\nfrom kshark.stderr import say\n{close}\nsay('nothing')\nprint('on')"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("on\n", "")


def test_a_pipe_that_nobody_reads_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(reader, "rb"), open(writer, "w") as full:
        while True:
            try:
                os.write(writer, bytes(65_536))
            except BlockingIOError:
                break
        monkeypatch.setattr(sys, "stderr", full)
        say("nobody hears it")
