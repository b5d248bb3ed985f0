"""Posting over HTTP for the sinks that do: who we are, whom we trust, and what an answer means.

A secret is given by a file (read again for each request, so that one that is renewed is taken up), by the
environment or by the TOML file, and is never part of a message. The library is httpx: a sink makes a few
requests a second, so what counts is not its speed but that it is plain Python and small.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlsplit

from kshark.api import Options, PluginError, option

ANSWER: Final = 1024 * 1024
"""Bytes of an answer that are read. A hostile server could send without end; Loki names each second in which rows
are too old, 200 bytes each."""
LONGEST: Final = 300.0
"""Seconds of a ``Retry-After`` that are honoured: a wrong date would silence us for years."""


class HttpOptions(Options):
    """What every sink that speaks HTTP accepts."""

    user: Annotated[str, option("User of basic authentication")] = ""
    password: Annotated[
        str, option("Its password; better a file, or the environment: lines of commands are seen")
    ] = ""
    password_file: Annotated[str, option("A file that holds the password")] = ""
    token: Annotated[str, option("Bearer token; as with the password, better a file")] = ""
    token_file: Annotated[str, option("A file that holds the token, read for each request")] = ""
    headers: Annotated[list[str], option("Further headers: X-Name=value")] = []
    ca_file: Annotated[str, option("Certificates (PEM) to trust in place of the system's")] = ""
    insecure: Annotated[bool, option("Do not verify the server's certificate")] = False
    timeout: Annotated[
        float, option("How long an answer is waited for", unit="seconds")
    ] = 10.0  # fmt: skip


class Kind(Enum):
    """What an answer means for what was sent."""

    TAKEN = "taken"
    LATER = "later"  # it is worth to try again
    REFUSED = "refused"  # it would be refused again


class Reply(NamedTuple):
    """An answer, or why there was none (`status` 0)."""

    status: int
    text: str
    after: float | None = None  # seconds that the server asks us to wait

    @property
    def kind(self) -> Kind:
        if 200 <= self.status < 300:
            return Kind.TAKEN
        # Who we are and where it is can be mended while we run: a renewed token, a route that comes.
        if self.status in (0, 401, 403, 404, 407, 408, 425, 429) or self.status >= 500:
            return Kind.LATER
        return Kind.REFUSED

    @property
    def why(self) -> str:
        """In one short line."""
        first = " ".join(self.text.split())[:300]
        return f"HTTP {self.status}: {first}".rstrip(": ") if self.status else first


class Body:
    """What is posted, forgotten afterwards.

    The library's request and answer refer to each other, and such circles are freed seldom in a process that makes
    few of them: hundreds of requests' contents would wait for it.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content


class Peer:
    """A server, at `url`. `what` begins its messages: ``sink loki``."""

    def __init__(self, url: str, options: HttpOptions, what: str, extra: str) -> None:
        self.url = checked_url(url, what)
        self._options = options
        self._what = what
        self._headers = _headers(options, what)
        self._httpx = needed("httpx", what, extra)
        self._trust = self._trusted()
        self._credentials()  # what is wrong with them shall be said before anything runs
        self._client: Any = None

    async def open(self) -> None:
        self._client = self._httpx.AsyncClient(
            timeout=self._options.timeout, verify=self._trust, follow_redirects=False
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def post(self, content: bytes, headers: Mapping[str, str]) -> Reply:
        """Send once. Whatever the network does is a `Reply`."""
        body = Body(content)
        try:
            sent = {**self._headers, **headers, **self._credentials()}
            sent["Content-Length"] = str(len(content))
            async with self._client.stream("POST", self.url, content=body, headers=sent) as answer:
                text = await _text(answer)
                return Reply(answer.status_code, text, retry_after(answer.headers))
        except PluginError as error:
            return Reply(0, str(error))
        except (self._httpx.HTTPError, OSError) as error:
            # the library's texts hold no credentials: we send none in the address
            return Reply(0, f"{str(error) or type(error).__name__} ({host_of(self.url)})")
        finally:
            body.content = b""

    def _credentials(self) -> dict[str, str]:
        options = self._options
        token = options.token or _read(options.token_file, self._what, "token_file")
        if token:
            return {"Authorization": f"Bearer {token}"}
        if options.user:
            password = options.password or _read(options.password_file, self._what, "password_file")
            from base64 import b64encode

            return {
                "Authorization": f"Basic {b64encode(f'{options.user}:{password}'.encode()).decode()}"
            }
        return {}

    def _trusted(self) -> ssl.SSLContext:
        options = self._options
        try:
            context = ssl.create_default_context(cafile=options.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise PluginError(f"{self._what}: ca_file {options.ca_file}: {error}") from None
        if options.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def needed(module: str, what: str, extra: str) -> Any:
    """A module of an extra, or the line that says how to get it."""
    try:
        return import_module(module)
    except ImportError:
        raise PluginError(f"{what} needs {module}: pip install 'kshark[{extra}]'") from None


def checked_url(url: str, what: str) -> str:
    """An address that we can post to. Its path may be secret: a message shows the host alone."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        sound = False
    if not sound:
        raise PluginError(f"{what} needs an address such as http://127.0.0.1:3100")
    if "@" in parts.netloc:
        raise PluginError(f"{what}: no credentials in the address: give user and password_file")
    return url


def host_of(url: str) -> str:
    """``https://hooks.example``: what of an address may be shown."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks us to wait: a number, or a date (RFC 9110, 10.2.3)."""
    given = headers.get("retry-after", "").strip()
    if not given:
        return None
    if given.isascii() and given.isdigit():
        return min(float(given[:6]), LONGEST)
    try:
        date = parsedate_to_datetime(given)
    except (ValueError, TypeError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max((date - datetime.now(UTC)).total_seconds(), 0.0), LONGEST)


async def _text(answer: Any) -> str:
    """The beginning of an answer."""
    data = b""
    async for piece in answer.aiter_bytes(ANSWER):
        data += piece
        if len(data) >= ANSWER:
            break
    return data[:ANSWER].decode("utf-8", "replace")


def _headers(options: HttpOptions, what: str) -> dict[str, str]:
    found = {}
    for one in options.headers:
        name, equals, value = one.partition("=")
        if not equals or not name.strip() or not (name + value).isprintable():
            raise PluginError(f"{what}: headers: must be Name=value")
        found[name.strip()] = value.strip()
    return found


def _read(path: str, what: str, key: str) -> str:
    if not path:
        return ""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise PluginError(f"{what}: {key} {path}: {reason}") from None
    if not text.isprintable():
        raise PluginError(f"{what}: {key} {path}: more than one line, or no text")
    return text
