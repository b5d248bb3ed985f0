"""Containers as the kernel knows them, without a runtime: own namespaces and control group, a root by pivot_root.

The root has copies of programs and of all their libraries, so that nothing in it is the machine's own file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from netlab import Lab
from servers import ready

from kshark.backends._cgroups import hierarchies

BEGIN = """
set -e
echo $$ >{group}/cgroup.procs
exec ip netns exec {space} unshare --kill-child -f -m -p -i -u --propagation private sh -c '
set -e
hostname {name}
mount --bind {root} {root}
cd {root}
mount -t proc proc proc
mount --bind /dev/null dev/null
pivot_root . old
/bin/busybox umount -l /old
exec {command}'
"""


class Container:
    """One that runs `command` as its first process."""

    def __init__(self, name: str, root: Path, space: str, command: str) -> None:
        self.name, self.root = name, root
        place = Path(max(hierarchies().items())[1])
        self.group = place / f"kshark-{os.getpid()}-{name}"
        self.group.mkdir()
        script = BEGIN.format(group=self.group, space=space, name=name, root=root, command=command)
        self._process = subprocess.Popen(["sh", "-c", script])
        try:
            ready(lambda: self.first)
        except BaseException:
            self.end()
            raise

    @property
    def first(self) -> int:
        """Its first process, as seen outside; 0 before it is there."""
        for pid in self.processes:
            with contextlib.suppress(OSError):
                inside = Path(f"/proc/{pid}/status").read_text()
                at_home = os.readlink(f"/proc/{pid}/root") == "/" and self._own_root(pid)
                if at_home and re.search(r"^NSpid:\s+\d+\s+1$", inside, re.M):
                    return pid
        return 0

    @property
    def processes(self) -> list[int]:
        """All of its control group, as seen outside."""
        return [int(pid) for pid in (self.group / "cgroup.procs").read_text().split()]

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Another process in it."""
        enter = f"echo $$ >{self.group}/cgroup.procs; exec nsenter -t {self.first} -a "
        pipe = subprocess.PIPE
        words = ["sh", "-c", f'{enter} "$@"', "sh", *command]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=quiet)

    def kill(self, name: str) -> None:
        """All of its processes that are called so."""
        for pid in self.processes:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                    os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """With all that is in it."""
        for pid in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        ready(lambda: not self.processes)
        self.group.rmdir()

    def _own_root(self, pid: int) -> bool:
        return os.path.samefile(f"/proc/{pid}/root", self.root)


def fill(root: Path, *programs: str) -> None:
    """A root with these programs (busybox is one of them), each library a copy."""
    for folder in ("bin", "proc", "dev", "tmp", "old", "etc", "var/log/nginx", "var/lib/nginx"):
        (root / folder).mkdir(parents=True)
    (root / "dev/null").touch()
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    for name in programs:
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert found, f"{name} is not installed: make tools"
        shutil.copy(Path(found).resolve(), root / "bin" / name)
        listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=False)
        for path in re.findall(r"(/\S+) \(0x", listed.stdout):
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(path).resolve(), root / path[1:])


@contextlib.contextmanager
def two(
    lab: Lab, folder: Path, command: str, programs: tuple[str, ...]
) -> Iterator[list[Container]]:
    """Two of them, at 10.1.0.1 and 10.1.0.2, whose roots have `folder` as it is now."""
    spaces = lab.space(), lab.space()
    lab.veth(spaces[0], "va", spaces[1], "vb", 1)
    files = [path for path in folder.iterdir() if path.is_file()]
    made: list[Container] = []
    try:
        for name, space in zip(("one", "other"), spaces, strict=True):
            root = folder / f"root-{name}"
            fill(root, "busybox", *programs)
            there = root / str(folder)[1:]
            there.mkdir(parents=True, exist_ok=True)
            for path in files:
                shutil.copy(path, there)
            made.append(Container(name, root, space, command))
        yield made
    finally:
        for container in made:
            container.end()
