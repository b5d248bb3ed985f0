"""The compiled core: every ``*.pyx``, and every ``*.py`` that has a ``.pxd`` beside it.

All of it is optional: without a compiler the build goes on, and kshark runs on the pure twins. So are the programs
for the kernel (``bpf/*.bpf.c``): without clang the build says so, and the backends that need them are not available.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from setuptools import Extension, setup

ROOTS = {
    "core": "kshark",
    "backends": "kshark.backends",
    "protocols": "kshark.protocols",
    "sinks": "kshark.sinks",
    "enrichers": "kshark.enrichers",
}
DIRECTIVES = {
    "language_level": "3",
    "boundscheck": True,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
    "annotation_typing": False,  # types come from the .pxd, annotations stay Python's
}


JOBS = min(4, os.cpu_count() or 1)
"""Compilers at once; each takes a few hundred MB."""


def sources() -> list[Path]:
    """Cython sources, in a stable order."""
    found = []
    for root in ROOTS:
        found += Path(root).rglob("*.pyx")
        found += [
            p.with_suffix(".py")
            for p in Path(root).rglob("*.pxd")
            if p.with_suffix(".py").exists() and not p.with_suffix(".pyx").exists()
        ]
    return sorted(set(found))


def module(path: Path) -> str:
    """core/wire/fast.pyx -> kshark.wire.fast"""
    head, *rest = path.with_suffix("").parts
    return ".".join([ROOTS[head], *rest])


def declarations() -> Path:
    """A folder in which the .pxd of each module lies where its dotted name says: kshark/protocols/..."""
    include = Path("build/include")
    package = include / "kshark"
    if package.is_symlink():
        package.unlink()
    package.mkdir(parents=True, exist_ok=True)
    inside = {Path(root).name: Path(root) for root in ROOTS if root != "core"}
    inside |= {path.name: path for path in Path("core").iterdir()}
    for name, path in inside.items():
        link = package / name
        if not link.is_symlink():
            link.symlink_to(path.resolve())
    return include


def extensions() -> list[Extension]:
    if os.environ.get("KSHARK_BUILD_PURE"):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        return []
    include = declarations()
    wanted = [Extension(module(p), [str(p)], extra_compile_args=["-O3", "-g0"]) for p in sources()]
    made: list[Extension] = cythonize(
        wanted,
        compiler_directives=DIRECTIVES,
        include_path=[str(include)],
        build_dir="build/cython",
        quiet=True,
        nthreads=JOBS,
    )
    for extension in made:  # here, since cythonize() forgets it
        extension.optional = True
    return made


def programs() -> None:
    """Compile ``bpf/*.bpf.c``; what cannot be done is said by the script itself."""
    if not os.environ.get("KSHARK_BUILD_PURE"):
        subprocess.run(["sh", "bpf/build.sh"], check=False)


programs()
setup(ext_modules=extensions(), options={"build_ext": {"parallel": JOBS}})
