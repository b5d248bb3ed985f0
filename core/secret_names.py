"""What is a secret in names, URLs and headers: lists of names, and texts with the values hidden.

The mark is that of OpenTelemetry's conventions for ``url.full``:
``https://REDACTED@host/?sig=REDACTED``. Everything here is linear in the length of what it reads.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

REDACTED: Final = "REDACTED"

SECRET_HEADERS: Final = frozenset(
    {
        "authenticationinfo",
        "ocpapimsubscriptionkey",
        "proxyauthenticationinfo",
        "xauth",
        "xauthkey",
        "xforwardedclientcert",
        "xfunctionskey",
        "xgoogiapjwtassertion",
        "xjwtassertion",
        "xmasterkey",
    }
)
"""Headers whose value is hidden, beside those that a parameter of their name is hidden for, and HEADER_PARTS."""

HEADER_PARTS: Final = ("authorization", "cookie")
"""Headers whose name holds one of these are secret: gateways pass credentials on in X-...-Authorization."""

SECRET_PARAMETERS: Final = frozenset(
    {"auth", "authorization", "bearer", "hmac", "jwt", "pass", "pw", "pwd", "sas", "sid", "sig"}
)
"""Query, matrix and fragment parameters whose value is hidden, beside those of SECRET_PARTS."""

SECRET_PARTS: Final = (
    "accesskey",
    "apikey",
    "authcode",
    "authkey",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "session",
    "signature",
    "token",
)
"""A name that holds one of these is secret; case, "-", "_", "." and brackets do not count."""

PUBLIC_NAMES: Final = frozenset({"continuationtoken", "nextpagetoken", "nexttoken", "pagetoken"})
"""Names with a secret part that only turn pages."""

URL_HEADERS: Final = frozenset(
    {
        "contentlocation",
        "destination",
        "host",
        "link",
        "location",
        "origin",
        "referer",
        "refresh",
        "xforwardeduri",
        "xoriginaluri",
        "xoriginalurl",
        "xrewriteurl",
    }
)
"""Headers whose value is redacted as a URL."""

SCHEMES: Final = frozenset(
    {"aws4-hmac-sha256", "basic", "bearer", "digest", "hoba", "negotiate", "ntlm", "token"}
)
"""Authentication schemes (IANA's registry, and clouds') that stay visible before the mark."""

NAME_BYTES: Final = 128
"""Longer names of headers and parameters are judged by their first so many characters."""

_PUNCTUATION = str.maketrans("", "", "-_.[] ")
_JOINTS = str.maketrans("", "", "-_.[]")
_WORDS = re.compile(rf"(?<![a-z\d])(?:{'|'.join(sorted(SECRET_PARAMETERS))})(?![a-z\d])")
_ESCAPES = re.compile(r"\\u00|%(?:[4-7]|2[de])")  # of letters, "-", "." or "_"
_USER_INFO = re.compile(
    r"(//)[^/?#\s]*@"
    r"|(%2F%2F)(?:(?!%2F|%3F|%23|%26)[^/?#&\s@])*%40"  # in a URL that is a parameter
    r"|^()[^/?#&=%;,\s]+@",  # of an authority: CONNECT, Host
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?i)(\bbearer\.)[^\s,]+")
_PARAMETER = re.compile(
    # a delimiter (a line's end in a text/plain form), a name, an equals sign; each also
    # percent-encoded, as in a URL within a URL
    r"(?:[?&;#\n]|%3[FB]|%26|%23)((?:[^?&;#=/%\n]|%(?!3[FBD]|2[36])[0-9A-F]{2})+)(?:=|%3D)",
    re.IGNORECASE,
)
_VALUE_END = re.compile(r"[&#]|%26|%23|\r?\n(?=[\w.%\[\]-]{1,128}=)")


@lru_cache(maxsize=1024)
def plain(name: str) -> str:
    """A name as the lists here have it: escapes undone, lower case, without punctuation."""
    return unquote(name[:NAME_BYTES]).lower().translate(_PUNCTUATION)


def _secret_part(plain: str) -> bool:
    return plain not in PUBLIC_NAMES and any(part in plain for part in SECRET_PARTS)


def secret_parameter(name: str) -> bool:
    """Whether a query parameter of this name holds a secret.

    >>> [secret_parameter(n) for n in ("access_token", "X-Amz-Signature", "tok%65n", "page")]
    [True, True, True, False]
    """
    return _secret(name[:NAME_BYTES])


@lru_cache(maxsize=4096)
def _secret(name: str) -> bool:
    bare = plain(name)
    return bare in SECRET_PARAMETERS or _secret_part(bare)


def may_name_secrets(text: str) -> bool:
    """False where no name in a text can be a secret one: most texts cost only this look.

    >>> may_name_secrets('{"API-Key": 1}'), may_name_secrets('{"side": "passenger"}')
    (True, False)
    """
    low = text.lower().translate(_JOINTS)
    if any(part in low for part in SECRET_PARTS) or _ESCAPES.search(low):
        return True
    return any(word in low for word in SECRET_PARAMETERS) and _WORDS.search(low) is not None


def url(text: str) -> str:
    """Hide user info and secret parameters, also of a URL that is a parameter of another.

    >>> url("/login?user=ann&token=abc&next=%2Fa%3Fsig%3Dxyz")
    '/login?user=ann&token=REDACTED&next=%2Fa%3Fsig%3DREDACTED'
    >>> url("redis://ann:pa55@db:6379/0")
    'redis://REDACTED@db:6379/0'
    """
    if "@" in text or "%40" in text:
        text = _USER_INFO.sub(_hide_user, text)
    if "=" not in text and "%3" not in text:
        return text
    parts: list[str] = []
    kept = 0
    found = _PARAMETER.search(text)
    while found is not None:
        at = found.end()
        if secret_parameter(found[1]):
            end = _VALUE_END.search(text, at)
            stop = end.start() if end is not None else len(text)
            if stop > at:
                parts += (text[kept:at], REDACTED)
                kept = at = stop
        found = _PARAMETER.search(text, at)
    parts.append(text[kept:])
    return "".join(parts)


def _hide_user(found: re.Match[str]) -> str:
    return f"{found[1] or found[2] or ''}{REDACTED}{'%40' if found[2] else '@'}"


def header(name: str, value: str) -> str:
    """The value of a header as it may be shown; an authentication scheme stays visible.

    >>> header("Authorization", "Bearer abc"), header("Accept", "*/*")
    ('Bearer REDACTED', '*/*')
    """
    bare = plain(name[:NAME_BYTES])
    parts = any(part in bare for part in HEADER_PARTS)
    if parts or bare in SECRET_HEADERS or secret_parameter(name):
        scheme, space, _ = value.partition(" ")
        return f"{scheme} {REDACTED}" if space and scheme.lower() in SCHEMES else REDACTED
    if bare == "secwebsocketprotocol":  # how browsers send Kubernetes' API server their token
        return _BEARER.sub(rf"\1{REDACTED}", value)
    return url(value) if bare in URL_HEADERS else value
