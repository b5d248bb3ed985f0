"""That no secret gets through, and that what is not secret does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kshark import redact, secret_names
from kshark.api import (
    Details,
    Endpoint,
    Entry,
    Flow,
    Kind,
    Message,
    Outcome,
    ProtocolSpec,
    Redact,
    doc,
)

try:
    from kshark import _rows
except ImportError:
    _rows = None  # type: ignore[assignment]

compiled = pytest.mark.skipif(_rows is None, reason="kshark._rows is not compiled")
Make = Callable[[], Any]


def entry(**changes: Any) -> Entry:
    flow = Flow("f1", "tcp", Endpoint("10.0.0.1", 40858), Endpoint("10.0.0.2", 80))
    made = Entry(flow, 0, "http", Message(Kind.REQUEST), Message(Kind.RESPONSE), Outcome.OK)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class Odd(Details):
    """Shapes in which a secret can hide."""

    number: Annotated[int, doc("n", redact=Redact.VALUE)] = 0
    raw: Annotated[bytes, doc("n", redact=Redact.VALUE)] = b""
    maybe: Annotated[str | None, doc("n", redact=Redact.VALUE)] = None
    table: Annotated[dict[str, str], doc("n", redact=Redact.VALUE)] = {}
    urls: Annotated[list[str], doc("n", redact=Redact.URL)] = []
    by_name: Annotated[dict[str, list[str]], doc("n", redact=Redact.HEADERS)] = {}
    deep: Annotated[dict[str, list[Odd]], doc("n")] = {}
    pair: Annotated[tuple[str, Annotated[str, doc("n", redact=Redact.VALUE)]], doc("n")] = ("", "")
    either: Annotated[Annotated[str, doc("n", redact=Redact.URL)] | int | None, doc("n")] = None


def test_every_shape_is_redacted_and_still_fits_its_type() -> None:
    odd = Odd(
        number=5,
        raw=b"s3cret",
        maybe="s3cret",
        table={"a": "s3cret"},
        urls=["/?sig=s3cret"],
        by_name={"Cookie": ["s3cret"], "Accept": ["a"]},
        deep={"x": [Odd(maybe="s3cret")]},
        pair=("name", "s3cret"),
        either="/?sig=s3cret",
    )
    got = redact.Redactor().apply(odd)
    text = msgspec.json.encode(got)
    assert b"s3cret" not in text
    assert b'"number":5' not in text
    assert got.by_name["Accept"] == ["a"]  # type: ignore[attr-defined]
    assert msgspec.json.decode(text, type=Odd) == got


def specs(kind: Redact) -> dict[str, ProtocolSpec]:
    return {"http": ProtocolSpec(name="http", target_redact=kind)}


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (Redact.NONE, ["/a?token=x", "/b"]),
        (Redact.URL, ["/a?token=REDACTED", "/b"]),
        (Redact.VALUE, ["REDACTED", "REDACTED"]),
    ],
)
def test_targets_of_rows(kind: Redact, shown: list[str]) -> None:
    made = [entry(), entry(), entry(protocol="other")]
    for one, target in zip(made, ["/a?token=x", "/b", "/c?token=x"], strict=True):
        assert one.request is not None
        one.request.target = target
    redact.redact_targets(made, specs(kind))
    assert [one.request.target for one in made if one.request] == [*shown, "/c?token=x"]


NAMES = ["token", "tok", "en", "sig", "a", "pageToken"]
PARTS = st.sampled_from(
    [
        *"?&;#=/@%23é\ud800\n",
        "//",
        "%2F%2F",
        *NAMES,
        "%3D",
        "%3f",
        "%26",
        "%23",
        "%3b",
        "%65",
        "%40",
    ]
)
SUSPECTS = [
    pytest.param(lambda: redact.Suspects, id="plain"),
    pytest.param(lambda: _rows.Suspects, id="compiled", marks=compiled),
]


@pytest.mark.parametrize("twin", SUSPECTS)
@settings(derandomize=True)
@example(target="/a\ntoken=x", error=False)
@given(target=st.lists(PARTS, max_size=12).map("".join), error=st.booleans())
def test_no_secret_is_unsuspected(twin: Make, target: str, error: bool) -> None:
    made = entry()
    half = made.response if error else made.request
    assert half is not None
    half.target = target
    found = twin()(secret_names.secret_parameter).find([made], frozenset({"http"}))
    assert found or secret_names.url(target) == target


@compiled
def test_what_is_surely_public_is_not_looked_at_twice() -> None:
    made = entry()
    assert made.request is not None
    made.request.target = "/api/v1/pods?limit=500&watch=true"
    asked: list[str] = []

    def secret(name: str) -> bool:
        asked.append(name)
        return False

    suspects = _rows.Suspects(secret)
    for _ in range(3):
        assert suspects.find([made], frozenset({"http"})) == []
    assert asked == ["limit", "watch"]
