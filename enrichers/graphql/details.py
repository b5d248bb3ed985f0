"""What the enricher says of an exchange of GraphQL."""

from __future__ import annotations

from typing import Annotated, Final

from kshark.api import Details, Redact, doc

NOTES: Final[dict[str, str]] = {
    "request-cut": "the request's body is not whole: what is said of it are its whole members",
    "response-cut": "the response's body is not whole: where no error is seen there may be one",
    "no-document": "what was sent to GraphQL as query is none that can be read: which operation is not known",
    "ambiguous": "several operations, and no operationName: which of them ran is not said",
}


class GraphQL(Details):
    """An operation of GraphQL that HTTP or WebSocket carries, and its errors."""

    type: Annotated[
        str | None, doc("query, mutation or subscription", otel="graphql.operation.type")
    ] = None
    name: Annotated[str | None, doc("Name of the operation", otel="graphql.operation.name")] = None
    fields: Annotated[
        list[str], doc("Fields of the result that are asked for, without aliases")
    ] = []
    persisted: Annotated[
        str | None, doc("Hash of a persisted query that was sent without text")
    ] = None
    variables: Annotated[str, doc("Variables, as JSON", redact=Redact.BODY)] = ""
    batch: Annotated[int, doc("Operations of the request; of several this tells of the first")] = 1
    operations: Annotated[list[str], doc("Of a batch, type and name of each")] = []
    message: Annotated[str | None, doc("Over WebSocket: subscribe, next, error, complete ...")] = (
        None
    )
    id: Annotated[str | None, doc("Over WebSocket: the subscription that it belongs to")] = None
    errors: Annotated[int | None, doc("Errors of the response; null = not known")] = None
    error: Annotated[str | None, doc("Text of the first error", redact=Redact.BODY)] = None
    codes: Annotated[list[str], doc("Their codes (extensions.code), each once")] = []
    partial: Annotated[bool, doc("There is data beside the errors")] = False
    notes: Annotated[list[str], doc("What is not whole or not certain, by name")] = []
