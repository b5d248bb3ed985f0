"""Calls of large language models over HTTP: which model, how many tokens, streamed or not.

An enricher: it looks at HTTP exchanges with the paths of the usual APIs (OpenAI's, which many servers speak,
Anthropic's, Ollama's, Gemini's) and adds an object `genai` to them. Texts of prompts and answers are not kept.
Bodies are capped by kshark (64 KiB): of a longer answer the usage, which comes last, is not known.
"""

import re
from typing import Annotated

import msgspec

from kshark.api import Details, EnricherSpec, doc, hookimpl

PATHS = re.compile(
    r"/(chat/completions|completions|responses|embeddings|messages|api/chat|api/generate)/?(\?|$)"
    r"|:(generateContent|streamGenerateContent)"
)
SYSTEMS = (("/v1/messages", "anthropic"), ("/api/", "ollama"), (":", "gemini"))
WRAPPERS = ("usage", "usageMetadata", "message", "response", "delta")
FINISH = ("finish_reason", "stop_reason", "done_reason", "finishReason")
ASKED = ("prompt_tokens", "input_tokens", "prompt_eval_count", "promptTokenCount")
GIVEN = ("completion_tokens", "output_tokens", "eval_count", "candidatesTokenCount")


class GenAI(Details):
    system: Annotated[str, doc("Whose API it is", otel="gen_ai.system")] = "openai"
    operation: Annotated[str, doc("Last part of the path", otel="gen_ai.operation.name")] = ""
    model: Annotated[str | None, doc("Model, as asked for", otel="gen_ai.request.model")] = None
    answered_by: Annotated[str | None, doc("Model, as answered", otel="gen_ai.response.model")] = None
    stream: Annotated[bool, doc("The answer comes piece by piece")] = False
    messages: Annotated[int, doc("Messages of the conversation so far")] = 0
    max_tokens: Annotated[int | None, doc("Limit of the answer", otel="gen_ai.request.max_tokens")] = None
    input_tokens: Annotated[int | None, doc("Tokens asked", otel="gen_ai.usage.input_tokens")] = None
    output_tokens: Annotated[int | None, doc("Tokens answered", otel="gen_ai.usage.output_tokens")] = None
    finish: Annotated[str | None, doc("Why it ended", otel="gen_ai.response.finish_reasons")] = None


def json(text):
    """An object, or an empty one: bodies may be cut."""
    try:
        return of(dict, msgspec.json.decode(text)) or {}
    except (msgspec.DecodeError, RecursionError):
        return {}


def chunks(body):
    """The objects of an answer: one, or those of a stream (server-sent events, JSON lines)."""
    lines = (line.removeprefix("data:").strip() for line in body.splitlines())
    return [whole] if (whole := json(body)) else [found for line in lines if (found := json(line))]


def within(found, *names):
    """The first of these members, of the object or of those that APIs wrap it in."""
    places = [found, *(of(dict, found.get(k)) or {} for k in WRAPPERS)]
    places += [of(dict, place.get("usage")) or {} for place in places[1:]]
    return next((p[name] for p in places for name in names if p.get(name) is not None), None)


def of(kind, value):
    return value if isinstance(value, kind) else None


def ask(details, path):
    body = json(details.body)
    return GenAI(
        system=next((name for part, name in SYSTEMS if part in path), "openai"),
        operation=re.split("[/:]", path.partition("?")[0])[-1],
        model=of(str, body.get("model")) or next(iter(re.findall(r"models/([^:/]+):", path)), None),
        stream=body.get("stream") is True or "streamGenerate" in path,
        messages=len(of(list, body.get("messages") or body.get("input") or body.get("contents")) or ()),
        max_tokens=of(int, within(body, "max_tokens", "max_completion_tokens")),
    )


def answer(found, body):
    for part in chunks(body):
        first = (of(list, part.get("choices") or part.get("candidates")) or [part])[0]
        ended = within(of(dict, first) or part, *FINISH)
        found.answered_by = of(str, within(part, "model", "modelVersion")) or found.answered_by
        found.finish = of(str, ended) or found.finish
        found.input_tokens = of(int, within(part, *ASKED)) or found.input_tokens
        found.output_tokens = of(int, within(part, *GIVEN)) or found.output_tokens


class Enricher:
    def __init__(self, options, context):
        self.context = context

    def enrich(self, batch):
        for entry in batch:
            asked = entry.request
            if entry.protocol == "http" and asked and asked.verb == "POST" and PATHS.search(asked.target):
                found = ask(self.context.details(asked, "http"), asked.target)
                if entry.response is not None:
                    answer(found, self.context.details(entry.response, "http").body)
                entry.extra = {**(entry.extra or {}), "genai": found}
        return batch


@hookimpl
def register_enrichers():
    return [EnricherSpec(name="genai", make=Enricher, doc="LLM calls", adds={"genai": GenAI}, protocols=("http",))]
