"""JSON-RPC 2.0 over HTTP/1, HTTP/2 and WebSocket: which method, and whether it failed though the status is 200."""

from __future__ import annotations

from typing import Annotated, Any, Final

from kshark.api import (
    Context,
    Details,
    EnricherSpec,
    Entry,
    Message,
    Options,
    Redact,
    doc,
    hookimpl,
)
from kshark.enrichers._failed import fail
from kshark.enrichers._json import Read, dump, read, shorter

VERSION: Final = "2.0"
LISTED: Final = 64
"""Methods of a batch that are listed."""
SHOWN: Final = 3
"""... and that a row names."""
NAME: Final = 128
"""Characters of a method or an id."""
GZIP: Final = b"\x1f\x8b"

NOTES: Final[dict[str, str]] = {
    "request-cut": "the request's body is not whole: what is said of it are its whole members",
    "response-cut": "the response's body is not whole: where no error is seen there may be one",
}


class JsonRpc(Details):
    """A call of JSON-RPC 2.0, or a batch of them, and its error."""

    method: Annotated[str | None, doc("Method; of a batch the first", otel="rpc.method")] = None
    id: Annotated[str | None, doc("Id of the call", otel="rpc.jsonrpc.request_id")] = None
    params: Annotated[
        str, doc("Parameters, as JSON; of a batch those of the first", redact=Redact.BODY)
    ] = ""
    notification: Annotated[bool, doc("It has no id, and is not answered")] = False
    batch: Annotated[int, doc("Calls of the request, those that are none included")] = 1
    methods: Annotated[list[str], doc("Of a batch, the method of each")] = []
    result: Annotated[bool, doc("Over WebSocket: it is an answer, no call")] = False
    errors: Annotated[int | None, doc("Errors of the response; null = not known")] = None
    error_code: Annotated[
        int | None, doc("Code of the first error", otel="rpc.jsonrpc.error_code")
    ] = None
    error: Annotated[
        str | None,
        doc("Its text", otel="rpc.jsonrpc.error_message", redact=Redact.BODY),
    ] = None
    notes: Annotated[list[str], doc("What is not whole, by name")] = []


def of_call(value: Any) -> JsonRpc | None:
    """Of one call."""
    if not is_ours(value) or not isinstance(value.get("method"), str) or not value["method"]:
        return None
    found = JsonRpc(method=value["method"][:NAME], id=ident(value))
    found.notification = "id" not in value
    if value.get("params") not in (None, [], {}):
        found.params = dump(value["params"])
    return found


def is_ours(value: Any) -> bool:
    return isinstance(value, dict) and value.get("jsonrpc") == VERSION


def ident(value: dict[str, Any]) -> str | None:
    one = value.get("id")
    return str(one)[:NAME] if isinstance(one, str | int | float) else None


def of_calls(given: Read) -> JsonRpc | None:
    """Of a request's body."""
    if isinstance(given.value, list):
        known = [of_call(one) for one in given.value[:LISTED]]
        calls = [one for one in known if one is not None]
        if not calls:
            return None
        found: JsonRpc | None = calls[0]
        assert found is not None
        found.batch = len(given.value)
        found.methods = [one.method or "" for one in calls]
        found.notification = all(one is not None and one.notification for one in known)
    else:
        found = of_call(given.value)
    if found is not None and not given.whole:
        found.notes.append("request-cut")
        found.notification = False  # its id may come yet
    return found


def add_answers(found: JsonRpc, given: Read, cut: bool) -> None:
    """What the response says."""
    answers = given.value if isinstance(given.value, list) else [given.value]
    known = [one for one in answers if is_ours(one)]
    if known and (given.whole or any("error" in one for one in known)):
        add_errors(found, known)
    if cut or (known and not given.whole):
        found.notes.append("response-cut")


def add_errors(found: JsonRpc, answers: list[dict[str, Any]]) -> None:
    errors = [one["error"] for one in answers if isinstance(one.get("error"), dict)]
    found.errors = len(errors)
    for error in errors[:1]:
        code, said = error.get("code"), error.get("message")
        found.error_code = code if isinstance(code, int) and abs(code) < 1 << 53 else None
        found.error = said if isinstance(said, str) else None


def of_message(value: Any) -> JsonRpc | None:
    """Of a message of WebSocket: calls, or answers."""
    found = of_calls(Read(value, True))
    answers = value if isinstance(value, list) else [value]
    if found is None and answers and all(map(is_answer, answers)):
        found = JsonRpc(id=ident(answers[0]), result=True, batch=len(answers))
        add_errors(found, answers)
    return found


def is_answer(value: Any) -> bool:
    return is_ours(value) and ("result" in value or "error" in value)


# ---------------------------------------------------------------- what a row says


def summary(found: JsonRpc) -> str:
    """What a row shows beside the path: ``eth_call``, ``batch of 2: a, b``."""
    if found.result:
        words = ["error", failure(found)] if found.errors else ["result"]
        return " ".join(filter(None, (words[0], found.id, *words[1:])))
    if found.batch > 1:
        more = ", …" if found.batch > SHOWN else ""
        return f"batch of {found.batch}: {', '.join(found.methods[:SHOWN])}{more}"
    return f"{found.method} (notification)" if found.notification else str(found.method)


def failure(found: JsonRpc) -> str:
    """The first error in words."""
    code = "" if found.error_code is None else str(found.error_code)
    return " ".join(filter(None, (code, found.error)))


class Enricher:
    """Adds `JsonRpc` to entries, names the method in their rows, and makes errors of what failed."""

    def __init__(self, options: Options, context: Context) -> None:
        self.context = context

    def enrich(self, batch: list[Entry]) -> list[Entry]:
        for entry in batch:
            if entry.request is not None and entry.request.body:
                self.look(entry, entry.request)
        return batch

    def look(self, entry: Entry, asked: Message) -> None:
        """One entry."""
        found: JsonRpc | None
        if entry.protocol == "websocket":
            found = of_message(self.text(asked, "websocket").value)
        else:
            found = of_calls(self.text(asked, entry.protocol))
            if found is not None and entry.response is not None:
                given = self.text(entry.response, entry.protocol)
                add_answers(found, given, entry.response.truncated)
        if found is None:
            return
        path = asked.target.partition("?")[0]
        asked.target = f"{path} {shorter(summary(found))}".lstrip()
        if found.errors:
            fail(entry, failure(found))
        entry.extra = {**(entry.extra or {}), "jsonrpc": found}

    def text(self, message: Message, protocol: str) -> Read:
        """What its body says."""
        try:
            details: Any = self.context.details(message, protocol)
        except Exception:  # said and counted by whom it came from
            return Read()
        return Read() if details is None or details.body_encoding else read(details.body)


@hookimpl
def register_enrichers() -> list[EnricherSpec]:
    return [
        EnricherSpec(
            name="jsonrpc",
            make=Enricher,
            doc="JSON-RPC 2.0 over HTTP and WebSocket: method, errors",
            adds={"jsonrpc": JsonRpc},
            protocols=("http", "http2", "websocket"),
            marks=(b'"jsonrpc"',),
            begins=(GZIP,),
        )
    ]
