"""clsact: programs as filters of a queueing discipline that queues nothing (Linux 4.5), by pyroute2.

For kernels without TCX. A filter stays when its process is gone. Ours carry the process that made them in their
names: those whose process has ended are removed at the next start, with the discipline if nothing else is in it.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from kshark.backends._netns import inside

PARENTS: Final = (0xFFFF_FFF2, 0xFFFF_FFF3)
"""Where filters of ingress and of egress are: TC_H_CLSACT with TC_H_MIN_INGRESS and TC_H_MIN_EGRESS."""
OURS: Final = re.compile(r"kshark:(\d+):(\d+):\d+")
"""Name of a filter: the process, when it began, and which of its captures."""
HINT: Final = "TCX needs Linux 6.6, and clsact needs pyroute2: pip install 'kshark[tc]'"

_serial = itertools.count()
Result = TypeVar("Result")


def missing() -> str:
    """Why clsact cannot be used, and what to do; "" where it can."""
    try:
        import pyroute2  # noqa: F401
    except ImportError:
        return HINT
    return ""


class Clsact:
    """What is attached in namespace `netns` ("" is our own)."""

    def __init__(self, netns: str) -> None:
        self._netns = netns
        self._name = f"kshark:{os.getpid()}:{_started(os.getpid())}:{next(_serial)}"
        self._made: dict[int, bool] = {}
        """Links with filters of ours, and whether the discipline is ours, too."""
        # pyroute2 runs an event loop of its own, which cannot be where another one runs.
        self._thread = ThreadPoolExecutor(1, "kshark-clsact")

    def clean(self) -> int:
        """Remove the filters of processes that are gone; gives how many there were."""
        return self._there(_clean)

    def attach(self, index: int, ingress: int, egress: int) -> None:
        """Attach a program at the ingress of link `index`, and one at its egress; OSError if the kernel refuses."""
        programs = ingress, egress
        self._made[index] = self._there(lambda tc: _attach(tc, index, programs, self._name))

    def attached(self, index: int) -> bool:
        """Nobody tells of filters that are removed, and asking each second would cost more than it is worth."""
        return True

    def detach(self, index: int) -> None:
        """Remove our filters of a link, if it is still there."""
        if index in self._made:
            whole = self._made.pop(index)
            self._there(lambda tc: _remove(tc, index, lambda name: name == self._name, whole=whole))

    def close(self) -> None:
        """Remove everything that is ours."""
        for index in list(self._made):
            self.detach(index)
        self._thread.shutdown()

    def _there(self, work: Callable[[Any], Result]) -> Result:
        def moved() -> Result:
            with inside(self._netns), _netlink() as tc:
                return work(tc)

        return self._thread.submit(moved).result()


@contextmanager
def _netlink() -> Iterator[Any]:
    """A socket of pyroute2 in the namespace of the calling thread; its errors are OSError."""
    import pyroute2

    with pyroute2.IPRoute() as found:
        try:
            yield found
        except pyroute2.NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from None


def _attach(tc: Any, index: int, programs: tuple[int, int], name: str) -> bool:
    made = _prepare(tc, index)
    try:
        for program, parent in zip(programs, PARENTS, strict=True):
            tc.tc(
                "add-filter",
                "bpf",
                index,
                fd=program,
                name=name,
                parent=parent,
                direct_action=True,
            )
    except BaseException:
        _remove(tc, index, lambda n: n == name, whole=made)
        raise
    return made


def _prepare(tc: Any, index: int) -> bool:
    """See to it that link `index` has the discipline; gives whether it had none."""
    import pyroute2

    try:
        tc.tc("add", "clsact", index)
    except pyroute2.NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        return False
    return True


def _clean(tc: Any) -> int:
    return sum(
        _remove(tc, index, _abandoned, whole=True)
        for index in {
            qdisc["index"] for qdisc in tc.get_qdiscs() if qdisc.get_attr("TCA_KIND") == "clsact"
        }
    )


def _abandoned(name: str) -> bool:
    """Whether a filter is one of ours whose process has ended (its number may be another's by now)."""
    found = OURS.fullmatch(name)
    return bool(found) and _started(int(found[1])) != int(found[2])  # type: ignore[index]


def _remove(tc: Any, index: int, chosen: Callable[[str], bool], *, whole: bool) -> int:
    """Remove filters by name; `whole`: if none is left, the discipline, too. Gives how many there were."""
    import pyroute2

    removed = left = 0
    try:
        for parent in PARENTS:
            for found in tc.get_filters(index, parent=parent):
                options = found.get_attr("TCA_OPTIONS")
                name = options.get_attr("TCA_BPF_NAME") if options else None
                if name is None or not chosen(name):
                    left += options is not None
                    continue
                info = found["info"]
                where = {"handle": found["handle"], "info": info, "parent": parent}
                tc.tc("del-filter", "bpf", index, **where)
                removed += 1
        if whole and removed and not left:
            tc.tc("del", "clsact", index)
    except pyroute2.NetlinkError as error:
        if error.code not in (errno.ENODEV, errno.ENOENT, errno.EINVAL):
            raise
    return removed


def _started(pid: int) -> int:
    """When a process began, in clock ticks since the machine did; 0 if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
