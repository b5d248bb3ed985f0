"""Documents against graphql-core: the same operations and fields, and nothing taken for GraphQL that it refuses."""

from __future__ import annotations

import pytest
from graphql import GraphQLSyntaxError, parse
from graphql.language import ast
from hypothesis import given, settings
from hypothesis import strategies as st

from kshark.enrichers.graphql.document import NotGraphQL, Operation, operations

Told = list[tuple[str, str, list[str]]]

DOCUMENTS = [
    "{ a }",
    "query Q { a }",
    "mutation M($a: [Int!]! = [1, 2] @d, $b: In = {x: {y: \"}\"}}) @live(if: true) { a(x: $a) { b } c @skip(if: $b) }",
    "subscription { tick(every: 1.5e3) }",
    "# a comment { }\nquery Q { # another }\n a, b, c }",
    'query Q { a(text: "a \\" } quote", block: """ a "block" } \\""" end""") { b } }',
    "{ ... on Query { a ... { b c: d } } ...F e } fragment F on Query { g { h } }",
    "query A { a } mutation B { b } subscription C { c }",
    "query query { query mutation fragment on }",
    "\ufeffquery Q { alias: field(a: {b: [$c, ENUM, null, -1]}) }",
    "query Q { a } fragment on2 on T { x }",
    "{ __typename __schema { types { name } } }",
    "{ ...on ... }",
    "query Q($a: Int) { a } extra",
    "type T { a: Int }",
    "{ }",
    "{ a",
    "{ a } }",
    "query Q",
    "query { a: }",
    "{ a(b: 1 }",
    "{app=\"shop\"}",
    "{ 5 }",
    "SELECT 1",
    "up",
    "sum(rate(x[1m]))",
    "",
    "fragment F on T { a }",
    "{ a @ }",
    "{ \"a\" }",
    "{ a ... }",
]  # fmt: skip


def top(selections: tuple[ast.SelectionNode, ...]) -> list[str]:
    """Fields at the top, also within fragments that are written there."""
    found = []
    for one in selections:
        if isinstance(one, ast.FieldNode):
            found.append(one.name.value)
        elif isinstance(one, ast.FragmentSpreadNode):
            found.append(f"...{one.name.value}")
        elif isinstance(one, ast.InlineFragmentNode):
            found += top(tuple(one.selection_set.selections))
    return found


def oracle(text: str) -> Told | None:
    try:
        document = parse(text, no_location=True)
    except GraphQLSyntaxError:
        return None
    return [
        (one.operation.value, one.name.value if one.name else "", top(tuple(one.selection_set.selections))[:32])
        for one in document.definitions
        if isinstance(one, ast.OperationDefinitionNode)
    ]  # fmt: skip


def ours(text: str) -> Told | None:
    try:
        return [(one.type, one.name, one.fields) for one in operations(text)]
    except NotGraphQL:
        return None


@pytest.mark.parametrize("text", DOCUMENTS)
def test_documents(text: str) -> None:
    assert (ours(text) or None) == (oracle(text) or None)


TOKENS = st.sampled_from(
    ["{", "}", "(", ")", "...", "on", "query", "mutation", "fragment", "a", "b", ":", "@", "$", '"x"',
     '"""y"""', "1", ",", "#c\n", "!", "[", "]", "=", "|", "&"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(TOKENS, max_size=14).map(" ".join))
def test_what_graphql_core_takes_is_read_alike(text: str) -> None:
    """Ours takes more (below the top it counts brackets), never less, and then says the same."""
    theirs = oracle(text)
    if theirs:
        assert ours(text) == theirs


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(DOCUMENTS), st.data())
def test_cut_documents(text: str, data: st.DataObject) -> None:
    cut = text[: data.draw(st.integers(0, len(text)))]
    theirs = oracle(cut)
    if theirs:
        assert ours(cut) == theirs
    else:
        ours(cut)


@pytest.mark.parametrize(
    "text",
    ["{" * 50_000, "{ a(" * 20_000, '"' * 60_000, '"""' + '\\"""' * 15_000, " ," * 30_000, "# #," * 20_000,
     "{ ... " * 10_000, "query " * 10_000, "{ a " + "@d(x: 1) " * 8_000],
)  # fmt: skip
def test_hostile_documents(text: str) -> None:
    assert ours(text) is None


def test_an_operation_is_plain() -> None:
    assert operations("{ a }") == [Operation("query", "", ["a"])]
