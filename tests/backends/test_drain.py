"""What the ring holds when the capture ends is handed over, not lost without a word."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from kshark.api import Block
from kshark.backends.af_packet import AfPacket, AfPacketOptions

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0 and "CI" not in os.environ, reason="needs root"),
]


def test_packets_of_the_last_milliseconds() -> None:
    async def main() -> tuple[int, int]:
        backend = AfPacket(AfPacketOptions(target=["lo"], bpf="udp and dst port 47123"))
        backend.open()
        blocks = backend.blocks()
        waiting = asyncio.ensure_future(anext(blocks, None))
        await asyncio.sleep(0.1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(100):
                sender.sendto(b"x", ("127.0.0.1", 47123))
        await backend.close()  # before the kernel has retired the block
        seen = 0
        block: Block | None = await waiting
        while block is not None:
            seen += block.count
            block = await anext(blocks, None)
        return seen, backend.stats().received

    assert asyncio.run(main()) == (100, 100)
