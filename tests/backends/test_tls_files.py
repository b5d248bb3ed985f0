"""Which functions of which files are probed: ELF, Go's tables, maps, and what is said of a process."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kit_go import build

from kshark.backends import _tls, _tls_coverage
from kshark.backends._elf import Elf, ElfError
from kshark.backends._golang import functions
from kshark.backends._maps import Mapped, mapped
from kshark.backends._sockets import Wanted
from kshark.backends._tls_cost import ABSURD, told
from kshark.backends._tls_coverage import Reader, Seen, cover, machine
from kshark.backends._tls_files import GO_READ, GO_WRITE, NEEDED, OPENSSL, Found, Probe, examine
from kshark.doctor import _tls_lines

LIBRARIES = [path for path in _tls.libraries() if "libssl.so" in path]


def test_functions_are_where_others_find_them() -> None:
    elf = Elf(LIBRARIES[0])
    found = elf.functions(OPENSSL)
    elf.close()
    tool = subprocess.run(
        ["readelf", "-W", "--dyn-syms", LIBRARIES[0]], capture_output=True, text=True, check=True
    )
    named = dict(re.findall(r"(\w+)\s+\d+ FUNC .* (\w+)@@\S+$", tool.stdout, re.M))
    expected = {name: int(at, 16) for at, name in ((a, n) for a, n in named.items())}
    assert found == {name: expected[name] for name in OPENSSL}


def test_a_name_that_is_the_end_of_another() -> None:
    (libc,) = [one for one in mapped(os.getpid()) or () if "/libc.so" in one.path]
    elf = Elf(libc.path)
    assert set(elf.functions(["labs", "abs", "no_such_function"])) == {"labs", "abs"}
    elf.close()


@pytest.mark.parametrize("path", LIBRARIES)
def test_a_library_is_known_by_its_functions(path: str) -> None:
    found = examine(path)
    assert found.library == "OpenSSL"
    assert {probe.program for probe in found.probes} == {*OPENSSL.values(), "tls_done"}


def test_other_files(tmp_path: Path) -> None:
    assert examine("/bin/true") == Found()
    assert examine(str(tmp_path / "none")).why == "No such file or directory"
    (tmp_path / "empty").write_bytes(b"")
    assert examine(str(tmp_path / "empty")).why == "cannot be read"
    (tmp_path / "text").write_text("#!/bin/sh\n")
    assert examine(str(tmp_path / "text")).why == "no 64-bit program"


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Headers, sections and symbols of any value: no other error, and it ends."""
    whole = Path("/bin/true").read_bytes()
    chance, file = random.Random(7), tmp_path / "damaged"
    sections = int.from_bytes(whole[40:48], "little")
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 12)):
            at = chance.choice((chance.randrange(16, 64), chance.randrange(sections, len(data))))
            data[at] = chance.choice((0, 255, chance.randrange(256)))
        file.write_bytes(data[: chance.choice((len(data), chance.randrange(64, len(data))))])
        assert isinstance(examine(str(file)), Found)


def test_the_files_of_a_process() -> None:
    here = mapped(os.getpid())
    assert here is not None
    exe = os.path.realpath("/proc/self/exe")
    (mine,) = [one for one in here if one.path == exe]
    assert os.path.samefile(mine.open_as(), exe)
    assert len({one.key for one in here}) == len(here)
    assert mapped(1 << 22) is None


def look(library: str = "", *probes: Probe, why: str = "") -> _tls_coverage.Look:
    return lambda one: Seen(Found(library, probes), why)


def test_what_is_said_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    me, probe = os.getpid(), Probe("tls_read", 1)
    found = cover(me, "x", look("OpenSSL", probe), speaks=False)
    assert found is not None
    assert (found.pid, found.library, found.hooked, found.why) == (me, "OpenSSL", True, "")
    found = cover(me, "x", look("OpenSSL", probe, why="needs CAP_SYS_ADMIN"), speaks=False)
    assert found is not None
    assert (found.hooked, found.why) == (False, "needs CAP_SYS_ADMIN")
    assert cover(1 << 22, "gone", look(), speaks=True) is None
    monkeypatch.setattr(_tls_coverage, "SIGNS", {})
    assert cover(me, "x", look(), speaks=False) is None
    found = cover(me, "x", look(), speaks=True)
    assert found is not None
    assert (found.library, found.hooked, found.why) == ("", False, _tls_coverage.UNKNOWN)
    java = Mapped(("00:00", 1), me, "/usr/lib/jvm/libjvm.so", "0-1")
    monkeypatch.setattr(_tls_coverage, "mapped", lambda pid: [java])
    found = cover(me, "java", look(), speaks=False)
    assert found is not None
    assert (found.library, found.hooked) == ("Java", False)
    assert "Java has its own TLS" in found.why


def test_a_library_without_names_is_told_by_its_text(tmp_path: Path) -> None:
    for text, library in ((b"..rustls..", "rustls"), (b"OpenSSL 3.0.1", "OpenSSL"), (b"", "")):
        (tmp_path / "program").write_bytes(text or b"nothing")
        assert _tls_coverage._signed(str(tmp_path / "program"))[0] == library


def test_this_process_speaks_tls() -> None:
    import ssl  # noqa: F401, maps libssl

    (found,) = machine([os.getpid()])
    assert found.hooked
    assert "OpenSSL" in found.library
    assert Reader().look((mapped(os.getpid()) or [])[0]).found is not None


def test_what_doctor_says() -> None:
    rows = [
        {"backend": "ebpf", "pid": n, "comm": f"c{n}", "library": "OpenSSL", "hooked": True}
        for n in range(10)
    ]
    java = {"backend": "ebpf", "pid": 7, "comm": "java", "library": "Java", "hooked": False}
    first, second, third = _tls_lines(
        [*rows, {**java, "why": "so"}, {"backend": "x", "error": "y"}]
    )
    assert first.endswith("OpenSSL is read in clear by ebpf: c0, c1, c2, c3, c4, c5, c6, c7, ...")
    assert second.endswith("java (7), Java is not read in clear: so")
    assert third.endswith("x: cannot say: y")


def test_what_is_said_of_the_cost() -> None:
    assert told(None) == ""
    assert told(1_500) == "a hit of a probe costs 1.5 us"
    assert "absurd" in told(ABSURD)


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "-s -w"])
def test_every_return_of_a_go_function(tmp_path: Path, flags: str) -> None:
    """As the disassembler finds them in the program with symbols; stripped, it has the same code."""
    build(tmp_path, "program", *flags.split())
    build(tmp_path, "symbols")
    elf = Elf(str(tmp_path / "program"))
    found = functions(elf, (GO_READ, GO_WRITE))
    elf.close()
    assert set(found) == {GO_READ, GO_WRITE}
    symbols = Elf(str(tmp_path / "symbols"))
    for name, function in found.items():
        tool = subprocess.run(
            ["objdump", "-d", f"--disassemble={name}", str(tmp_path / "symbols")],
            capture_output=True,
            text=True,
            check=True,
        )
        at = re.findall(r"^\s+([0-9a-f]+):\tc3\s+\tret", tool.stdout, re.M)
        assert list(function.returns) == [symbols.offset(int(one, 16)) for one in at]
    symbols.close()


def hooks(monkeypatch: pytest.MonkeyPatch) -> _tls.Tls:
    """Without a kernel: nothing is attached, all else is done."""

    class Programs:
        programs = loaded = ()

        def __init__(self, *_: object, **__: object) -> None:
            self.attached = 0

        def load(self) -> None: ...

        def map(self, name: str) -> Programs:
            return self

        def get(self, key: bytes) -> None: ...

        def attach_uprobe(self, *_: object, **__: object) -> int:
            self.attached += 1
            return self.attached

    monkeypatch.setattr(_tls, "Object", Programs)
    notes: list[str] = []
    return _tls.Tls(Programs(), Wanted(), notes.append)  # type: ignore[arg-type]


def test_of_too_many_files_the_later_ones_are_not_hooked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tls, "TLS_FILES", 1)
    made = hooks(monkeypatch)
    path = LIBRARIES[0]
    made._look([Mapped(("00:00", inode), 0, path, "") for inode in (1, 2)])
    first, second = made.files.values()
    assert first.hooked
    assert (second.hooked, second.why) == (False, "over 1 files are hooked")


def test_of_too_many_processes_the_first_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tls, "TLS_PROCESSES", 1)
    made = hooks(monkeypatch)
    for pid in (None, 7, 7, 8):
        made.speaks(pid, "x")
    assert list(made._speakers) == [7]
    assert made._queue.qsize() == 1


def test_go_programs_of_today_and_not_go() -> None:
    elf = Elf("/bin/true")
    with pytest.raises(ElfError, match="without its function table"):
        functions(elf, (GO_READ,))
    elf.close()
    assert set(NEEDED) == {"OpenSSL", "GnuTLS"}
    assert sys.byteorder == "little"
