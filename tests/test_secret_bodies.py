"""Secrets in bodies, whatever the body is: none gets through, and what is not secret does."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark.secret_bodies import body


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("user=ann&pass=x", "user=ann&pass=REDACTED"),
        ("pass=x&user=ann", "pass=REDACTED&user=ann"),
        ("a&pass=x", "a&pass=REDACTED"),
        ("\r\n&pass=x", "\r\n&pass=REDACTED"),
        ("f:user=ann&f:password=x", "f:user=ann&f:password=REDACTED"),
        ("q%5Bapi_key%5D=x&a=b", "q%5Bapi_key%5D=REDACTED&a=b"),
        ("user=ann\r\npassword=x y\r\nage=7\r\n", "user=ann\r\npassword=REDACTED\r\nage=7\r\n"),
        ("password=x\nand more of it", "password=REDACTED"),
        ("pass=", "pass="),
        ("next=//u:p@h&n=http://v@h", "next=//REDACTED@h&n=http://REDACTED@h"),
        ("<a href='/?token=x'>", "<a href='/?token=x'>"),
        ("password: x", "password: x"),
        ("", ""),
    ],
)
def test_forms(text: str, shown: str) -> None:
    assert body(text) == shown
    assert body(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"password": "x", "a": 1}', '{"password": "REDACTED", "a": 1}'),
        ('\n[{"a":{"token":"x\\"y"}}]', '\n[{"a":{"token":"REDACTED"}}]'),
        ('\ufeff{"token": "x"}', '\ufeff{"token": "REDACTED"}'),
        (')]}\',\n{"token": "x"}', ')]}\',\n{"token": "REDACTED"}'),
        ('data: {"token": "x"}\n\n', 'data: {"token": "REDACTED"}\n\n'),
        ('{"pass": 1234, "pageToken": "x"}', '{"pass": "REDACTED", "pageToken": "x"}'),
        ('{"passw\\u006frd": "x"}', '{"passw\\u006frd": "REDACTED"}'),
        ('{"tokens": ["x", "y]", "z"], "b": []}',
         '{"tokens": ["REDACTED", "REDACTED", "REDACTED"], "b": []}'),
        ('{"secret": null, "session": true}', '{"secret": null, "session": true}'),
        ('{"credentials": {"user": "x", "n": 1}, "a": "b"}',
         '{"credentials": {"user": "REDACTED", "n": "REDACTED"}, "a": "b"}'),
        ('{"tokens": [{"value": "x"}], "a": [1]}', '{"tokens": [{"value": "REDACTED"}], "a": [1]}'),
        ('{"password": "cut he', '{"password": "REDACTED"'),
        ('{"password": "cut he\\', '{"password": "REDACTED"'),
        ('{"secret": {"value": "cut he', '{"secret": {"value": "REDACTED"'),
        ('{"a": "password", "b": "token"}', '{"a": "password", "b": "token"}'),
        ('{"env": [{"name": "DB_PASSWORD", "value": "x"}, {"name": "TZ", "value": "UTC"}]}',
         '{"env": [{"name": "DB_PASSWORD", "value": "REDACTED"}, {"name": "TZ", "value": "UTC"}]}'),
        ('{"last": "{\\"name\\":\\"API_TOKEN\\",\\"value\\":\\"x\\"}"}',
         '{"last": "{\\"name\\":\\"API_TOKEN\\",\\"value\\":\\"REDACTED\\"}"}'),
        ('{"name": "TOKEN", "valueFrom": {"a": "b"}}', '{"name": "TOKEN", "valueFrom": {"a": "b"}}'),
        ('{"a": ", ", ":token": "x"}', '{"a": ", ", ":token": "REDACTED"}'),
        ('{"a": "{\\"token\\": \\"x\\", \\"b\\": 1}"}',
         '{"a": "{\\"token\\": \\"REDACTED\\", \\"b\\": 1}"}'),
        ('{"query": "mutation { login(password: \\"x\\") { id } }"}',
         '{"query": "mutation { login(password: \\"REDACTED\\") { id } }"}'),
        ('{"a": "{\\"token\\": \\"cut he', '{"a": "{\\"token\\": \\"REDACTED'),
        ('{"kind":"Secret","data":{"db":"x"},"type":"Opaque"}',
         '{"kind":"Secret","data":{"db":"REDACTED"},"type":"Opaque"}'),
        ('{"dsn": "db://u:p@h/x", "a": "https://h/@b:c@d"}',
         '{"dsn": "db://REDACTED@h/x", "a": "https://h/@b:c@d"}'),
        ('{"kind":"ConfigMap","data":{"db":"x"}}', '{"kind":"ConfigMap","data":{"db":"x"}}'),
    ],
)  # fmt: skip
def test_json(text: str, shown: str) -> None:
    assert body(text) == shown
    assert body(shown) == shown


def test_counts_of_tokens_are_no_secrets() -> None:
    text = '{"max_tokens": 100, "usage": {"total_tokens": 12}, "token": 5, "tokens": "abc"}'
    assert body(text) == (
        '{"max_tokens": 100, "usage": {"total_tokens": 12}, "token": "REDACTED", "tokens": "REDACTED"}'
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<a><pw>x</pw><b>y</b></a>", "<a><pw>REDACTED</pw><b>y</b></a>"),
        ('<s:Password Type="t">x</s:Password>', '<s:Password Type="t">REDACTED</s:Password>'),
        ("<token><![CDATA[x<y]]></token>", "<token><![CDATA[REDACTED]]></token>"),
        ("<a></a><token>cut he", "<a></a><token>REDACTED"),
        ("<a></a><token/>text", "<a></a><token/>text"),
        ("<credentials>\n<user>ann</user>", "<credentials>\n<user>ann</user>"),
    ],
)
def test_xml(text: str, shown: str) -> None:
    assert body(text) == shown
    assert body(shown) == shown


FIELD = 'Content-Disposition: form-data; name="{}"\r\n\r\n{}'


def parts(*texts: str, mark: str = "b7", end: str = "\r\n--b7--\r\n") -> str:
    return f"--{mark}\r\n" + f"\r\n--{mark}\r\n".join(texts) + end


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (FIELD.format("password", "x"), FIELD.format("password", "REDACTED")),
        (FIELD.format("password", ""), FIELD.format("password", "")),
        (FIELD.format("user", "ann"), FIELD.format("user", "ann")),
        (FIELD.format("user[token]", "x\r\ny"), FIELD.format("user[token]", "REDACTED")),
        ("content-disposition:form-data;name=pwd\r\n\r\nx",
         "content-disposition:form-data;name=pwd\r\n\r\nREDACTED"),
        ("Content-Disposition: form-data; name*=UTF-8''p%77d\r\n\r\nx",
         "Content-Disposition: form-data; name*=UTF-8''p%77d\r\n\r\nREDACTED"),
        ("Content-Disposition: form-data;\r\n name=pwd\r\n\r\nx",
         "Content-Disposition: form-data;\r\n name=pwd\r\n\r\nREDACTED"),
        ('Content-Disposition: form-data; name="f"; filename="token"\r\n\r\nx',
         'Content-Disposition: form-data; name="f"; filename="token"\r\n\r\nx'),
        ('Content-Type: application/json\r\n\r\n{"token": "x"}',
         'Content-Type: application/json\r\n\r\n{"token": "REDACTED"}'),
        ("Content-Type: text/plain\r\nX-Token: x\r\n\r\ny",
         "Content-Type: text/plain\r\nX-Token: REDACTED\r\n\r\ny"),
        ("Content-Type: application/http\r\n\r\nGET /?sig=x HTTP/1.1\r\nCookie: x\r\n\r\na=b&pw=x",
         "Content-Type: application/http\r\n\r\nGET /?sig=REDACTED HTTP/1.1\r\nCookie: REDACTED\r\n\r\n"
         "a=b&pw=REDACTED"),
        ("\r\npw=x", "\r\npw=REDACTED"),
    ],
)  # fmt: skip
def test_multipart(text: str, shown: str) -> None:
    between = (FIELD.format("a", "1"), text, FIELD.format("c", "3"))
    expected = parts(between[0], shown, between[2])
    assert body(parts(*between)) == expected
    assert body(expected) == expected
    assert body(parts(*between).replace("\r\n", "\n")) == expected.replace("\r\n", "\n")
    assert body("preamble\r\n" + parts(*between)) == "preamble\r\n" + expected


def test_parts_that_are_cut() -> None:
    whole = parts(FIELD.format("a", "1"), FIELD.format("token", "hunter2"), FIELD.format("c", "3"))
    for end in range(len(whole) + 1):
        assert "hunter2"[:2] not in body(whole[:end])


def test_parts_within_parts() -> None:
    text = FIELD.format("token", "hunter2")
    for level in range(6):
        mark = f"m{level}"
        text = (
            f"Content-Type: multipart/mixed\r\n\r\n{parts(text, mark=mark, end='')}\r\n--{mark}--"
        )
        assert "hunter2" not in body(text.partition("\r\n\r\n")[2])


def test_in_base64() -> None:
    raw = parts(FIELD.format("token", "hunter2"), FIELD.format("f", "\0\xff")).encode("latin-1")
    shown = base64.b64decode(body(base64.b64encode(raw).decode()))
    assert shown == raw.replace(b"hunter2", b"REDACTED")
    innocent = base64.b64encode(bytes(range(256))).decode()
    assert body(innocent) == innocent


def test_kubernetes_secrets_in_protobuf() -> None:
    raw = b"k8s\0\n\x0c\n\x02v1\x12\x06Secret\x12\x2ddata hunter2"
    shown = base64.b64decode(body(base64.b64encode(raw).decode()))
    assert shown == b"REDACTED"
    other = base64.b64encode(raw.replace(b"\x06Secret", b"\x03Pod")).decode()
    assert body(other) == other


@pytest.mark.parametrize(
    "text",
    [
        '{"', '{"a":"', '{"\\', '{"a"' + " " * 64, "{[", '{"a":[', "a=", '{"token":{', '"token":["',
        '"token\\":\\"', '\\"token=\\"', "a\\", "<token>", "</<token ", "<token><![CDATA[", "//a", "%2F%2F", "://a:",
        "\n--b\na:", "--b\r\n\r\n", 'name="', "\npw=", "a" * 200, "A", '\n--b\nname:b\n\nname="',
    ],
)  # fmt: skip
def test_bodies_that_repeat_themselves(text: str) -> None:
    """A quarter of a megabyte of what a regular expression might try again and again."""
    body(text[:1] + text[1:] * (250_000 // len(text)))
    body(text * (250_000 // len(text)))
    body("--b\r\nname:b\r\n\r\n" + text * (250_000 // len(text)))


PUBLIC = st.sampled_from(["a", "user", ":", ", ", 'q"t', "b\\", "é", "{", "]"])
SECRET = st.sampled_from(["token", ":token", "pass", "client_secret", "apiKey"])
LEAVES = st.one_of(PUBLIC, st.integers(), st.booleans(), st.none(), st.just(": "))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(PUBLIC, inner, max_size=3),
        st.dictionaries(SECRET, inner.map(lambda value: ["hunter2", value]), max_size=2),
        st.dictionaries(SECRET, st.just('hun"ter2'), max_size=2),
    ),
    max_leaves=20,
)


@settings(derandomize=True, max_examples=300)
@given(value=VALUES, indent=st.sampled_from([None, 1]))
def test_any_json_keeps_its_shape_and_no_secret(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    shown = body(text)
    assert "hun" not in shown
    assert shape(json.loads(shown)) == shape(value)
    assert body(shown) == shown


def shape(value: Any) -> Any:
    """Lists and names of members."""
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return None
