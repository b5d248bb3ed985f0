"""Secrets in sentences: what is hidden in the text of an error, and what stays readable."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshark.api import Endpoint, Entry, Flow, Kind, Message, Outcome, ProtocolSpec, Redact
from kshark.redact import redact_targets
from kshark.secret_bodies import body
from kshark.secret_names import header
from kshark.secret_texts import text

HIDDEN = [
    "bad login: password=hunter2 for ann",
    'UNAUTHENTICATED: {"token":"hunter2"}',
    r"refused \"api_key\": \"hunter2\"",
    "login: password: hunter2",
    "Authorization: Bearer hunter2hunter2",
    "was sent Basic YW5uOmh1bnRlcjI= hunter",
    "a=b; session = hunter2",
]
SCHEMES = [
    "Authorization: Bearer hunter",
    "auth=basic hunter",
    "authorization: token hunter-hunter-hunter-2",
]
SHOWN = [
    "invalid token: expired",
    "session: not found",
    "Bearer token missing",
    "Basic authentication required",
    "rpc error: code = Unavailable desc = connection refused",
    "user: ann, id=7",
]


@pytest.mark.parametrize("said", HIDDEN)
def test_hidden(said: str) -> None:
    for shown in (text(said), body(said)):
        assert "hunter2" not in shown
        assert "YW5u" not in shown
        assert "REDACTED" in shown


def test_sentences_within_json() -> None:
    said = '{"message": "bad password=hunter2", "sent": "Bearer hunter2hunter2", "tokens": [100], "n": 1}'
    shown = json.loads(body(said))
    assert shown["message"] == "bad password=REDACTED"
    assert (shown["sent"], shown["n"]) == ("Bearer REDACTED", 1)


@pytest.mark.parametrize("said", SCHEMES)
def test_schemes(said: str) -> None:
    assert "hunter" not in text(said)


@pytest.mark.parametrize("said", SHOWN)
def test_shown(said: str) -> None:
    assert text(said) == said == body(said)


@given(st.text(alphabet="token pass=:\"'\\1,Bearer ", max_size=60))
def test_what_is_hidden_stays_hidden(said: str) -> None:
    once = text(said)
    assert text(once) == once


@pytest.mark.parametrize("piece", ["x=", "a: ", "token=", "token:\\", "bearer a", 'token="', "a\\"])
def test_a_long_text_takes_no_longer_than_its_length(piece: str) -> None:
    """Each character is met by few attempts; a quadratic search of this takes minutes."""
    assert len(text(piece * (200_000 // len(piece)))) > 0


def test_what_an_error_says_in_a_row() -> None:
    flow = Flow("f1", "tcp", Endpoint("10.0.0.1", 40858), Endpoint("10.0.0.2", 80))
    answer = Message(Kind.RESPONSE, target="UNAUTHENTICATED: bad password=hunter2", ok=False)
    entry = Entry(flow, 0, "grpc", Message(Kind.REQUEST), answer, Outcome.ERROR)
    redact_targets([entry], {"grpc": ProtocolSpec(name="grpc", target_redact=Redact.URL)})
    assert answer.target == "UNAUTHENTICATED: bad password=REDACTED"


@pytest.mark.parametrize("name", ["jwt", "auth", "pwd", "sid", "hmac"])
def test_headers_named_like_a_parameter(name: str) -> None:
    """As metadata of gRPC are."""
    assert header(name, "hunter2") == "REDACTED"
