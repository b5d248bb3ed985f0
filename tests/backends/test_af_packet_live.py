"""The backend on real packets, in network namespaces of its own."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from netlab import Lab, Seen, Watch, bound, lab, watching

from kshark.api import PluginError
from kshark.backends import af_packet
from kshark.backends._netns import inside
from kshark.backends.af_packet import AfPacket, AfPacketOptions

__all__ = ["lab"]
pytestmark = pytest.mark.live

FANOUT = os.getpid() % 65_535 + 1
Main = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Main], None]:
    """Runs a coroutine function on either kind of loop."""
    runner = asyncio.run if request.param == "asyncio" else uvloop.run
    return lambda main: runner(main())


def udp(lab: Lab, left: str, right: str, count: int, *, net: int = 1, port: int = 5001) -> None:
    """`count` datagrams from left to right over their veth, each with its number as payload."""
    with bound(left, f"10.{net}.0.1", 0) as source, bound(right, f"10.{net}.0.2", port) as sink:
        for number in range(count):
            source.sendto(b"%06d" % number, sink.getsockname())


def test_datagrams_are_counted_exactly(lab: Lab, run: Callable[[Main], None]) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)

    async def main() -> None:
        async with watching(netns=[left]) as watch:
            before = time.time_ns()
            udp(lab, left, right, 300)
            found = await watch.count(300)
            after = time.time_ns()
            assert [s.payload for s in found] == [b"%06d" % n for n in range(300)]
            assert {s.iface for s in found} == {f"{left}/va"}
            assert {s.wire for s in found} == {14 + 20 + 8 + 6}
            times = [s.ns for s in found]
            assert times == sorted(times)
            assert before <= times[0] <= times[-1] <= after
            assert any(ns % 1000 for ns in times), "finer than microseconds"
            assert watch.stats.received == len(watch.seen)
            assert watch.stats.dropped == {}

    run(main)


def test_a_tcp_exchange_is_whole(lab: Lab, run: Callable[[Main], None]) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)
    question, answer = os.urandom(3000), os.urandom(200_000)

    async def main() -> None:
        async with watching(netns=[right], bpf="tcp port 80") as watch:
            with bound(right, "10.1.0.2", 80, socket.SOCK_STREAM) as server:
                server.listen()
                client = bound(left, "10.1.0.1", 0, socket.SOCK_STREAM)
                client.connect(("10.1.0.2", 80))
                peer, _ = server.accept()
                with client, peer:
                    client.sendall(question)
                    sender = asyncio.to_thread(peer.sendall, answer)
                    receiver = asyncio.to_thread(receive, client, len(answer))
                    await asyncio.gather(sender, receiver)

            await watch.until(lambda: sent(watch, 80) == answer)
            assert sent(watch, 0) == question
            assert watch.stats.dropped == {}

    run(main)


def receive(sock: socket.socket, size: int) -> None:
    """Read all of it: a socket closed with bytes unread resets the connection, and the rest is lost.

    MSG_WAITALL would not do: a socket with a timeout is non-blocking underneath.
    """
    while size > 0:
        got = len(sock.recv(65_536))
        assert got, "the peer closed early"
        size -= got


def sent(watch: Watch, port: int) -> bytes:
    """What the server (port 80) or the client sent, up to the first hole, each byte at its place."""
    found = []
    for s in watch.ip:
        source, _, seq = struct.unpack_from("!HHI", s.ip, (s.ip[0] & 15) * 4)
        if (source == 80) == (port == 80):
            found.append((seq, s.payload))
    first = found[0][0] + 1 if found else 0  # of the SYN
    stream = bytearray()
    for at, payload in sorted(((seq - first) % 2**32, data) for seq, data in found if data):
        if at <= len(stream):  # a retransmission may be cut in other pieces
            stream[at : at + len(payload)] = payload
    return bytes(stream)


def test_loopback_comes_once(lab: Lab, run: Callable[[Main], None]) -> None:
    space = lab.space()

    async def main() -> None:
        async with watching(netns=[space]) as watch:
            with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
                for number in range(20):
                    one.sendto(b"%06d" % number, two.getsockname())
            found = await watch.count(20)
            assert [s.payload for s in found] == [b"%06d" % n for n in range(20)]
            assert {s.iface for s in found} == {f"{space}/lo"}

    run(main)


def test_both_directions_of_a_real_link_come(lab: Lab) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)

    async def main() -> None:
        async with watching(netns=[left]) as watch:
            udp(lab, left, right, 5)
            with bound(right, "10.1.0.2", 0) as source, bound(left, "10.1.0.1", 9) as sink:
                source.sendto(b"back", sink.getsockname())
            assert [s.payload for s in await watch.count(6)][-1] == b"back"

    asyncio.run(main())


@pytest.mark.parametrize("how", ["name", "path", "pid", "all three"])
def test_a_namespace_by_name_path_and_process(lab: Lab, how: str) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)
    pid = str(lab.process(left))
    ways = {"name": left, "path": f"/run/netns/{left}", "pid": pid}
    given = list(ways.values()) if how == "all three" else [ways[how]]
    label = given[0].rsplit("/", maxsplit=1)[-1]

    async def main() -> None:
        async with watching(netns=given) as watch:
            udp(lab, left, right, 10)
            assert {s.iface for s in await watch.count(10)} == {f"{label}/va"}
            assert len(watch.ip) == 10

    home = os.stat("/proc/thread-self/ns/net").st_ino
    asyncio.run(main())
    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def test_two_namespaces_at_once_number_their_links_apart(lab: Lab) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)

    async def main() -> None:
        async with watching(netns=[left, right]) as watch:
            udp(lab, left, right, 50)
            found = await watch.count(100)
            assert len(found) == 100
            sides = {(s.number, s.iface) for s in found}
            assert {name for _, name in sides} == {f"{left}/va", f"{right}/vb"}
            assert len({number for number, _ in sides}) == 2

    asyncio.run(main())


def test_globs_choose_interfaces(lab: Lab) -> None:
    left, right = lab.space(), lab.space()
    for net, name in enumerate(("va1", "va2", "wb1"), 1):
        lab.veth(left, name, right, f"p{net}", net)

    async def main(target: str | list[str], expected: set[str]) -> None:
        async with watching(netns=[left], target=target) as watch:
            for net in (1, 2, 3):
                udp(lab, left, right, 10, net=net)
            found = await watch.count(10 * len(expected))
            assert {s.iface.split("/")[1] for s in found} == expected
            assert len(found) == 10 * len(expected)

    asyncio.run(main("va*", {"va1", "va2"}))
    asyncio.run(main("va1+w?1", {"va1", "wb1"}))
    asyncio.run(main(["wb1"], {"wb1"}))
    asyncio.run(main("any", {"va1", "va2", "wb1"}))


def test_links_that_come_and_go(lab: Lab, run: Callable[[Main], None]) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)

    async def main() -> None:
        async with watching(netns=[left], target="v*") as watch:
            for turn in range(3):
                name = f"vnew{turn}"
                lab.veth(left, name, right, "pnew", 2)
                udp(lab, left, right, 10, net=2)
                lab.ip("link", "del", name, space=left)
            lab.veth(left, "other", right, "pother", 3)
            udp(lab, left, right, 10, net=3)
            udp(lab, left, right, 1, net=1)
            found = await watch.count(31)
            names = [s.iface.split("/")[1] for s in found]
            assert names == ["vnew0"] * 10 + ["vnew1"] * 10 + ["vnew2"] * 10 + ["va"]
            await watch.until(lambda: f"{left}/vnew2 is gone" in watch.stats.notes)
            assert watch.stats.notes == [
                f"{left}/vnew{turn} {what}" for turn in range(3) for what in ("appeared", "is gone")
            ]

    run(main)


def test_a_link_that_is_renamed_is_followed(lab: Lab) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)

    async def main() -> None:
        async with watching(netns=[left], target="v*") as watch:

            def arrived(name: str) -> bool:
                """After a link is set up, its carrier takes a while: send until one comes through."""
                udp(lab, left, right, 1)
                return any(s.iface == f"{left}/{name}" for s in watch.ip)

            await watch.until(lambda: arrived("va"))
            for old, new, note in (
                ("va", "vz", "va is called vz now"),
                ("vz", "hid", "vz is gone"),
            ):
                lab.ip("link", "set", old, "down", space=left)
                lab.ip("link", "set", old, "name", new, space=left)
                lab.ip("link", "set", new, "up", space=left)
                said = f"{left}/{note}"
                await watch.until(lambda said=said: said in watch.stats.notes)  # type: ignore[misc]
                if new == "vz":
                    await watch.until(lambda: arrived("vz"))
            assert watch.stats.notes[-1] == "no interface v* is left: waiting for one"
            assert len({s.number for s in watch.ip}) == 1, "the number stays"

    asyncio.run(main())


def test_a_filter_of_the_kernel(lab: Lab, run: Callable[[Main], None]) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)

    async def main() -> None:
        async with watching(netns=[left], bpf="udp dst port 5001 and host 10.1.0.2") as watch:
            udp(lab, left, right, 25, port=5001)
            udp(lab, left, right, 25, port=5002)
            udp(lab, left, right, 1, port=5001)
            assert len(await watch.count(26)) == 26
            assert len(watch.seen) == 26

    run(main)


def test_snaplen_cuts_and_says_how_long_it_was(lab: Lab) -> None:
    space = lab.space()

    async def main() -> None:
        async with watching(netns=[space], snaplen=100) as watch:
            with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
                one.sendto(b"x" * 1000, two.getsockname())
            (only,) = await watch.count(1)
            assert (len(only.data), only.wire) == (100, 14 + 28 + 1000)

    asyncio.run(main())


def test_drops_are_counted_when_the_consumer_stops(lab: Lab) -> None:
    space = lab.space()
    sent = 3000

    async def main() -> None:
        options: dict[str, Any] = {"ring_bytes": 64 * 1024, "block_bytes": 8192}
        async with watching(netns=[space], bpf="udp dst port 7", **options) as watch:
            watch.open.clear()
            with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
                for _ in range(sent):
                    one.sendto(b"x" * 500, two.getsockname())
                watch.open.set()
                await watch.until(
                    lambda: watch.stats.received + watch.stats.dropped["kernel"] == sent
                )
            stats = watch.stats
            assert 0 < stats.received < 200
            assert stats.received == len(watch.seen)
            assert stats.dropped == {"kernel": sent - stats.received}
            assert any("ring was full" in note for note in stats.notes)
            with bound(space, "127.0.0.1", 0) as one:
                one.sendto(b"again", ("127.0.0.1", 7))
            await watch.until(lambda: watch.seen[-1].payload == b"again")
            assert watch.stats.dropped == stats.dropped
            assert watch.stats.notes == stats.notes

    asyncio.run(main())


@pytest.mark.parametrize("where", ["veth", "lo", "lo6"])
def test_fanout_keeps_both_directions_together(lab: Lab, where: str) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)
    if where == "lo6":
        with inside(left), open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "w") as knob:
            knob.write("0")
        lab.ip("link", "set", "lo", "down", space=left)
        lab.ip("link", "set", "lo", "up", space=left)
    ends = {
        "veth": (left, "10.1.0.1", right, "10.1.0.2"),
        "lo": (left, "127.0.0.1", left, "127.0.0.1"),
        "lo6": (left, "::1", left, "::1"),
    }[where]

    def flows() -> None:
        for port in range(6000, 6064):
            with bound(*ends[:2], port) as one, bound(*ends[2:], port + 1000) as two:
                for _ in range(3):
                    one.sendto(b"ping", two.getsockname()[:2])
                    two.recv(100)
                    two.sendto(b"pong", one.getsockname()[:2])
                    one.recv(100)

    async def main() -> None:
        options: dict[str, Any] = {
            "netns": [left],
            "fanout": FANOUT,
            "bpf": "udp",
        }
        async with watching(**options) as first, watching(**options, worker=1) as second:
            flows()
            await first.until(lambda: len(first.seen) + len(second.seen) >= 64 * 6)
            await asyncio.sleep(0.1)
            assert len(first.seen) + len(second.seen) == 64 * 6
            mine, yours = ({s.ends for s in watch.seen} for watch in (first, second))
            assert not mine & yours
            assert min(len(mine), len(yours)) >= 8, "both have work"
            assert len(mine) + len(yours) == 64

    asyncio.run(main())


def inner(seen: Seen) -> frozenset[tuple[bytes, bytes]]:
    """The ends of the flow in a packet, within VXLAN where it is wrapped."""
    ip = seen.ip
    if ip[22:24] == (4789).to_bytes(2, "big"):
        return seen._replace(data=ip[50:], linktype=101).ends
    return seen.ends


def test_fanout_looks_into_tunnels(lab: Lab) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)
    for space, own, other in ((left, "1", "2"), (right, "2", "1")):
        words = f"link add vx type vxlan id 7 remote 10.1.0.{other} dstport 4789 dev"
        lab.ip(*words.split(), "va" if own == "1" else "vb", space=space)
        lab.ip("addr", "add", f"10.2.0.{own}/24", "dev", "vx", space=space)
        lab.ip("link", "set", "vx", "up", space=space)

    async def main() -> None:
        options: dict[str, Any] = {"netns": [left], "fanout": FANOUT, "bpf": "udp"}
        async with watching(**options) as first, watching(**options, worker=1) as second:
            for port in range(6000, 6032):
                with bound(left, "10.2.0.1", port) as one, bound(right, "10.2.0.2", 53) as two:
                    one.sendto(b"ping", two.getsockname())
                    two.recv(100)
                    two.sendto(b"pong", one.getsockname())
                    one.recv(100)

            def flows(watch: Watch) -> list[frozenset[tuple[bytes, bytes]]]:
                return [ends for ends in map(inner, watch.ip) if (b"\x0a\2\0\2", b"\0\x35") in ends]

            await first.until(lambda: len(flows(first)) + len(flows(second)) == 32 * 4)
            mine, yours = set(flows(first)), set(flows(second))
            assert not mine & yours
            assert len(mine) + len(yours) == 32
            assert min(len(mine), len(yours)) >= 4, "both have work"

    asyncio.run(main())


TUN_IP = bytes.fromhex("4500002200000000401100000a0900020a090001")


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="no /dev/net/tun here")
@pytest.mark.parametrize("bpf", ["", "udp dst port 5001", "udp[8:4] = 0x68656c6c"])
def test_a_tun_link_gives_bare_ip(lab: Lab, bpf: str) -> None:
    space = lab.space()
    with inside(space):
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"tun7", 0x1001))  # IFF_TUN, NO_PI
    lab.ip("addr", "add", "10.9.0.1/24", "dev", "tun7", space=space)
    lab.ip("link", "set", "tun7", "up", space=space)

    async def main() -> None:
        async with watching(netns=[space], bpf=bpf) as watch:
            os.write(device, TUN_IP + struct.pack("!HHHH", 77, 5001, 14, 0) + b"hello!")
            with bound(space, "10.9.0.1", 0) as out:
                out.sendto(b"hello?", ("10.9.0.3", 5001))
                out.sendto(b"hellno", ("10.9.0.3", 5002))
            await watch.until(lambda: len(watch.seen) >= (2 if bpf.startswith("udp dst") else 3))
            found = [s for s in watch.seen if s.payload.startswith(b"hell")]
            assert {s.linktype for s in found} == {101}
            assert {s.iface for s in found} == {f"{space}/tun7"}
            payloads = [s.payload for s in found]
            assert payloads[:2] == [b"hello!", b"hello?"]
            assert len(payloads) == (2 if bpf.startswith("udp dst") else 3)
            assert found[0].data[:20][:4] == TUN_IP[:4]

    try:
        asyncio.run(main())
    finally:
        os.close(device)


DROPPED = """
import asyncio, json, os, socket, sys
from kshark.backends.af_packet import AfPacket, AfPacketOptions

async def main():
    backend = AfPacket(AfPacketOptions(netns=[sys.argv[1]], user="nobody"))
    backend.open()
    print("open", flush=True)
    count = 0
    async for block in backend.blocks():
        count += block.count
        if f"{sys.argv[1]}/late appeared" in backend.stats().notes and count > 10:
            break
    status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        again = "possible"
    except PermissionError:
        again = "refused"
    print(json.dumps({"count": count, "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
        "caps": [int(status[c], 16) for c in ("CapPrm", "CapEff", "CapInh", "CapAmb")], "again": again,
        "nnp": status["NoNewPrivs"]}))

asyncio.run(main())
"""


def test_privileges_are_dropped_and_capturing_goes_on(lab: Lab) -> None:
    import pwd

    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)
    nobody = pwd.getpwnam("nobody")
    process = subprocess.Popen(
        [sys.executable, "-c", DROPPED, left],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        udp(lab, left, right, 10)
        lab.veth(left, "late", right, "plate", 2)
        udp(lab, left, right, 10, net=2)
        out, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert errors == ""
    told = json.loads(out)
    assert told["count"] >= 11
    assert told["uid"] == [nobody.pw_uid] * 3
    assert told["gid"] == [nobody.pw_gid] * 3
    assert (told["groups"], told["caps"]) == ([], [0, 0, 0, 0])
    assert (told["again"], told["nnp"]) == ("refused", "1")


# ---------------------------------------------------------------- ends


def test_close_ends_a_wait(lab: Lab, run: Callable[[Main], None]) -> None:
    space = lab.space()

    async def main() -> None:
        backend = AfPacket(AfPacketOptions(netns=[space]))
        watch = Watch(backend)
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(0.05)
        await backend.close()
        await asyncio.wait_for(task, 5)
        assert backend.stats().received == 0
        await backend.close()

    run(main)


def test_close_within_a_block_leaves_its_memory(lab: Lab, run: Callable[[Main], None]) -> None:
    space = lab.space()

    async def main() -> None:
        backend = AfPacket(AfPacketOptions(netns=[space]))
        backend.open()
        with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
            one.sendto(b"payload", two.getsockname())
        blocks = backend.blocks()
        block = await anext(blocks)
        await backend.close()
        assert b"payload" in bytes(block.data)
        assert await anext(blocks, None) is None
        assert backend.stats().received == 1

    run(main)


def test_cancellation_closes_everything(lab: Lab, run: Callable[[Main], None]) -> None:
    space = lab.space()

    async def main() -> None:
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        backend = AfPacket(AfPacketOptions(netns=[space]))
        task = asyncio.create_task(Watch(backend).run())
        await asyncio.sleep(0.05)
        assert len(os.listdir("/proc/self/fd")) > before
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(os.listdir("/proc/self/fd")) == before

    run(main)


def test_a_block_is_borrowed_until_the_next_step(lab: Lab) -> None:
    space = lab.space()

    async def main() -> None:
        backend = AfPacket(AfPacketOptions(netns=[space]))
        backend.open()
        with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
            one.sendto(b"first", two.getsockname())
            blocks = backend.blocks()
            kept = await anext(blocks)
            assert kept.data.readonly
            one.sendto(b"second", two.getsockname())
            await anext(blocks)
        with pytest.raises(ValueError, match="released"):
            bytes(kept.data)
        await backend.close()
        await blocks.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


def test_a_held_block_does_not_spin_the_loop(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    space = lab.space()
    woken = []
    wake = af_packet._wake

    def counted(waiter: asyncio.Future[None]) -> None:
        woken.append(waiter)
        wake(waiter)

    monkeypatch.setattr(af_packet, "_wake", counted)

    async def main() -> None:
        async with watching(netns=[space]) as watch:
            watch.open.clear()
            with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
                one.sendto(b"held", two.getsockname())
            await watch.until(lambda: watch.blocks == 1)
            before = len(woken)
            await asyncio.sleep(0.1)
            assert 0 < before == len(woken)

    asyncio.run(main())


# ---------------------------------------------------------------- mistakes


def opened(**options: Any) -> str:
    """The complaint about these options."""
    backend = AfPacket(AfPacketOptions(**options))
    with pytest.raises(PluginError) as caught:
        backend.open()
    assert backend.stats().received == 0
    return str(caught.value)


def test_an_interface_that_is_not_there(lab: Lab) -> None:
    space = lab.space()
    lab.veth(space, "va", space, "vb", 1)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for target, wrong in (("eth*", "eth*"), ("va+nope", "nope"), (["vc"], "vc")):
        text = opened(netns=[space], target=target)
        assert (
            text == f"af_packet: no interface {wrong}; there is {space}/lo, {space}/va, {space}/vb"
        )
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_link_that_is_down_is_said(lab: Lab) -> None:
    space = lab.space()
    lab.ip("link", "add", "va", "type", "veth", "peer", "vb", space=space)

    async def main() -> None:
        async with watching(netns=[space], target="va") as watch:
            assert watch.stats.notes == [f"{space}/va is down"]

    asyncio.run(main())
