"""24 million bytes of damage through every dissector there is: no traceback, no wrong pair, within time and memory.

The seeds in ``tests/fuzz`` and in the cases of the contributed plugins are conversations that are understood, as
their ``=`` lines say. `make fuzz` runs the long part, a minute or two for each dissector at most.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from kshark.plugins import load
from kshark.render import Renderer
from kshark.testing import _mutate, cases, converse, rows
from kshark.testing.context import context, protocol

ROOT = Path(__file__).parent.parent
SEEDS = ROOT / "tests" / "fuzz"
CONTRIB = ROOT / "plugins_contrib"
BYTES = 24_000_000
SECONDS = 120
"""A dissector that is too slow for all bytes ends here: scapy, at 100 KB a second."""
STATEFUL = ("gaps", "pairs")
"""Laws that subscriptions break: one request has several answers, and which one was lost changes what follows."""
BUILT_IN: dict[str, tuple[str, Sequence[str]]] = {
    "dns": ("dns", ()),
    "http": ("http", ()),
    "http2": ("http2", ()),
    "redis": ("redis", ()),
    "redis-stateful": ("redis", STATEFUL),
}
FOREIGN = {"mqtt": "mqtt", "memcached": "memcached", "scapy-dns": "scapy", "scapy-dns-tcp": "scapy"}


@pytest.mark.parametrize("folder", BUILT_IN)
def test_the_seeds_are_understood(folder: str) -> None:
    spec = load().protocols[BUILT_IN[folder][0]]
    for case in cases(SEEDS / folder):
        assert rows(converse(spec, case.pieces)) == case.rows, case


def fuzz(name: str, seeds: Path, *options: str, tmp_path: Path) -> str:
    """What ``kshark fuzz`` says; fails where it found anything."""
    bounds = [f"--bytes={BYTES}B", f"--seconds={SECONDS}s", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "kshark", "fuzz", "--protocol", name, "--seeds", str(seeds), *bounds, *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("folder", BUILT_IN)
@pytest.mark.parametrize("pure", ["", "kshark.protocols"], ids=["compiled", "plain"])
def test_built_in(folder: str, pure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSHARK_PURE", pure)
    name, skip = BUILT_IN[folder]
    options = [word for law in skip for word in ("--skip", law)]
    print(folder, fuzz(name, SEEDS / folder, *options, tmp_path=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", FOREIGN)
def test_contributed(name: str, tmp_path: Path) -> None:
    folder = CONTRIB / f"kshark-{FOREIGN[name]}"
    seeds = SEEDS / name if (SEEDS / name).exists() else folder / "tests" / "cases"
    plugin = str(folder / f"kshark_{FOREIGN[name]}.py")
    print(name, fuzz(name, seeds, "--plugin", plugin, tmp_path=tmp_path))


# ---------------------------------------------------------------- an enricher reads bodies

CHATS = [
    (b"/v1/chat/completions", b'{"model": "m", "messages": [{}, {}], "max_tokens": 9, "stream": false}',
     b'{"model": "m-1", "choices": [{"finish_reason": "stop"}], '
     b'"usage": {"prompt_tokens": 3, "completion_tokens": 4}}'),
    (b"/v1/messages", b'{"model": "c", "stream": true, "messages": "hi"}',
     b'event: a\r\ndata: {"message": {"model": "c-1", "usage": {"input_tokens": 7}}}\r\n\r\n'
     b'data: {"delta": {"stop_reason": "end"}, "usage": {"output_tokens": 5}}\r\n\r\n'),
    (b"/api/chat", b'{"model": "l"}', b'{"model": "l", "done": false}\n{"done_reason": "stop", "eval_count": 2}\n'),
    (b"/models/g:streamGenerateContent", b'{"contents": []}',
     b'{"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 1}}'),
]  # fmt: skip


@pytest.mark.slow
def test_bodies_of_llm_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CONTRIB / "kshark-genai")
    genai: Any = import_module("kshark_genai")
    http = protocol("http")
    enricher, renderer = genai.Enricher(None, context(http)), Renderer({"http": http})
    random, fed, found = Random(0), 0, 0
    words = _mutate.words([[(0, body)] for _, *both in CHATS for body in both], http)  # type: ignore[list-item]
    while fed < BYTES:
        path, asked, answered = random.choice(CHATS)
        asked, answered = (damaged(random, body, words) for body in (asked, answered))
        ask = b"POST %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (path, len(asked), asked)
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answered), answered)
        batch = enricher.enrich(converse(http, [(0, ask), (1, answer)]))  # type: ignore[list-item]
        (line,) = renderer.encode(batch, full=True).splitlines()
        found += isinstance(
            msgspec.convert(msgspec.json.decode(line)["genai"], genai.GenAI), genai.GenAI
        )
        fed += len(ask) + len(answer)
    assert found


def damaged(random: Random, body: bytes, words: Sequence[bytes]) -> bytes:
    """The body with one to eighteen changes, and often with much behind it."""
    for _ in range(random.choice((1, 2, 3))):
        child = _mutate.mutated(random, [(0, body)], [(0, body)], words, 16_384)  # type: ignore[list-item]
        body = b"".join(piece for _, piece in child if isinstance(piece, bytes))
    return body + random.choice((b"", b" ", b"\n", b'{"a":' * 400, b"[" * 3_000)) * random.choice(
        (1, 4)
    )
