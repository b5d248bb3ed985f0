"""Secrets in bodies: forms, multipart, JSON, XML, and any of them in base64 or within one another.

A body says what it is by its bytes and not by its Content-Type, which peers get wrong, and it may be cut
anywhere. So each reader below takes whatever looks like its own and leaves the rest; what a cut hides the
end of is hidden to the end. All are linear in the length of the text.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final
from urllib.parse import quote, unquote_plus

import msgspec

from kshark.secret_names import (
    REDACTED,
    header,
    may_name_secrets,
    plain,
    secret_parameter,
    url,
)
from kshark.secret_texts import text as said

DEPTH: Final = 3
"""Bodies within bodies (a batch of HTTP requests in multipart) that are looked into; deeper is hidden."""

SAID: Final = 4096
"""Characters of a text that may be a sentence, or some lines of a log; a longer one is a document, or a script."""

Secret = Callable[[str], bool]

_NAME = r'"((?:[^"\\]|\\.){1,128})"\s*:\s*'
_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)(?:"(\s*:\s*)?|\\?\Z)', re.DOTALL)
_MEMBER = re.compile(_NAME, re.DOTALL)
_TOKEN = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*(?:"(\s*:)?|\\?\Z)|-?\d[\d.eE+-]*|[][{}]|[^][{}"\d-]+|-', re.DOTALL
)
_ESCAPED = re.compile(r'(?<![\w.-])([\w.-]{1,128})(?:\\+")?\s*[:=]\s*(\\+)"')
_PAIR = re.compile(  # an environment variable of Kubernetes, a header in a HAR file
    r'"(?:name|key)"\s*:\s*"((?:[^"\\]|\\.){1,128})"\s*,\s*"value"\s*:\s*(?=")', re.IGNORECASE
)
_ESCAPED_PAIR = re.compile(
    r'"(?:name|key)\\+"\s*:\s*\\+"([^"\\]{1,128})\\+"\s*,\s*\\+"value\\+"\s*:\s*(\\+)"',
    re.IGNORECASE,
)
_QUOTE = re.compile(r'(\\*)"')
_LITERAL = re.compile(r'(?<![\w.-])([\w-]{1,128})\s*:\s*(?=")')
_JSON = re.compile(r'[\s\ufeff]*(?:\{\s*["}]|\[)')
_CALL = re.compile(r'"method"\s*:\s*"([^"\\]{1,128})"')
_SECRET_CALL = re.compile(r"unlock|log_?in|auth|passw|passphrase|credential|sign|import_?raw", re.I)
_REFUSED = re.compile(  # what a GraphQL server says of a variable that it does not take, within JSON or not
    r"((?:got invalid value|cannot represent [\w' -]{1,60} value:) )"
    r"(?:\\\"(?:[^\"\\]|\\[^\"])*\\\"|\"[^\"\\;]*\"(?=;|\s|\Z)|'[^'\"]*'|\\.|[^\"\\;])*"
)
_SECRET_OBJECT = re.compile(r'"kind"\s*:\s*"Secret(?:List)?"')
_SECRET_MEMBERS: Final = frozenset(
    {"data", "stringdata", "kubectlkubernetesio/lastappliedconfiguration"}
)
_SECRET_PROTOBUF = re.compile(r"k8s\0.{0,64}\x12(?:\x06Secret|\nSecretList)", re.DOTALL)
_ELEMENT = re.compile(r"<(?:[\w.-]{1,128}:)?([\w.-]{1,128})(?:\s[^<>]*)?(?<!/)>(<!\[CDATA\[)?")
_USER_INFO = re.compile(r"(://)[^/?#\s\"'<>\\:@]*:[^/?#\s\"'<>\\]*@")
_FORM = re.compile(r"[^\s\"'<>{}()=,]*=")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{12,}={0,2}")
_PARTS = re.compile(r"(?:\A|\n)--([^\r\n]{1,70})\r?\n(?=[\w-]{1,64}:)")
_BLANK = re.compile(r"(?:\A|\n)\r?\n")
_PART_NAME = re.compile(
    r"(?<![\w*-])name(?:\*\d*\*?)?\s*=\s*(?:\"((?:[^\"\\]|\\.)*)|(?:[\w-]*'[\w-]*')?([^\s;\"]+))",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"=([^&#=]*(?:\"|%22)[^&#]*)")
_HTTP = re.compile(r"[A-Z]{1,32} [^\r\n]{0,8192} HTTP/\d|HTTP/\d ")


def body(text: str) -> str:
    """Hide the values of secret names; other text is left as it is.

    >>> body("user=ann&pass=abc"), body('{"user": "ann", "password": "abc"}')
    ('user=ann&pass=REDACTED', '{"user": "ann", "password": "REDACTED"}')
    >>> body("<login><user>ann</user><password>abc</password></login>")
    '<login><user>ann</user><password>REDACTED</password></login>'
    """
    if len(text) % 4 == 0 and _BASE64.fullmatch(text):
        return _encoded(text)
    return _body(text, DEPTH)


def parameters(text: str) -> str:
    """The same of JSON and GraphQL in the parameters of a URL.

    >>> parameters("/graphql?variables=%7B%22password%22%3A%22abc%22%7D")
    '/graphql?variables=%7B%22password%22%3A%22REDACTED%22%7D'
    """
    return _QUOTED.sub(_parameter, text) if '"' in text or "%22" in text else text


def _parameter(found: re.Match[str]) -> str:
    value = unquote_plus(found[1])
    shown = _body(value, DEPTH)
    return found[0] if shown == value else f"={quote(shown, safe='')}"


def _body(text: str, depth: int) -> str:
    if " value" in text:
        text = _REFUSED.sub(rf"\1{REDACTED}", text)
    if may_name_secrets(text) or _calls_secret(text):
        found = _PARTS.search(text) if "--" in text else None
        if found is not None:
            return _multipart(text, found[1], depth - 1) if depth else REDACTED
        text = _named(text)
    if "://" in text and "@" in text:
        text = _USER_INFO.sub(rf"\1{REDACTED}@", text)
    start = text.lstrip()
    if _FORM.match(start):
        text = url(f"&{text}")[1:]
    if len(text) <= SAID and start[:1] != "<":
        text = said(text, within_json=_JSON.match(text) is not None)
    return text


def _named(text: str) -> str:
    """Values of secret names in JSON and XML."""
    if '"' in text:
        text = _json(text)
    return _xml(text) if "<" in text else text


def _encoded(text: str) -> str:
    """A body that is shown in base64, because it is no text or was not declared as such."""
    raw = base64.b64decode(text).decode("latin-1")
    if _SECRET_PROTOBUF.search(raw):
        return base64.b64encode(REDACTED.encode()).decode()
    shown = _body(raw, DEPTH)
    return (
        text if shown is raw or shown == raw else base64.b64encode(shown.encode("latin-1")).decode()
    )


# ---------------------------------------------------------------- JSON


def _json(text: str) -> str:
    """Members with secret names.

    Strings are told apart from the beginning on. What is no JSON altogether (a script, an event
    stream) has quotes of other meanings: there, whatever looks like a member is looked at as well.
    """
    secret = _secret_member
    if _SECRET_OBJECT.search(text):
        secret = _secret_of_kubernetes
    elif _calls_secret(text):
        secret = _secret_of_call
    text = _hidden(text, partial(_strings, secret=secret), _value_end)
    if "value" in text.lower():
        text = _hidden(text, partial(_matches, _PAIR, secret), _value_end)
        text = _hidden(text, partial(_matches, _ESCAPED_PAIR, secret), _escape_end)
    if text.lstrip("\ufeff \t\r\n")[:1] not in ("{", "["):
        text = _hidden(text, partial(_members, secret=secret), _value_end)
    if not _JSON.match(text):
        text = _hidden(text, partial(_literals, secret=secret), _literal_end)
    if '\\"' in text:
        text = _hidden(text, partial(_escaped, secret=secret), _escape_end)
    return text


def _secret_member(name: str) -> bool:
    return secret_parameter(_unescaped(name) if "\\" in name else name)


def _secret_of_kubernetes(name: str) -> bool:
    """In a Secret all data are secret, whatever their names; and kubectl keeps a copy of them."""
    return plain(name) in _SECRET_MEMBERS or _secret_member(name)


def _calls_secret(text: str) -> bool:
    """Whether this is a call of JSON-RPC whose parameters are secret, though they may have no names."""
    if '"jsonrpc"' not in text:
        return False
    return any(_SECRET_CALL.search(m) or secret_parameter(m) for m in _CALL.findall(text))


def _secret_of_call(name: str) -> bool:
    return plain(name) == "params" or _secret_member(name)


def _unescaped(name: str) -> str:
    try:
        return msgspec.json.decode(f'"{name}"', type=str)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return name


Found = Iterator[re.Match[str]]


def _strings(text: str, at: int, secret: Secret) -> re.Match[str] | None:
    """The next string that is the secret name of a member."""
    for found in _STRING.finditer(text, at):
        if found[2] is not None and secret(found[1]):
            return found
    return None


def _members(text: str, at: int, secret: Secret) -> re.Match[str] | None:
    found = _MEMBER.search(text, at)
    while found is not None and not secret(found[1]):
        found = _MEMBER.search(text, found.end())
    return found


def _literals(text: str, at: int, secret: Secret) -> re.Match[str] | None:
    """A literal in a GraphQL query, a value of YAML."""
    for found in _LITERAL.finditer(text, at):
        if secret(found[1]):
            return found
    return None


def _literal_end(text: str, found: re.Match[str]) -> tuple[str, int]:
    """A string ends with its quote, a block of text with three."""
    at = found.end()
    if text.startswith('"""', at):
        end = text.find('"""', at + 3)
        return f'"{REDACTED}"', end + 3 if end >= 0 else len(text)
    return _value_end(text, found)


def _escaped(text: str, at: int, secret: Secret) -> re.Match[str] | None:
    """JSON within a string of JSON; a literal in a GraphQL query."""
    return _matches(_ESCAPED, secret, text, at)


def _matches(pattern: re.Pattern[str], secret: Secret, text: str, at: int) -> re.Match[str] | None:
    """The next match whose first group is a secret name."""
    for found in pattern.finditer(text, at):
        if secret(found[1]):
            return found
    return None


def _hidden(
    text: str,
    find: Callable[[str, int], re.Match[str] | None],
    hide: Callable[[str, re.Match[str]], tuple[str, int]],
) -> str:
    """The text with what follows each name that is found hidden."""
    parts: list[str] = []
    kept = 0
    found = find(text, 0)
    while found is not None:
        shown, end = hide(text, found)
        parts += (text[kept : found.end()], shown)
        kept = end
        found = find(text, end)
    if not parts:
        return text
    return "".join((*parts, text[kept:]))


def _value_end(text: str, found: re.Match[str]) -> tuple[str, int]:
    """The value of a secret member as it may be shown, and where it ends.

    An object or a list keeps its shape, and all strings and numbers in it are hidden.
    """
    at = found.end()
    if text[at : at + 1] not in ("{", "["):
        token = _TOKEN.match(text, at)
        if token is None or token[0][0] not in '"-0123456789':
            return "", at
        if token[0][0] != '"' and plain(found[1]).endswith("tokens"):
            return token[0], token.end()  # a count, as in "max_tokens": 100
        return f'"{REDACTED}"', token.end()
    parts: list[str] = []
    level = 0
    for token in _TOKEN.finditer(text, at):
        shown = token[0]
        level += (shown in "{[") - (shown in "}]")
        if shown[0] in '"0123456789' and token[1] is None:
            shown = f'"{REDACTED}"'
        parts.append(shown)
        if level == 0:
            return "".join(parts), token.end()
    return "".join(parts), len(text)


def _escape_end(text: str, found: re.Match[str]) -> tuple[str, int]:
    """A string within a string ends with a quote that is escaped no more than its first."""
    level = len(found[2])
    for end in _QUOTE.finditer(text, found.end()):
        if len(end[1]) <= level:
            return (REDACTED if end.start() > found.end() else ""), end.start()
    return REDACTED, len(text)


# ---------------------------------------------------------------- XML


def _xml(text: str) -> str:
    """The text of elements with secret names."""
    return _hidden(text, _elements, _element_end)


def _elements(text: str, at: int) -> re.Match[str] | None:
    for found in _ELEMENT.finditer(text, at):
        if secret_parameter(found[1]):
            return found
    return None


def _element_end(text: str, found: re.Match[str]) -> tuple[str, int]:
    end = text.find("]]>" if found[2] else "<", found.end())
    end = len(text) if end < 0 else end
    return (REDACTED if text[found.end() : end].strip() else text[found.end() : end]), end


# ---------------------------------------------------------------- multipart


def _multipart(text: str, mark: str, depth: int) -> str:
    """The parts between the lines ``--mark``: fields of a form, or whole bodies (RFC 2046, RFC 7578)."""
    line = re.compile(rf"^--{re.escape(mark.rstrip())}(?:--)?[ \t]*(?:\r?\n|\r?\Z)", re.MULTILINE)
    shown: list[str] = []
    at = 0
    for found in line.finditer(text):
        piece = text[at : found.start()]
        bare = piece.removesuffix("\n").removesuffix("\r")  # the line's end belongs to the mark
        shown += (_part(bare, depth) if at else _named(bare), piece[len(bare) :], found[0])
        at = found.end()
    return "".join((*shown, _part(text[at:], depth)))


def _part(text: str, depth: int) -> str:
    """A part: headers, an empty line, a body."""
    found = _BLANK.search(text)
    end = found.end() if found is not None else len(text)
    head, content = text[:end], text[end:]
    if any(secret_parameter(a or b) for a, b in _PART_NAME.findall(head)):
        return _headers(head) + (REDACTED if content else "")
    if _HTTP.match(content) or "application/http" in head.lower():
        start, newline, content = content.partition("\n")
        asked = " ".join(map(url, start.split(" ")))
        return f"{_headers(head)}{asked}{newline}{_part(content, depth)}"
    return _headers(head) + _body(content, depth)


def _headers(head: str) -> str:
    """Lines of headers; a continued line belongs to the one before it."""
    shown = []
    for line in re.findall(r"[^\n]+\n?(?:[ \t][^\n]*\n?)*|\n", head):
        name, colon, value = line.partition(":")
        bare = value.strip()
        hidden = header(name.strip(), bare)
        shown.append(line if hidden == bare or not colon else line.replace(bare, hidden))
    return "".join(shown)
