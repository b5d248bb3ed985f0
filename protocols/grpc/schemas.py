"""Where types of bodies come from: descriptor sets, folders of ``.proto``, a server that is asked.

All is read before anything is captured, within PROTO_SCHEMA bytes. A folder is compiled by protoc as grpcio-tools has
it (``pip install kshark[grpc]``). A server is asked only where the user names it: ``reflect:HOST:PORT``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kshark import limits
from kshark.api import PluginError
from kshark.protocols.grpc.reflection import descriptors_of
from kshark.protocols.grpc.schema import Pool
from kshark.protocols.grpc.wire import BadMessage

REFLECT: Final = "reflect:"
MISSING: Final = "needs grpcio-tools: pip install 'kshark[grpc]'"


def load(places: Iterable[str], pool: Pool) -> Pool:
    """Add the types of all these places; `PluginError` for what is wrong with one."""
    room = limits.PROTO_SCHEMA
    for place in places:
        try:
            for data in descriptors(place):
                room -= len(data)
                if room < 0:
                    raise PluginError(
                        f"--proto {place}: over {limits.PROTO_SCHEMA >> 20} MiB of descriptors"
                    )
                if place.startswith(REFLECT):
                    pool.add_file(data)
                else:
                    pool.add_set(data)
        except BadMessage as error:
            raise PluginError(
                f"--proto {place}: no descriptor set (protoc --include_imports --descriptor_set_out=FILE)"
            ) from error
        except RecursionError as error:
            raise PluginError(f"--proto {place}: types within types, too deep") from error
        except OSError as error:
            raise PluginError(f"--proto {place}: {error.strerror or error}") from error
        if not pool.messages:
            raise PluginError(f"--proto {place}: there is no type in it")
    return pool


def descriptors(place: str) -> Iterable[bytes]:
    """What one place has: descriptor sets, or of a server the descriptors of files."""
    if place.startswith(REFLECT):
        address = place.removeprefix(REFLECT)
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal()):
            raise PluginError(f"--proto {place}: must be {REFLECT}HOST:PORT")
        return descriptors_of(address)
    path = Path(place)
    if path.is_dir():
        return [compiled(path)]
    if path.stat().st_size > limits.PROTO_SCHEMA:
        raise PluginError(f"--proto {place}: over {limits.PROTO_SCHEMA >> 20} MiB of descriptors")
    if path.suffix == ".proto":
        raise PluginError(f"--proto {place}: give the folder that its imports begin from")
    return [path.read_bytes()]


def compiled(folder: Path) -> bytes:
    """The descriptor set of all ``.proto`` in a folder, which is where imports begin."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.proto"))
    if not files:
        raise PluginError(f"--proto {folder}: there is no .proto in it")
    try:
        from grpc_tools import protoc
    except ImportError as error:
        raise PluginError(f"--proto {folder}: {MISSING}") from error
    own = str(Path(protoc.__file__).parent / "_proto")  # google/protobuf
    with tempfile.TemporaryDirectory() as where:
        out = Path(where) / "all.pb"
        command = [
            "protoc",
            f"-I{folder}",
            f"-I{own}",
            "--include_imports",
            f"--descriptor_set_out={out}",
        ]
        if protoc.main([*command, *files]) != 0:
            raise PluginError(
                f"--proto {folder}: protoc does not compile it; what is wrong stands above"
            )
        return out.read_bytes()
