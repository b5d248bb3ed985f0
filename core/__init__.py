"""kshark: Kubernetes API traffic as paired requests and responses, programmable in Python.

`read` gives the entries of a capture file, `capture` those of live traffic (see `kshark.face`); authors of
plugins need `kshark.api` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kshark import _pure

if TYPE_CHECKING:
    from kshark.face import capture, read

__version__ = "0.1.0"
__all__ = ["__version__", "capture", "read"]

_pure.install()


def __getattr__(name: str) -> Any:
    """`read` and `capture`, imported when somebody asks: ``import kshark.api`` stays cheap."""
    if name in ("capture", "read"):
        from kshark import face

        return getattr(face, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
