"""That no secret gets through, and that what is not secret does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark import redact
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
from kshark.unknown import never

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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a?token=x&b=1", "/a?token=REDACTED&b=1"),
        ("/a?b=1&Access-Token=x#f", "/a?b=1&Access-Token=REDACTED#f"),
        ("/a;jsessionid=x?b=1", "/a;jsessionid=REDACTED"),
        ("/a?tok%65n=x", "/a?tok%65n=REDACTED"),
        ("/a?token%3Dx", "/a?token%3DREDACTED"),
        ("/a?next=/b?password=x?y&c=1", "/a?next=/b?password=REDACTED&c=1"),
        ("/a?next=%2Fb%3Fpassword%3Dx%26c%3D1", "/a?next=%2Fb%3Fpassword%3DREDACTED%26c%3D1"),
        ("/a?X-Amz-Signature=x&X-Amz-Date=1", "/a?X-Amz-Signature=REDACTED&X-Amz-Date=1"),
        ("/a?q[api_key]=x", "/a?q[api_key]=REDACTED"),
        ("/a#access_token=x", "/a#access_token=REDACTED"),
        ("http://u:p@h/x", "http://REDACTED@h/x"),
        ("http://u:p@p@h:80/x@y", "http://REDACTED@h:80/x@y"),
        ("redis://:pw@h", "redis://REDACTED@h"),
        ("/a?pageToken=x", "/a?pageToken=x"),
        ("/a?token=&b=1", "/a?token=&b=1"),
        ("/npm/@scope/pkg?v=1", "/npm/@scope/pkg?v=1"),
        ("/token/x=1", "/token/x=1"),
        ("*", "*"),
    ],
)
def test_urls(text: str, shown: str) -> None:
    assert redact.url(text) == shown
    assert redact.url(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("user=ann&pass=x", "user=ann&pass=REDACTED"),
        ("pass=x&user=ann", "pass=REDACTED&user=ann"),
        ("q%5Bapi_key%5D=x&a=b", "q%5Bapi_key%5D=REDACTED&a=b"),
        ("pass=", "pass="),
        ('{"password": "x", "a": 1}', '{"password": "REDACTED", "a": 1}'),
        ('\n[{"a":{"token":"x\\"y"}}]', '\n[{"a":{"token":"REDACTED"}}]'),
        ('{"pass": 1234, "pageToken": "x"}', '{"pass": "REDACTED", "pageToken": "x"}'),
        ('{"tokens": ["x", "y"], "b": []}', '{"tokens": "REDACTED", "b": []}'),
        ('{"secret": null, "session": true}', '{"secret": null, "session": true}'),
        ('{"credentials": {"password": "x"}}', '{"credentials": {"password": "REDACTED"}}'),
        ('{"password": "cut he', '{"password": "REDACTED"'),
        ('{"password": "cut he\\', '{"password": "REDACTED"'),
        ('{"a": "password", "b": "token"}', '{"a": "password", "b": "token"}'),
        ("<a href='/?token=x'>", "<a href='/?token=x'>"),
        ("password: x", "password: x"),
        ("", ""),
    ],
)
def test_bodies(text: str, shown: str) -> None:
    assert redact.body(text) == shown
    assert redact.body(shown) == shown


@pytest.mark.parametrize("text", ['{"', '{"a":"', '{"\\', '{"a"' + " " * 64, "{[", '{"a":[', "a="])
def test_bodies_that_repeat_themselves(text: str) -> None:
    """Half a megabyte of what a regular expression might try again and again."""
    redact.body(text[:1] + text[1:] * (500_000 // len(text)))


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Authorization", "Basic dTpw", "Basic REDACTED"),
        ("authorization", "opaque", "REDACTED"),
        ("Proxy-Authorization", "my secret", "REDACTED"),
        ("Set-Cookie", "a=b; Path=/", "REDACTED"),
        ("X-Vault-Token", "x", "REDACTED"),
        ("X_Api_Key", "x", "REDACTED"),
        ("Location", "/cb?id_token=x", "/cb?id_token=REDACTED"),
        ("Referer", "https://u:p@h/", "https://REDACTED@h/"),
        ("Accept", "a?token=x", "a?token=x"),
    ],
)
def test_headers(name: str, value: str, shown: str) -> None:
    assert redact.header(name, value) == shown


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
    return {"http": ProtocolSpec(name="http", dissector=never, target_redact=kind)}


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
    [*"?&;#=/@%23é\ud800", "//", *NAMES, "%3D", "%3f", "%26", "%23", "%3b", "%65"]
)
SUSPECTS = [
    pytest.param(lambda: redact.Suspects, id="plain"),
    pytest.param(lambda: _rows.Suspects, id="compiled", marks=compiled),
]


@pytest.mark.parametrize("twin", SUSPECTS)
@settings(derandomize=True)
@given(target=st.lists(PARTS, max_size=12).map("".join), error=st.booleans())
def test_no_secret_is_unsuspected(twin: Make, target: str, error: bool) -> None:
    made = entry()
    half = made.response if error else made.request
    assert half is not None
    half.target = target
    found = twin()(redact.secret_parameter).find([made], frozenset({"http"}))
    assert found or redact.url(target) == target


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


def test_counts_of_tokens_are_no_secrets() -> None:
    text = '{"max_tokens": 100, "usage": {"total_tokens": 12}, "token": 5, "tokens": "abc"}'
    assert redact.body(text) == (
        '{"max_tokens": 100, "usage": {"total_tokens": 12}, "token": "REDACTED", "tokens": "REDACTED"}'
    )
