"""Secrets in names, URLs and headers: none gets through, and what is not secret does."""

from __future__ import annotations

import pytest

from kshark import secret_names


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
        ("u:p@h:443", "REDACTED@h:443"),
        (
            "/a?next=http%3A%2F%2Fu%3Ap%40q%40h%2F&b=c%40d",
            "/a?next=http%3A%2F%2FREDACTED%40h%2F&b=c%40d",
        ),
        ("/a?pageToken=x", "/a?pageToken=x"),
        ("/a?token=&b=1", "/a?token=&b=1"),
        ("/npm/@scope/pkg?v=1", "/npm/@scope/pkg?v=1"),
        ("/token/x=1", "/token/x=1"),
        ("*", "*"),
    ],
)
def test_urls(text: str, shown: str) -> None:
    assert secret_names.url(text) == shown
    assert secret_names.url(shown) == shown


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Authorization", "Basic dTpw", "Basic REDACTED"),
        ("authorization", "opaque", "REDACTED"),
        ("Proxy-Authorization", "my secret", "REDACTED"),
        ("Set-Cookie", "a=b; Path=/", "REDACTED"),
        ("X-Vault-Token", "x", "REDACTED"),
        ("X_Api_Key", "x", "REDACTED"),
        ("X-Forwarded-Authorization", "Bearer x", "Bearer REDACTED"),
        ("X-Original-Cookie", "x", "REDACTED"),
        ("Host", "u:p@h:80", "REDACTED@h:80"),
        ("Host", "h:80", "h:80"),
        ("Sec-WebSocket-Protocol", "base64url.bearer.authorization.k8s.io.x, v4.channel.k8s.io",
         "base64url.bearer.REDACTED, v4.channel.k8s.io"),
        ("Location", "/cb?id_token=x", "/cb?id_token=REDACTED"),
        ("Referer", "https://u:p@h/", "https://REDACTED@h/"),
        ("Accept", "a?token=x", "a?token=x"),
    ],
)  # fmt: skip
def test_headers(name: str, value: str, shown: str) -> None:
    assert secret_names.header(name, value) == shown
