"""The vectors of llhttp, event by event: the same messages, and each error of theirs visible in ours.

llhttp is a server's parser: it stops at what is dangerous. kshark watches: it goes on, and marks. So
an error of llhttp must show as a note, a cut message, or no message at all. What remains different is
listed in `DIFFERENCES`, each with its reason, and the list is checked to hold nothing else.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from http_kit import GET, C, S, builds, messages
from llhttp_corpus import FOLDER, Case, Expected, cases

from kshark.api import DissectError, Kind, Message, Switch
from kshark.protocols.http.details import details

if not FOLDER.is_dir():
    if os.environ.get("CI") == "true":
        raise RuntimeError(f"no corpora at {FOLDER}")
    pytest.skip(f"no corpora at {FOLDER} (KSHARK_CORPORA)", allow_module_level=True)

pytestmark = pytest.mark.corpora

CLOSED = "kshark does not act on Connection: close, what is sent after it is shown"
CHUNKS = "an option of llhttp to accept what kshark takes for a broken chunk"
UNTIL = "an option of llhttp reads such a request until close; kshark searches for the next message"
OTHER = "another protocol or version: RTSP, ICE and HTTP/0.9 are not HTTP/1"
EXTENSION = "what a chunk extension says is not looked at; it does not touch the framing"
OPTION = "skipBody is a call to llhttp, not in the bytes"
CR = "an option of llhttp takes CR alone for a line end; kshark does not"

HALF = "a start line that has not ended is not a message yet"

DIFFERENCES = {
    "request/connection: CRLF between requests, implicit `keep-alive`": HALF,
    "request/connection: CRLF between requests, explicit `close` (lenient)": HALF,
    "request/connection: No restart when keep-alive is off (1.0)": CLOSED,
    "request/content-length: Content-Length reset when no body is received": OPTION,
    "request/content-length: Missing CRLF-CRLF before body (lenient)": CR,
    "request/content-length: No error on simultaneous `Content-Length` and"
    " `Transfer-Encoding: identity` (lenient)": UNTIL,
    "request/method: SOURCE request with ICE": OTHER,
    "request/method: OPTIONS request with RTSP": OTHER,
    "request/method: ANNOUNCE request with RTSP": OTHER,
    "request/sample: No HTTP version": OTHER,
    "request/sample: No LF after CR (lenient)": CR,
    "request/transfer-encoding: No extension after semicolon": EXTENSION,
    "request/transfer-encoding: POST with `Transfer-Encoding` and `Content-Length` (lenient)": UNTIL,
    "request/transfer-encoding: POST with `chunked` before other transfer-coding (lenient)": UNTIL,
    "request/transfer-encoding: POST with `chunked` and duplicate transfer-encoding (lenient)": UNTIL,
    "request/transfer-encoding: Chunk header not terminated by CRLF (lenient)": CHUNKS,
    "request/uri: Disallow UTF-8 in URI path in strict mode": "bytes over 127 are shown as they are",
    "response/content-length: Content-Length reset when no body is received": OPTION,
    "response/sample: RTSP response": OTHER,
    "response/sample: ICE response": OTHER,
    "response/sample: HTTP version 0.9": OTHER,
    "response/transfer-encoding: No extension after semicolon": EXTENSION,
}
CASES = list(cases())


def dissect(make: Callable[[], Any], case: Case) -> tuple[list[Message | Switch], str]:
    """As one side of a flow that has a good message before, and the first error."""
    dissector, side = make(), S if case.answer else C
    dissector.feed(C, GET)
    found: list[Message | Switch] = []
    error = ""
    for piece in (case.data, b""):
        try:
            found += dissector.feed(side, piece)
        except DissectError as raised:
            error = str(raised)
    return found + dissector.close(), error


def tight(text: str) -> str:
    """Without white space, of which a folded value has more than its spans."""
    return "".join(text.split())


def facts(message: Message) -> tuple[Any, ...]:
    shown = details(message)
    headers = [(n, tight(v)) for n, v in [*shown.headers, *shown.trailers]]
    return (message.verb or message.status, message.target, headers, message.body)


def wanted(expected: Expected) -> tuple[Any, ...]:
    headers = [(n.lower().rstrip(), tight(raw(v))) for n, v in expected.headers]
    return (expected.method or expected.status, raw(expected.url), headers, expected.body)


def raw(text: str) -> str:
    """llhttp's log is UTF-8, ours has a character a byte."""
    return text.encode().decode("latin-1")


def agrees(case: Case, found: list[Message | Switch], error: str) -> bool:
    """Whether we say what llhttp says."""
    ours = messages(found)
    theirs = [m for m in case.messages if m.method or m.status]  # a begun line end is no message
    if case.error and not case.error.startswith("22"):
        whole = [m for m in theirs if m.complete]
        rest = ours[len(whole) :]
        reported = not rest or bool(error) or any(m.notes or m.cut for m in rest)
        return reported and [facts(m) for m in ours[: len(whole)]] == [wanted(m) for m in whole]
    if case.answer and theirs and ours and not theirs[-1].complete:
        theirs[-1].complete = not ours[-1].cut  # llhttp is not told that the connection closed
    return [(*facts(m), not m.cut) for m in ours] == [(*wanted(m), m.complete) for m in theirs]


@builds
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_vector(make: Callable[[], Any], case: Case) -> None:
    found, error = dissect(make, case)
    assert agrees(case, found, error) == (case.name not in DIFFERENCES), (
        [facts(m) for m in messages(found)],
        [wanted(m) for m in case.messages],
        case.error,
        error,
    )


@builds
def test_upgrades_switch(make: Callable[[], Any]) -> None:
    """Where llhttp pauses for an upgrade of the server, we hand over."""
    paused = [c for c in CASES if c.answer and c.error.startswith("22")]
    assert len(paused) >= 2
    for case in paused:
        found, _ = dissect(make, case)
        assert isinstance(found[-1], Switch), case.name
        assert messages(found)[-1].kind == Kind.RESPONSE


def test_the_corpus_was_read() -> None:
    assert Counter(case.name.partition("/")[0] for case in CASES) == {
        "request": 115,
        "response": 52,
    }
    assert set(DIFFERENCES) <= {case.name for case in CASES}
