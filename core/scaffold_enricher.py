"""The files of a new enricher: what ``kshark new-plugin --enricher`` writes; see `kshark.scaffold`."""

from __future__ import annotations

from typing import Final

README: Final = """\
# kshark-@NAME@

What @NAME@ says in the messages of HTTP, for [kshark](https://pypi.org/project/kshark/): an enricher.

```sh
pip install .
kshark plugins                                  # is it there?
kshark run --filter @FIELD@
```

## Work on it

```sh
pip install -e '.[test]'
pytest
kshark run --plugin @MODULE@.py --read capture.pcap --sink jsonl:-,full
```
"""

MODULE: Final = '''\
"""@NAME@: an enricher of HTTP exchanges whose request has a mark of it."""

import json
from typing import Annotated

from kshark.api import Details, EnricherSpec, Outcome, Redact, doc, hookimpl


class @CLASS@(Details):
    """A call of @NAME@."""

    operation: Annotated[str, doc("What is asked")] = ""
    body: Annotated[str, doc("The request, as JSON", redact=Redact.BODY)] = ""
    error: Annotated[str | None, doc("Why it failed, whatever the status says")] = None


class Enricher:
    def __init__(self, options, context):
        self.context = context

    def enrich(self, batch):
        for entry in batch:
            asked = read(self.text(entry, entry.request))
            if isinstance(asked.get("@NAME@"), str):
                self.tell(entry, @CLASS@(operation=asked["@NAME@"], body=json.dumps(asked)))
        return batch

    def tell(self, entry, found):
        if entry.response is not None:
            error = read(self.text(entry, entry.response)).get("error")
            found.error = error if isinstance(error, str) else None
        if found.error is not None:
            entry.response.ok, entry.response.target = False, found.error  # the row shows why
            entry.outcome = Outcome.ERROR
        entry.request.target = f"{entry.request.target.partition('?')[0]} {found.operation}"
        entry.extra = {**(entry.extra or {}), "@NAME@": found}

    def text(self, entry, message):
        """A body: unpacked, decoded, redacted."""
        return self.context.details(message, entry.protocol).body


def read(text):
    """An object of JSON, or an empty one: a body may be cut, or anything."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


SPEC = EnricherSpec(
    name="@NAME@",
    doc="@NAME@ over HTTP",
    make=Enricher,
    adds={"@NAME@": @CLASS@},
    protocols=("http", "http2"),
    marks=(b\'"@NAME@"\',),  # of their requests, those that have this in the body
)


@hookimpl
def register_enrichers():
    return [SPEC]
'''

TESTS: Final = '''\
"""An exchange that is meant, one that failed, and others that are left alone."""

import json

import pytest
from kshark.api import Side
from kshark.testing import converse, rows
from kshark.testing.context import context, protocol
from @MODULE@ import @CLASS@, SPEC

HTTP = protocol("http")


def exchange(asked, answered):
    kind = "Content-Type: application/json\\r\\n"
    talk = [
        (side, f"{first}\\r\\n{kind}Content-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
        for side, first, body in (
            (Side.CLIENT, "POST /api HTTP/1.1", asked),
            (Side.SERVER, "HTTP/1.1 200 OK", answered),
        )
    ]
    [entry] = SPEC.make(None, context(HTTP)).enrich(converse(HTTP, talk))
    return entry


def test_a_call():
    entry = exchange(json.dumps({"@NAME@": "list"}), "{}")
    assert rows([entry]) == ["POST /api list -> 200 [ok]"]
    assert entry.extra["@NAME@"].operation == "list"


def test_a_failure():
    entry = exchange(json.dumps({"@NAME@": "list"}), json.dumps({"error": "no"}))
    assert rows([entry]) == ["POST /api list -> 200 no [error]"]
    assert isinstance(entry.extra["@NAME@"], @CLASS@)


@pytest.mark.parametrize("body", ["{}", "[]", "", "\\0", '{"@NAME@": 5}', '{"@NAME@": "li', "[" * 5_000])
def test_others_are_left_alone(body):
    assert exchange(body, body).extra is None
'''
