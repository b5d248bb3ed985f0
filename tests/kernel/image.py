"""A root file system for a guest, as a kernel takes it at its start (cpio, newc), made of this machine's files."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from ctypes.util import find_library
from importlib.metadata import distribution
from pathlib import Path
from shutil import which

import kshark

ROOT = Path(__file__).resolve().parents[2]
LOADED = ("bpf",)
"""Libraries that kshark loads by name."""
LIBRARIES = (Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib64"), Path("/usr/lib"))
LEFT_OUT = {"test", "idlelib", "tkinter", "ensurepip", "lib2to3", "turtledemo", "site-packages"}
"""Of the standard library."""


class Image:
    """Files of the guest, by their path there."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, bytes | Path]] = {}

    def text(self, path: str, content: str, mode: int = 0o644) -> None:
        self._files[path] = stat.S_IFREG | mode, content.encode()

    def link(self, path: str, to: str) -> None:
        self._files[path] = stat.S_IFLNK | 0o777, to.encode()

    def folder(self, path: str) -> None:
        self._files[path] = stat.S_IFDIR | 0o755, b""

    def file(self, path: str, source: Path) -> None:
        self._files[path] = stat.S_IFREG | stat.S_IMODE(source.stat().st_mode), source

    def binary(self, path: str, content: bytes) -> None:
        self._files[path] = stat.S_IFREG | 0o755, content

    def copy(self, path: str, source: Path, left_out: Iterable[str] = ()) -> None:
        """A folder with all that is in it; links as they are."""
        for folder, names, files in os.walk(source):
            names[:] = [name for name in names if name not in left_out]
            for name in (*names, *files):
                found = Path(folder, name)
                place = f"{path}/{found.relative_to(source)}"
                if found.is_symlink():
                    self.link(place, os.readlink(found))
                elif found.is_file():
                    self.file(place, found)
                else:
                    self.folder(place)

    def tree(
        self,
        path: str,
        source: Path,
        left_out: Iterable[str] = (),
        suffixes: tuple[str, ...] = (),
    ) -> None:
        """A folder with all that is in it, but for files of these suffixes; links as what they lead to."""
        for folder, names, files in os.walk(source, followlinks=True):
            names[:] = [name for name in names if name not in left_out]
            for name in files:
                if (found := Path(folder, name)).is_file() and not name.endswith(suffixes):
                    self.file(f"{path}/{found.relative_to(source)}", found)

    def program(self, name: str) -> None:
        """A program of this machine, with the libraries that it loads."""
        found = which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert found, f"{name} is not installed: make tools"
        self.file(f"/bin/{Path(name).name}", Path(found).resolve())
        self.libraries(Path(found))

    def libraries(self, binary: Path) -> None:
        """What the dynamic linker loads for a program or a library."""
        listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False)
        for path in re.findall(r"(/\S+) \(0x", listed.stdout):
            self.file(path, Path(path).resolve())

    def write(self, to: Path) -> None:
        """The archive: parents before what is in them."""
        folders = {str(p) for path in self._files for p in Path(path).parents if str(p) != "/"}
        for path in folders - self._files.keys():
            self.folder(path)
        with to.open("wb") as archive:
            for number, path in enumerate([*sorted(self._files), "TRAILER!!!"]):
                mode, content = self._files.get(path, (0, b""))
                raw = content if isinstance(content, bytes) else content.read_bytes()
                when = 0 if isinstance(content, bytes) else int(content.stat().st_mtime)
                name = path.lstrip("/").encode() + b"\0"
                words = (number, mode, 0, 0, 1, when, len(raw), 0, 0, 0, 0, len(name), 0)
                head = b"070701" + b"".join(b"%08x" % word for word in words) + name
                archive.write(head + bytes(-len(head) % 4) + raw + bytes(-len(raw) % 4))


def with_python(image: Image) -> None:
    """This interpreter as ``/bin/python3``, its library, kshark and what that depends on."""
    home, version = Path(sys.base_prefix), f"python{sys.version_info[0]}.{sys.version_info[1]}"
    image.file("/bin/python3", Path(sys.executable).resolve())
    image.libraries(Path(sys.executable))
    library = Path(sysconfig.get_path("stdlib"))
    image.tree(f"{home}/lib/{version}", library, LEFT_OUT)
    for module in Path(sysconfig.get_config_var("DESTSHARED")).glob("*.so"):
        image.file(f"{home}/lib/{version}/lib-dynload/{module.name}", module)
        image.libraries(module)
    image.tree("/kshark/kshark", Path(kshark.__file__).parent)
    image.tree(
        "/kshark/kshark/bpf", ROOT / "bpf"
    )  # the programs are no part of an editable install
    for name in LOADED:
        path = find_library(name)
        assert path, f"{name} is not installed"
        (found,) = [p for p in LIBRARIES if (p / path).exists()][:1]
        image.file(f"/lib/{path}", (found / path).resolve())
        image.libraries(found / path)
    for name in dependencies("kshark"):
        for file in distribution(name).files or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and source.is_file():
                image.file(f"/kshark/{file}", source)
                if source.suffix == ".so":
                    image.libraries(source)


def dependencies(name: str) -> set[str]:
    """Distributions that one needs, without its extras."""
    found: set[str] = set()
    for line in distribution(name).requires or ():
        needed = re.split(r"[ ;<>=!~\[(]", line, maxsplit=1)[0]
        if "extra ==" not in line and needed not in found:
            found |= {needed} | dependencies(needed)
    return found
