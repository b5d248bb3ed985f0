"""A GraphQL document, scanned: its operations, and the fields that they ask for at the top.

Tolerant within arguments, variables and selections below the top, where only brackets are counted; strict above, so
that what is no GraphQL (SQL, PromQL, a search) is never taken for it. Linear, without recursion.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

TYPES: Final = ("query", "mutation", "subscription")
FIELDS: Final = 32
"""Fields of an operation that are named."""
OPERATIONS: Final = 64
"""Operations of a document that are told apart."""

_IGNORED = re.compile(r"(?:[\s,\ufeff]|#[^\n\r]*)*")
_TOKEN = re.compile(
    r'("""(?:[^"\\]|\\"""|\\(?!""")|"(?!""))*"""|"(?:[^"\\\n\r]|\\.)*")'
    r"|([_A-Za-z][_0-9A-Za-z]*)|(\.\.\.|[!$&()\[\]{}:=@|])|-?\d[\d.eE+-]*"
)
_OPENS: Final = frozenset("([{")
_CLOSES: Final = frozenset(")]}")
STRING: Final = '"'
NUMBER: Final = "0"


class NotGraphQL(ValueError):
    """The text is no document of operations."""


class Operation(msgspec.Struct):
    """One operation. ``fields`` are those of the result, by their own names; ``...Name`` is a fragment."""

    type: str
    name: str = ""
    fields: list[str] = []


def operations(text: str) -> list[Operation]:
    """The operations of a document; `NotGraphQL` where it is none.

    >>> operations("query User($id: ID!) { user(id: $id) { name } me: viewer { id } }")
    [Operation(type='query', name='User', fields=['user', 'viewer'])]
    """
    tokens = lex(text)
    found: list[Operation] = []
    at, size = 0, len(tokens)
    while at < size:
        word = tokens[at]
        if word == STRING:  # a description
            at += 1
        elif word == "fragment":
            at = selected(tokens, at)
        elif word in TYPES or word == "{":
            one = Operation(word if word in TYPES else "query")
            at = head(tokens, at, one) if word != "{" else at
            at = selection(tokens, at, one)
            if len(found) < OPERATIONS:
                found.append(one)
        else:
            raise NotGraphQL(word)
    if not found:
        raise NotGraphQL("no operation")
    return found


def lex(text: str) -> list[str]:
    """Names and punctuation; a string is one quote, a number is 0."""
    tokens: list[str] = []
    at = _end(text, 0)
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise NotGraphQL(text[at])
        string, name, sign = found.groups()
        tokens.append(name or sign or (STRING if string else NUMBER))
        at = _end(text, found.end())
    return tokens


def _end(text: str, at: int) -> int:
    """The offset after white space, commas and comments."""
    found = _IGNORED.match(text, at)
    return found.end() if found else at


def token(tokens: list[str], at: int) -> str:
    """The token at an offset; `NotGraphQL` beyond the end."""
    if at >= len(tokens):
        raise NotGraphQL("the end")
    return tokens[at]


def is_name(word: str) -> bool:
    return word[0].isalpha() or word[0] == "_"


def head(tokens: list[str], at: int, one: Operation) -> int:
    """Name, variables and directives: the offset of the selection after them."""
    at += 1
    if is_name(token(tokens, at)):
        one.name = tokens[at]
        at += 1
    if token(tokens, at) == "(":
        at = balanced(tokens, at)
    return directives(tokens, at)


def directives(tokens: list[str], at: int) -> int:
    while at < len(tokens) and tokens[at] == "@":
        if not is_name(token(tokens, at + 1)):
            raise NotGraphQL("a directive without a name")
        at += 2
        if at < len(tokens) and tokens[at] == "(":
            at = balanced(tokens, at)
    return at


def selected(tokens: list[str], at: int) -> int:
    """A fragment: the offset after it."""
    if not (is_name(token(tokens, at + 1)) and token(tokens, at + 1) != "on"):
        raise NotGraphQL("a fragment without a name")
    at += 2
    if token(tokens, at) == "(":  # variables of fragments, which some servers know
        at = balanced(tokens, at)
    if token(tokens, at) != "on" or not is_name(token(tokens, at + 1)):
        raise NotGraphQL("a fragment of nothing")
    at = directives(tokens, at + 2)
    if token(tokens, at) != "{":
        raise NotGraphQL("a fragment without a selection")
    return balanced(tokens, at)


def selection(tokens: list[str], at: int, one: Operation) -> int:
    """The fields at the top, also those within fragments that are written there: the offset after them."""
    if token(tokens, at) != "{":
        raise NotGraphQL("no selection")
    depth = 1
    at += 1
    while depth:
        word = token(tokens, at)
        if word == "}":
            depth -= 1
            at += 1
        elif word == "...":
            at, inner = spread(tokens, at + 1, one)
            depth += inner
        elif is_name(word):
            at = field(tokens, at, one)
        else:
            raise NotGraphQL(word)
    return at


def spread(tokens: list[str], at: int, one: Operation) -> tuple[int, int]:
    """What follows three dots: the offset after it, and whether a selection begins there."""
    word = token(tokens, at)
    if is_name(word) and word != "on":
        add(one, f"...{word}")
        return directives(tokens, at + 1), 0
    if word == "on":
        if not is_name(token(tokens, at + 1)):
            raise NotGraphQL("a fragment of nothing")
        at += 2
    at = directives(tokens, at)
    if token(tokens, at) != "{":
        raise NotGraphQL("a fragment without a selection")
    return at + 1, 1


def field(tokens: list[str], at: int, one: Operation) -> int:
    """A field with what belongs to it: the offset after it."""
    name = tokens[at]
    at += 1
    if token(tokens, at) == ":":
        name = token(tokens, at + 1)
        if not is_name(name):
            raise NotGraphQL("an alias of nothing")
        at += 2
    add(one, name)
    if token(tokens, at) == "(":
        at = balanced(tokens, at)
    at = directives(tokens, at)
    return balanced(tokens, at) if token(tokens, at) == "{" else at


def add(one: Operation, name: str) -> None:
    if len(one.fields) < FIELDS:
        one.fields.append(name)


def balanced(tokens: list[str], at: int) -> int:
    """The offset after the bracket that closes the one here."""
    depth = 0
    while True:
        word = token(tokens, at)
        at += 1
        if word in _OPENS:
            depth += 1
        elif word in _CLOSES:
            depth -= 1
            if not depth:
                return at
