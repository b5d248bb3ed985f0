"""What all tests share."""

from __future__ import annotations

import functools
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Started in the background, a shell has SIGINT ignored, and nohup SIGHUP; kshark leaves ignored signals
# alone, and the tests of signals would wait for ever. The children of the tests inherit it too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A machine that is busy takes its time: how long an example takes says nothing of what is tested.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How two processes share the tests: by files, and all that look at the kernel, of which there is one, in one."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return scope(config.rootpath / nodeid.partition("::")[0])

    return Scheduling(config, log)


@functools.cache
def scope(path: Path) -> str:
    """What is run together with this file's tests."""
    return "live" if "mark.live" in path.read_text() else str(path)
