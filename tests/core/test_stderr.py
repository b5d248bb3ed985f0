"""Lines on standard error, whoever speaks in the midst of them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

LINES = 2_000
INTERRUPTED = f"""
import signal
from kshark.stderr import say
signal.signal(signal.SIGUSR1, lambda number, frame: say("heard"))
for number in range({LINES}):
    say(f"line {{number}}")
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR1}})
"""


def test_a_signal_may_speak_in_the_midst_of_a_line() -> None:
    """It comes as soon as a line can be read, when whoever wrote it is not back yet."""
    words = [sys.executable, "-c", INTERRUPTED]
    said: list[str] = []
    owed = False
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if not owed or "heard" in line:  # one at a time
                process.send_signal(signal.SIGUSR1)
                owed = True
    assert process.returncode == 0, said[-20:]
    assert [one for one in said if "line" in one] == [f"kshark: line {n}\n" for n in range(LINES)]
    assert {one for one in said if "line" not in one} == {"kshark: heard\n"}


@pytest.mark.parametrize("close", ["sys.stderr.close()", "os.close(2)", "sys.stderr = None"])
def test_a_standard_error_that_is_closed_takes_nothing(close: str) -> None:
    words = f"import os, sys\nfrom kshark.stderr import say\n{close}\nsay('nothing')\nprint('on')"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("on\n", "")


def test_a_pipe_that_nobody_reads_is_not_waited_for() -> None:
    words = "from kshark.stderr import say\nfor _ in range(70): say('x' * 1_000)\nprint('on')"
    command = [sys.executable, "-c", words]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:  # the pipe holds 64 KiB, and is not read before the end
            assert process.stdout is not None
            assert process.wait(30) == 0
            assert process.stdout.read() == "on\n"
        finally:
            process.kill()
