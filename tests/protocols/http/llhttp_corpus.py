"""The vectors of llhttp: Markdown with a message and the events of its parser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from http_kit import CORPORA

FOLDER = CORPORA / "llhttp"
_CASE = re.compile(
    r"<!-- meta=(?P<meta>\{[^\n]*?\}) -->\s*```http\n(?P<message>(?:(?!```).)*)```"
    r"(?:(?!```|<!--).)*```log\n(?P<log>(?:(?!```).)*)```",
    re.DOTALL,
)
_SPAN = re.compile(r'off=\d+ len=\d+ span\[(\w+)\]=(?:"(.*)"|(cr|lf))$')
_ESCAPE = re.compile(r"\\(r|n|t|f|\n|x[0-9a-fA-F]{2}|\\)")


@dataclass
class Expected:
    """One message as llhttp reports it."""

    method: str = ""
    url: str = ""
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False


@dataclass
class Case:
    """One vector: who sends, what, and what is found in it until llhttp stops."""

    name: str
    kind: str  # request, response, with -lenient-... where llhttp's option is on
    skip_body: bool
    data: bytes
    messages: list[Expected]
    error: str = ""

    @property
    def answer(self) -> bool:
        return self.kind.startswith("response")


def cases() -> Iterator[Case]:
    for path in sorted(FOLDER.glob("re*/*.md")):
        text = path.read_text()
        for found in _CASE.finditer(text):
            title = re.findall(r"^#+ (.+)$", text[: found.start()], re.MULTILINE)[-1]
            meta = json.loads(found["meta"])
            case = Case(
                f"{path.parent.name}/{path.stem}: {title}",
                meta["type"].strip(),
                meta.get("skipBody", False),
                message(found["message"]),
                [],
            )
            events(case, found["log"])
            yield case


def message(text: str) -> bytes:
    """As llhttp's own test runner reads it: CRLF line ends, and backslash escapes."""
    text = text.removesuffix("\n").replace("\n", "\r\n")
    text = text.replace("\\\r\n", "")
    plain = {"r": "\r", "n": "\n", "t": "\t", "f": "\f", "\\": "\\"}

    def unescape(found: re.Match[str]) -> str:
        code = found[1]
        return plain.get(code) or chr(int(code[1:], 16))

    raw = _ESCAPE.sub(unescape, text)
    return raw.encode()


def events(case: Case, log: str) -> None:
    for line in log.splitlines():
        if line.endswith(" message begin"):
            case.messages.append(Expected())
        elif " error code=" in line:
            case.error = line.partition("error code=")[2]
        elif case.messages:
            event(case.messages[-1], line)


def event(expected: Expected, line: str) -> None:
    span = _SPAN.match(line)
    if span:
        spanned(
            expected, span[1], span[2] if span[3] is None else {"cr": "\r", "lf": "\n"}[span[3]]
        )
    elif " headers complete" in line:
        status = re.search(r"status=(\d+)", line)
        expected.status = int(status[1]) if status else 0
    elif line.endswith(" message complete"):
        expected.complete = True


def spanned(expected: Expected, name: str, text: str) -> None:
    text = _ESCAPE.sub(lambda m: {"t": "\t", "r": "\r", "n": "\n", "f": "\f"}.get(m[1], m[0]), text)
    if name == "method":
        expected.method += text
    elif name == "url":
        expected.url += text
    elif name == "body":
        expected.body += text.encode()
    elif name == "header_field":
        expected.headers.append((text, ""))
    elif name == "header_value":
        field_name, value = expected.headers.pop()
        expected.headers.append((field_name, value + text))
