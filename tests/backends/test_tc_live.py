"""Packets by programs in the kernel: the backend ``tc``, on real traffic in network namespaces of its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from netlab import Lab, Watch, bound, lab, watched

from kshark.api import Endpoint, Flow, PluginError
from kshark.backends import tc
from kshark.backends._netns import inside
from kshark.limits import NOTES

__all__ = ["lab"]
pytestmark = pytest.mark.live

HOOKS = ["tcx", "clsact"]
TUN_IP = bytes.fromhex("4500002200000000401100000a0900020a090001")


@contextlib.asynccontextmanager
async def watching(**options: Any) -> AsyncIterator[Watch]:
    """The backend ``tc``, which captures from now on."""
    backend = tc.make(tc.TcOptions(**options))
    backend.open()
    async with watched(backend) as watch:
        yield watch


def udp(lab: Lab, left: str, right: str, count: int, *, net: int = 1, port: int = 5001) -> None:
    """`count` datagrams from left to right over their veth, each with its number as payload."""
    with bound(left, f"10.{net}.0.1", 0) as source, bound(right, f"10.{net}.0.2", port) as sink:
        for number in range(count):
            source.sendto(b"%06d" % number, sink.getsockname())


def datagrams(watch: Watch) -> list[bytes]:
    return [s.payload for s in watch.ip if s.ip[9] == 17]


def filters(space: str, link: str) -> str:
    """What tc(8) has to say of a link's programs and discipline."""
    said = ""
    for words in (["filter", "show", "dev", link, "ingress"], ["qdisc", "show", "dev", link]):
        said += subprocess.run(
            ["tc", "-n", space, *words], capture_output=True, text=True, check=True
        ).stdout
    return said


@pytest.mark.parametrize("hook", HOOKS)
def test_both_directions_come_with_time_and_name(lab: Lab, hook: str) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)

    async def main() -> None:
        async with watching(netns=[left], hook=hook) as watch:
            import time

            before = time.time_ns()
            udp(lab, left, right, 300)
            with bound(right, "10.1.0.2", 0) as source, bound(left, "10.1.0.1", 9) as sink:
                source.sendto(b"back", sink.getsockname())
            found = await watch.count(301)
            after = time.time_ns()
            assert datagrams(watch) == [b"%06d" % n for n in range(300)] + [b"back"]
            assert {s.iface for s in found} == {f"{left}/va"}
            assert found[0].wire == len(found[0].data) == 14 + 20 + 8 + 6
            times = [s.ns for s in found]
            assert times == sorted(times)
            assert before - 1_000_000 <= times[0] <= times[-1] <= after + 1_000_000
            assert watch.stats.received == len(watch.seen)
            assert watch.stats.dropped == {}

    asyncio.run(main())


@pytest.mark.parametrize("hook", HOOKS)
def test_loopback_comes_once(lab: Lab, hook: str) -> None:
    space = lab.space()

    async def main() -> None:
        async with watching(netns=[space], hook=hook, target="lo") as watch:
            with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
                for number in range(20):
                    one.sendto(b"%06d" % number, two.getsockname())
                one.sendto(b"x" * 60_000, two.getsockname())
            found = await watch.count(21)
            assert datagrams(watch) == [b"%06d" % n for n in range(20)] + [b"x" * 60_000]
            assert {s.iface for s in found} == {f"{space}/lo"}

    asyncio.run(main())


@pytest.mark.parametrize("hook", HOOKS)
def test_links_that_come_go_and_are_renamed(lab: Lab, hook: str) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)

    async def main() -> None:
        async with watching(netns=[left], target="v*", hook=hook) as watch:
            for turn in range(3):
                name = f"vnew{turn}"
                lab.veth(left, name, right, "pnew", 2)
                said = f"{left}/{name} appeared"
                await watch.until(lambda said=said: said in watch.stats.notes)  # type: ignore[misc]
                udp(lab, left, right, 10, net=2)
                await watch.until(lambda turn=turn: len(datagrams(watch)) == 10 * turn + 10)  # type: ignore[misc]
                lab.ip("link", "del", name, space=left)
            lab.veth(left, "other", right, "pother", 3)
            udp(lab, left, right, 10, net=3)
            await watch.until(lambda: f"{left}/vnew2 is gone" in watch.stats.notes)
            lab.ip("link", "set", "va", "name", "hid", space=left)
            await watch.until(lambda: f"{left}/va is gone" in watch.stats.notes)
            udp(lab, left, right, 10, net=1)
            lab.ip("link", "set", "hid", "name", "vz", space=left)
            await watch.until(lambda: f"{left}/vz appeared" in watch.stats.notes)
            udp(lab, left, right, 1, net=1)
            await watch.until(lambda: len(datagrams(watch)) == 31)
            names = [s.iface.split("/")[1] for s in watch.ip if s.ip[9] == 17]
            assert names == ["vnew0"] * 10 + ["vnew1"] * 10 + ["vnew2"] * 10 + ["vz"]

    asyncio.run(main())
    assert "kshark" not in filters(left, "vz")


def test_a_namespace_by_the_process_that_lives_in_it(lab: Lab) -> None:
    """As a pod: nothing but the id of one of its processes is known, and two namespaces at once."""
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)
    pid = str(lab.process(left))

    async def main() -> None:
        async with watching(netns=[pid, left, right]) as watch:
            udp(lab, left, right, 10)
            found = [s for s in await watch.count(20) if s.ip[9] == 17]
            assert [s.iface for s in found].count(f"{pid}/va") == 10
            assert [s.iface for s in found].count(f"{right}/vb") == 10
            assert len(found) == 20

    home = os.stat("/proc/thread-self/ns/net").st_ino
    asyncio.run(main())
    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def ipv6(space: str, link: str, address: str) -> None:
    with inside(space), open(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6", "w") as knob:
        knob.write("0")
    subprocess.run(
        ["ip", "-n", space, "addr", "add", address, "dev", link, "nodad"],
        check=True,
    )


def tagged(vlans: int, payload: bytes) -> bytes:
    """An Ethernet frame of UDP from 10.1.0.1:7000 to 10.1.0.2:5001, within so many VLANs."""
    udp = struct.pack("!HHHH", 7000, 5001, 8 + len(payload), 0) + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    ip += bytes([10, 1, 0, 1, 10, 1, 0, 2])
    return b"\xff" * 6 + b"\2\0\0\0\0\1" + b"\x81\0\0\7" * vlans + b"\x08\0" + ip + udp


def test_only_the_ports_that_are_asked_for(lab: Lab) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)
    for space, link, host in ((left, "va", 1), (right, "vb", 2)):
        ipv6(space, link, f"fd00::{host}/64")

    async def main() -> None:
        async with watching(netns=[left], target="va", ports=[5001, 5003]) as watch:
            for port in (5001, 5002, 5003):
                udp(lab, left, right, 5, port=port)
                with bound(left, "fd00::1", 0) as source, bound(right, "fd00::2", port) as sink:
                    source.sendto(b"six", sink.getsockname()[:2])
                    sink.sendto(b"from", source.getsockname()[:2])
            with bound(left, "10.1.0.1", 0) as source, bound(right, "10.1.0.2", 5001) as sink:
                source.sendto(b"y" * 4000, sink.getsockname())  # three fragments
            with inside(left):
                raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            with raw:
                raw.bind(("va", 0))
                for vlans in (0, 1, 2):
                    raw.send(tagged(vlans, b"tagged"))
                raw.send(tagged(3, b"deeper than we look"))
            await watch.until(lambda: sum(b"tagged" in s.data for s in watch.seen) == 3)
            four = [s for s in watch.ip if s.ip[0] >> 4 == 4]
            six = [s for s in watch.ip if s.ip[0] >> 4 == 6]
            assert (len(four), len(six)) == (10 + 3 + 1, 4)
            assert len(watch.seen) == 14 + 4 + 2

    asyncio.run(main())


def test_snaplen_cuts_and_says_how_long_it_was(lab: Lab) -> None:
    space = lab.space()

    async def main() -> None:
        async with watching(netns=[space], snaplen=100) as watch:
            with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
                one.sendto(b"x" * 1000, two.getsockname())
            (only,) = await watch.count(1)
            assert (len(only.data), only.wire) == (100, 14 + 28 + 1000)
            assert watch.stats.notes == ["packets of more than 100 bytes are cut: see snaplen"]

    asyncio.run(main())


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="no /dev/net/tun here")
def test_a_tun_link_gives_bare_ip(lab: Lab) -> None:
    space = lab.space()
    with inside(space):
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"tun7", 0x1001))  # IFF_TUN, NO_PI
    lab.ip("addr", "add", "10.9.0.1/24", "dev", "tun7", space=space)
    lab.ip("link", "set", "tun7", "up", space=space)

    async def main() -> None:
        async with watching(netns=[space], ports=[5001]) as watch:
            os.write(device, TUN_IP + struct.pack("!HHHH", 77, 5001, 14, 0) + b"hello!")
            with bound(space, "10.9.0.1", 0) as out:
                out.sendto(b"hello?", ("10.9.0.3", 5001))
                out.sendto(b"hellno", ("10.9.0.3", 5002))
            found = await watch.count(2)
            assert [s.payload for s in found] == [b"hello!", b"hello?"]
            assert {(s.linktype, s.iface) for s in found} == {(101, f"{space}/tun7")}

    try:
        asyncio.run(main())
    finally:
        os.close(device)


def test_a_ring_that_is_too_small_loses_and_says_how_much(lab: Lab) -> None:
    space = lab.space()
    sent = 3000

    async def main() -> None:
        async with watching(netns=[space], ports=[7], ring_bytes=512 * 1024) as watch:
            watch.open.clear()
            with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
                for _ in range(sent):
                    one.sendto(b"x" * 500, two.getsockname())
                watch.open.set()
                await watch.until(
                    lambda: watch.stats.received + watch.stats.dropped["kernel"] == sent
                )
                stats = watch.stats
                assert 0 < stats.received < 1000
                assert stats.dropped == {"kernel": sent - stats.received}
                assert any("ring was full" in note for note in stats.notes)
                await watch.until(lambda: len(watch.seen) == stats.received)
                one.sendto(b"again", two.getsockname())
            await watch.until(lambda: watch.seen[-1].payload == b"again")
            assert watch.stats.dropped == stats.dropped

    asyncio.run(main())


def test_what_the_ring_holds_comes_after_close(lab: Lab) -> None:
    space = lab.space()

    async def main() -> None:
        async with watching(netns=[space], ports=[7]) as watch:
            await asyncio.sleep(0)
            with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
                for _ in range(2000):
                    one.sendto(b"x" * 1000, two.getsockname())
        assert len(watch.seen) == 2000 == watch.stats.received
        assert watch.stats.dropped == {}

    asyncio.run(main())


def test_a_block_is_borrowed_until_the_next_step(lab: Lab) -> None:
    space = lab.space()

    async def main() -> None:
        backend = tc.make(tc.TcOptions(netns=[space]))
        backend.open()
        with bound(space, "127.0.0.1", 0) as one, bound(space, "127.0.0.1", 7) as two:
            one.sendto(b"first", two.getsockname())
            blocks = backend.blocks()
            kept = await anext(blocks)
            assert memoryview(kept.data).readonly
            one.sendto(b"second", two.getsockname())
            await anext(blocks)
        with pytest.raises(ValueError, match="released"):
            bytes(kept.data)
        await backend.close()
        await blocks.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


@pytest.mark.parametrize("hook", HOOKS)
def test_cancellation_closes_everything(lab: Lab, hook: str) -> None:
    space = lab.space()

    async def main() -> None:
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        backend = tc.make(tc.TcOptions(netns=[space], hook=hook))  # type: ignore[arg-type]
        task = asyncio.create_task(Watch(backend).run())
        await asyncio.sleep(0.2)
        assert len(os.listdir("/proc/self/fd")) > before
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(os.listdir("/proc/self/fd")) == before
        assert "clsact" not in filters(space, "lo")

    asyncio.run(main())


# ---------------------------------------------------------------- ends that are none

VICTIM = """
import asyncio, sys
from kshark.backends import tc

async def main():
    backend = tc.make(tc.TcOptions(netns=[sys.argv[1]], hook=sys.argv[2]))
    backend.open()
    print("open", flush=True)
    async for block in backend.blocks():
        pass

asyncio.run(main())
"""


def killed(space: str, hook: str) -> None:
    """A capture in another process, killed while it works."""
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM, space, hook], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == "open\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def programs() -> set[str]:
    """The ids of all programs of this kind that are in the kernel."""
    said = subprocess.run(["bpftool", "prog", "show"], capture_output=True, text=True, check=True)
    return {line.split(":")[0] for line in said.stdout.splitlines() if "sched_cls" in line}


def test_killed_with_tcx_it_leaves_nothing(lab: Lab) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)
    before = programs()
    killed(left, "tcx")

    async def main() -> None:
        async with asyncio.timeout(10):
            while programs() - before:  # the kernel frees them after a grace period
                await asyncio.sleep(0.05)

    asyncio.run(main())
    assert "kshark" not in filters(left, "va")


def test_killed_with_clsact_it_is_cleaned_up_after(lab: Lab) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)
    subprocess.run(["tc", "-n", left, "qdisc", "add", "dev", "lo", "clsact"], check=True)
    killed(left, "clsact")
    assert "kshark" in filters(left, "va")

    async def main() -> None:
        async with watching(netns=[left], hook="clsact") as watch:
            assert watch.stats.notes == [
                "4 filters of a kshark that did not end properly are removed"
            ]
            assert filters(left, "va").count("kshark") == 1
            async with watching(netns=[left], hook="clsact") as other:
                assert other.stats.notes == [], "those of one that lives stay"
            udp(lab, left, right, 10)
            await watch.count(10)
            assert len(datagrams(watch)) == 10
        assert "clsact" not in filters(left, "va")

    asyncio.run(main())


def test_others_at_the_same_link_go_on(lab: Lab) -> None:
    """Whoever is at a link, too, sees the packets as well; a filter that is not ours stays where it is."""
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)
    words = "dev va egress protocol ip prio 60000 u32 match ip dport 5001 0xffff flowid 1:1"
    subprocess.run(["tc", "-n", left, "qdisc", "add", "dev", "va", "clsact"], check=True)
    subprocess.run(["tc", "-n", left, "filter", "add", *words.split()], check=True)

    async def main() -> None:
        options: dict[str, Any] = {"netns": [left], "target": "va"}
        async with contextlib.AsyncExitStack() as stack:
            watches = [
                await stack.enter_async_context(watching(**options, hook=hook))
                for hook in HOOKS * 2
            ]
            with bound(right, "10.1.0.2", 5001) as sink, bound(left, "10.1.0.1", 0) as source:
                source.sendto(b"for all", sink.getsockname())
                assert sink.recv(100) == b"for all"
                for watch in watches:
                    await watch.until(lambda watch=watch: datagrams(watch) == [b"for all"])  # type: ignore[misc]

    asyncio.run(main())
    said = subprocess.run(
        ["tc", "-n", left, "filter", "show", "dev", "va", "egress"], capture_output=True, text=True
    )
    assert "u32" in said.stdout
    assert "kshark" not in said.stdout


def test_detached_by_somebody_it_attaches_again(lab: Lab) -> None:
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)

    async def main() -> None:
        async with watching(netns=[left], target="va", hook="tcx") as watch:
            udp(lab, left, right, 10)
            await watch.until(lambda: len(datagrams(watch)) == 10)
            for link in ours():
                subprocess.run(["bpftool", "link", "detach", "id", str(link)], check=True)
            said = f"{left}/va: somebody detached the programs: they are attached again"
            await watch.until(lambda: said in watch.stats.notes)
            udp(lab, left, right, 10)
            await watch.until(lambda: len(datagrams(watch)) == 20)

    asyncio.run(main())


def ours() -> set[int]:
    """The numbers of the links to interfaces (TCX) that this process has."""
    found = set()
    for file in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            said = dict(
                line.split(":\t", 1) for line in file.read_text().splitlines() if ":\t" in line
            )
            if "ifindex" in said:
                found.add(int(said["link_id"]))
    return found


@pytest.mark.parametrize("hook", HOOKS)
def test_the_processes_are_those_that_made_the_sockets(lab: Lab, hook: str) -> None:
    """Of a socket that is there already, and of one that is made later; on loopback and from another namespace."""
    left, right = lab.space(), lab.space()
    lab.veth(left, "va", right, "vb", 1)
    ends = {"10.1.0.2": left, "127.0.0.1": right}
    me = os.getpid()

    async def main() -> None:
        with bound(right, "0.0.0.0", 5001) as sink:
            async with watching(netns=[right], hook=hook) as watch:
                for turn, (host, space) in enumerate(ends.items(), 1):
                    with inside(space):
                        source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    with source:
                        source.sendto(b"question", (host, 5001))
                        answer, peer = sink.recvfrom(100)
                        sink.sendto(answer, peer)
                        await watch.until(lambda n=2 * turn: len(datagrams(watch)) == n)  # type: ignore[misc]
                        flow = a_flow(peer, (host, 5001))
                        watch.backend.name(flow)  # type: ignore[attr-defined]
                        assert (flow.client.pid, flow.server.pid) == (me, me)
                        assert flow.client.comm == flow.server.comm == comm()

    asyncio.run(main())


def a_flow(client: tuple[str, int], server: tuple[str, int]) -> Flow:
    return Flow("", "udp", Endpoint(*client), Endpoint(*server))


def comm() -> str:
    return Path("/proc/self/comm").read_text().strip()


# ---------------------------------------------------------------- mistakes


def opened(**options: Any) -> str:
    """The complaint about these options."""
    backend = tc.make(tc.TcOptions(**options))
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
        assert text == f"tc: no interface {wrong}; there is {space}/lo, {space}/va, {space}/vb"
    assert "there is no process 4194304" in opened(netns=["4194304"])
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ring_bytes": 1000}, "tc: ring_bytes must be between 524288 and 1073741824"),
        ({"snaplen": 300_000}, "tc: snaplen must be between 64 and 262144"),
        ({"ports": [0]}, "tc: ports must be between 1 and 65535"),
        ({"ports": list(range(1, 1026))}, "tc: at most 1024 ports"),
        ({"user": "nobody-of-that-name"}, "user nobody-of-that-name: there is no such user"),
    ],
)
def test_options_that_cannot_be(lab: Lab, options: dict[str, Any], text: str) -> None:
    assert opened(netns=[lab.space()], **options).startswith(text)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--bpf", "port 80"], "--bpf: the backend tc has no such option"),
        (["--workers", "2"], "--workers 2: tc is read by one process alone"),
    ],
)
def test_what_it_does_not_do_is_refused(words: list[str], text: str) -> None:
    command = [sys.executable, "-m", "kshark", "run", "--backend", "tc", "--sink", "jsonl:-"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=30)
    assert (done.returncode, text in done.stderr) == (2, True), done.stderr


def test_notes_are_bounded(lab: Lab) -> None:
    backend = tc.make(tc.TcOptions(netns=[lab.space()]))
    for number in range(NOTES + 50):
        backend._note(f"note {number}")
    assert len(backend.stats().notes) == NOTES
