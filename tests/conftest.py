"""What all tests share."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import pytest
from hypothesis import settings

# Started in the background, a shell has SIGINT ignored, and nohup SIGHUP; kshark leaves ignored signals
# alone, and the tests of signals would wait for ever. The children of the tests inherit it too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A machine that is busy takes its time: how long an example takes says nothing of what is tested.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """How several processes share tests: what looks at the kernel, of which there is one, is one process's."""
    for item in items:
        alone = item.get_closest_marker("live")
        item.add_marker(pytest.mark.xdist_group("live" if alone else item.path.name))
