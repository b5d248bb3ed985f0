"""SIGHUP while a run has a configuration file: read again, or the end where its terminal has gone."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

from test_cli import FAKE, KSHARK, environment

WORDS = ("run", "--plugin", FAKE, "--backend", "fakelive,ends=no", "--sink", "fakesink")
PATIENCE = 60.0


def test_a_backend_that_takes_nothing_new_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "kshark.toml"
    file.write_text("[backend.fakelive]\n")
    process = subprocess.Popen(
        [*KSHARK, *WORDS, "--config", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    assert process.stderr is not None
    process.stderr.readline()
    refused = "kshark: the configuration is not taken, all goes on as before: "
    for content, said in (
        ("[backend.fakelive]\n", "kshark: the configuration is read again: nothing new for a backend\n"),
        ("[backend.fakelive]\nspins = true\n",
         f"{refused}backend fakelive: its options cannot change while it runs\n"),
        ("[run]\nworkers = 'x'\nbackends = ['pcap']\n", f"{refused}{file} [run] backends: "),
    ):  # fmt: skip
        file.write_text(content)
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline().startswith(said)
    process.terminate()
    assert "fakesink got 100" in process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0


def test_a_terminal_that_is_closed_ends_the_run(tmp_path: Path) -> None:
    file, log = tmp_path / "kshark.toml", tmp_path / "log"
    file.write_text("[backend.fakelive]\n")
    log.touch()
    pid, terminal = pty.fork()
    if not pid:
        try:
            with log.open("wb") as err:
                os.dup2(err.fileno(), 2)
            words = [*KSHARK, *WORDS, "--config", str(file)]
            os.execvpe(words[0], words, environment())
        finally:
            os._exit(9)
    end = time.monotonic() + PATIENCE
    while b"fakelive" not in log.read_bytes():
        assert time.monotonic() < end
        select.select([], [], [], 0.05)
    os.close(terminal)
    while not (found := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        select.select([], [], [], 0.05)
    status = found[1]
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"fakesink got 100" in log.read_bytes()
