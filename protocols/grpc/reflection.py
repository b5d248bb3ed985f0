"""Ask a server for its types: ``grpc.reflection.v1``, else ``v1alpha``. Only where a user names the server.

Once, before the capture, within REFLECTION in all, REFLECTED files at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from kshark import limits
from kshark.api import PluginError
from kshark.protocols.grpc.schema import parts, text
from kshark.protocols.grpc.wire import BadMessage

VERSIONS: Final = ("v1", "v1alpha")
UNIMPLEMENTED: Final = 12


def descriptors_of(address: str) -> list[bytes]:
    """The files of all services of a server."""
    try:
        import grpc
    except ImportError as error:
        raise PluginError(
            f"--proto reflect:{address}: needs grpcio: pip install 'kshark[grpc]'"
        ) from error
    with grpc.insecure_channel(address) as channel:
        for version in VERSIONS:
            try:
                return ask(
                    channel, f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
                )
            except grpc.RpcError as error:
                code = error.code()
                if code.value[0] == UNIMPLEMENTED and version != VERSIONS[-1]:
                    continue
                told = error.details() or ""
                raise PluginError(
                    f"--proto reflect:{address}: {code.name}: {told}"[:300]
                ) from error
            except BadMessage as error:
                raise PluginError(
                    f"--proto reflect:{address}: its answer is no descriptor"
                ) from error
    return []


def ask(channel: Any, method: str) -> list[bytes]:
    """One conversation: what services are there, then the file of each, with all that it imports."""
    call = channel.stream_stream(method)
    wanted = [b"\x3a\x01*"]  # list_services
    found: dict[str, bytes] = {}
    asked = 0

    def questions() -> Iterator[bytes]:
        nonlocal asked
        while wanted and asked < limits.REFLECTED:
            asked += 1
            yield wanted.pop(0)

    while wanted and asked < limits.REFLECTED:
        for answer in call(questions(), timeout=limits.REFLECTION / limits.SECOND):
            for services in parts(answer, 6):
                wanted += [field(4, text(one, 1)) for one in parts(services, 1)]
            for files in parts(answer, 4):
                keep(found, parts(files, 1), wanted)
    return list(found.values())


def keep(found: dict[str, bytes], files: Iterator[bytes], wanted: list[bytes]) -> None:
    """Files that a server gave; those that they import and that did not come are asked for."""
    new = {text(one, 1): one for one in files}
    found.update(new)
    for one in new.values():
        for name in (raw.decode("utf-8", "replace") for raw in parts(one, 3)):
            question = field(3, name)
            if name not in found and question not in wanted:
                wanted.append(question)


def field(number: int, value: str) -> bytes:
    """A request with one text (of less than 16 KiB)."""
    raw = value.encode()[:16_383]
    size = len(raw)
    head = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([number << 3 | 2]) + head + raw
