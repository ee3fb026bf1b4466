"""Calls: one record of a log of LLM calls, in whichever form, as what was asked, what was answered and what it took.

Forms are told by what stands in a record and not by who wrote it: a request with ``messages`` (or a Responses API's
``input``), a reply with ``choices`` (or ``output``, or Anthropic's ``content``), and around them the envelopes of
OpenAI's and Anthropic's batches, of LiteLLM, Langfuse and of OpenInference spans, as Phoenix exports them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hybrid.data import foreign
from hybrid.data.said import label_probability

Record = Mapping[str, Any]

BATCH, LITELLM, LANGFUSE, PHOENIX, PLAIN = (
    "an OpenAI or Anthropic batch",
    "LiteLLM",
    "Langfuse",
    "Phoenix (OpenInference)",
    "chat completions",
)
FAILED, REFUSED, CUT_OFF = "failed", "refused", "cut off"

_REQUESTS = ("request", "request_body", "requestBody", "body", "params", "proxy_server_request", "kwargs", "input")
_REPLIES = ("response", "response_body", "responseBody", "response_obj", "result", "completion", "output")
_COSTS = ("response_cost", "spend", "totalCost", "total_cost", "calculatedTotalCost", "calculated_total_cost", "cost")
_MODELS = ("model", "providedModelName", "provided_model_name", "model_name", "modelName", "model_group")
_IDS = ("custom_id", "request_id", "litellm_call_id", "id", "span_id", "context.span_id")
_SESSIONS = ("sessionId", "session_id", "session.id", "end_user")
_SECONDS = ("response_time", "latency", "duration")
_MILLISECONDS = ("latency_ms", "request_duration_ms", "total_latency_ms", "duration_ms")
_STARTS = ("startTime", "start_time", "created", "created_at", "createdAt", "timestamp")
_ENDS = ("endTime", "end_time")
_ROLES = ("user", "human")
MOST = 1e9  # USD, seconds or milliseconds of a call
_HINTS = {"messages", "choices", "custom_id", "attributes", "usageDetails", "usage_details", "response", "output"}
_CALL_TYPES = ("completion", "acompletion", "chat_completion", "responses", "aresponses", "text_completion")


@dataclass(frozen=True, slots=True)
class Call:
    """What a record of a log says of one call; None, or empty words, of what it does not say.

    Parameters
    ----------
    form
        Who wrote it, in words.
    id
        As the log names it.
    text
        The last message of the user's.
    instructions
        What was said to the model before that.
    allowed
        The labels that the request's schema allows.
    answer
        The model's words.
    problem
        Why there is no answer to be had: `FAILED`, `REFUSED` or `CUT_OFF`; empty where there may be one.
    cost
        USD.
    latency, time
        Seconds that it took, and since 1970.
    sure
        Probability of the label, of its tokens.
    session
        What it belongs to: a conversation, an end user.
    """

    form: str
    id: str = ""
    text: str | None = None
    instructions: str = ""
    allowed: tuple[str, ...] = ()
    answer: str | None = None
    problem: str = ""
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    latency: float | None = None
    time: float | None = None
    sure: float | None = None
    session: str = ""


def may_be_call(names: Mapping[str, Any] | list[str]) -> bool:
    """Whether a record with these names is worth a look."""
    return any(n in _HINTS or n.startswith(("attributes.", "llm.")) for n in names)


def call_of(record: Record) -> Call | None:
    """Return the call that a record is of; None where it is of none: another kind of span, an embedding, a table's row.

    Examples
    --------
    >>> messages = [{"role": "system", "content": "Sort."}, {"role": "user", "content": "Hi"}]
    >>> asked = {"model": "gpt-x", "messages": messages}
    >>> said = {"choices": [{"message": {"role": "assistant", "content": "greeting"}}], "usage": {"prompt_tokens": 9}}
    >>> found = call_of({**asked, **said})
    >>> found.text, found.instructions, found.answer, found.model, found.prompt_tokens
    ('Hi', 'Sort.', 'greeting', 'gpt-x', 9)
    >>> call_of({"text": "where is my parcel", "label": "shipping"}) is None
    True
    """
    if isinstance(record.get("standard_logging_object"), Mapping):
        record = record["standard_logging_object"]
    if not may_be_call(record):
        return None
    record = {k: _opened(v) for k, v in record.items()}
    spans = _tree(record)
    if "llm" in spans:
        return _of_span(record, spans)
    if "openinference" in spans or (isinstance(record.get("attributes"), Mapping) and "span_kind" in record):
        return None  # of a chain, a tool, a retriever
    form = _form(record)
    if _is_aside(record, form):
        return None
    asked, said = _asked(record, form), _said(record, form)
    if asked is None and said is None:
        return None
    about = {**(said or {}), **{k: v for k, v in _about(record).items() if v is not None}}
    return _call(form, {**(asked or {}), **about})


def _call(form: str, told: Record) -> Call:
    """Return a call whose words can be encoded: half an emoji in one of them costs no other record."""
    words = {k: foreign.encodable(v) for k, v in told.items() if isinstance(v, str)}
    allowed = tuple(map(foreign.encodable, told.get("allowed", ())))
    return Call(form, **{**told, **words, "allowed": allowed})


def _form(record: Record) -> str:
    if "custom_id" in record:
        return BATCH
    if "response_cost" in record or ("spend" in record and "call_type" in record) or "litellm_call_id" in record:
        return LITELLM
    tells = ("traceId", "trace_id", "usageDetails", "usage_details", "providedModelName", "provided_model_name")
    if "input" in record and "output" in record and any(t in record for t in tells):
        return LANGFUSE
    return PLAIN


def _is_aside(record: Record, form: str) -> bool:
    """Whether a record of a tracer is of something else than a call."""
    kind = str(record.get("type", "")).upper()
    if form == LANGFUSE and kind and kind not in ("GENERATION", "OBSERVATION"):
        return True
    said = record.get("call_type")
    return form == LITELLM and isinstance(said, str) and bool(said) and said not in _CALL_TYPES


def _opened(value: Any) -> Any:
    """Return what a cell of a spreadsheet holds where that is JSON, as exports write it; else the cell."""
    if isinstance(value, str) and value[:1] in ("{", "[") and value.rstrip()[-1:] in ("}", "]"):
        try:
            return foreign.parse(value)
        except ValueError:
            return value
    return value


def _asked(record: Record, form: str) -> dict[str, Any] | None:
    """Return the text, the instructions and the labels that a schema allows, from where a record holds a request."""
    places = [record, *(_body(record[k]) for k in _REQUESTS if k in record)]
    for place in places:
        if isinstance(place, str) and form == LANGFUSE and place.strip():
            return {"text": place, "instructions": "", "allowed": ()}
        found = _question(place, is_input=place is not record and form == LANGFUSE)
        if found is not None:
            rules = [_allowed(p) for p in places if isinstance(p, Mapping)]
            model_parameters = record.get("model_parameters") or record.get("modelParameters")
            rules.append(_allowed(model_parameters) if isinstance(model_parameters, Mapping) else ())
            model = next((str(p["model"]) for p in places if isinstance(p, Mapping) and p.get("model")), "")
            return {**found, "allowed": next(filter(None, rules), ()), "model": model}
    return None


def _body(value: Any) -> Any:
    """Return what an HTTP envelope holds."""
    if isinstance(value, Mapping) and isinstance(value.get("body"), Mapping | str):
        return _opened(value["body"])
    return value


def _question(place: Any, *, is_input: bool = False) -> dict[str, Any] | None:
    """Return the last message of a user and what stands before it."""
    before = ""
    messages = place if isinstance(place, list) else None
    if isinstance(place, Mapping):
        messages = place.get("messages")
        if not _are_messages(messages):
            messages = place.get("input") if place.get("model") or is_input else None
            if isinstance(messages, str):
                return {"text": messages, "instructions": str(place.get("instructions") or "")}
        before = _words(place.get("system") or place.get("instructions")) or ""
    if not _are_messages(messages):
        return None
    assert isinstance(messages, list)
    asked = [m for m in messages if isinstance(m, Mapping)]
    last = max((i for i, m in enumerate(asked) if str(m.get("role")).lower() in _ROLES), default=None)
    if last is None:
        return None
    said = [_words(m.get("content")) or "" for m in asked[:last]]
    return {"text": _words(asked[last].get("content")) or "", "instructions": "\n".join(filter(None, [before, *said]))}


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) and "role" in m for m in value)


def _words(content: Any) -> str | None:
    """Return a message's words; pictures and the like are passed over."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [p if isinstance(p, str) else p.get("text") for p in content if isinstance(p, str | Mapping)]
        return "\n".join(p for p in parts if isinstance(p, str)) or None
    return None


def _allowed(request: Record) -> tuple[str, ...]:
    """Return the labels of the one list of names that the schemas of a request allow; none where there are several."""
    schemas = [request.get(k) for k in ("response_format", "tools", "functions", "text", "output_config")]
    found = {names for schema in schemas for names in _enums(schema)}
    return found.pop() if len(found) == 1 else ()


def _enums(schema: Any, depth: int = 12) -> Iterator[tuple[str, ...]]:
    if isinstance(schema, Mapping) and depth:
        names = schema.get("enum")
        if isinstance(names, list) and len(names) > 1 and all(isinstance(n, str) for n in names):
            yield tuple(names)
        for value in schema.values():
            yield from _enums(value, depth - 1)
    elif isinstance(schema, list) and depth:
        for value in schema:
            yield from _enums(value, depth - 1)


def _said(record: Record, form: str) -> dict[str, Any] | None:
    """Return the answer and what the reply says of itself, from where a record holds a reply."""
    error = record.get("error") or (record.get("response") if _status(record.get("response")) >= 400 else None)
    if error:
        return {"answer": None, "problem": FAILED}
    messages = record.get("messages")
    for place in [record, *(record[k] for k in _REPLIES if k in record)]:
        place = _body(place)
        if isinstance(place, Mapping) and isinstance(place.get("message"), Mapping) and "choices" not in place:
            place = place["message"]  # Anthropic's batch
        if isinstance(place, Mapping) and str(place.get("type")) in ("errored", "canceled", "expired"):
            return {"answer": None, "problem": FAILED}
        found = _reply(place, whole=place is record)
        if found is not None:
            return found
        if isinstance(place, str) and place.strip() and form in (LANGFUSE, LITELLM):
            return {"answer": place}
        if form == LANGFUSE and isinstance(place, Mapping) and place is not record and place:
            return {"answer": json.dumps(place, ensure_ascii=False)}  # a structured answer, as it is kept
    if _are_messages(messages) and isinstance(messages, list) and messages[-1].get("role") == "assistant":
        return _message(messages[-1])
    failed = str(record.get("status") or record.get("level") or "").lower() in ("failure", "error")
    return {"answer": None, "problem": FAILED} if failed else None


def _status(response: Any) -> int:
    code = response.get("status_code") if isinstance(response, Mapping) else None
    return code if isinstance(code, int) else 0


def _reply(place: Any, *, whole: bool) -> dict[str, Any] | None:
    """Return what a chat completion, a response, an Anthropic message or a single message says."""
    if isinstance(place, list) and _are_messages(place):
        place = place[-1]
    if not isinstance(place, Mapping):
        return None
    about: dict[str, Any] = {**_usage(place.get("usage")), "time": _time(place.get("created", place.get("created_at")))}
    about |= {"model": str(place.get("model") or ""), "id": str(place.get("id") or "")}
    about = {k: v for k, v in about.items() if v not in (None, "")}
    choices = place.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        choice = choices[0]
        message = choice.get("message")
        said = _message(message) if isinstance(message, Mapping) else {"answer": choice.get("text")}
        ended = choice.get("finish_reason")
        problem = {"length": CUT_OFF, "content_filter": REFUSED}.get(str(ended), said.get("problem", ""))
        problem = problem or ("" if said.get("answer") else FAILED)
        return {**about, **said, "problem": problem, "sure": _sure(said.get("answer"), choice.get("logprobs"))}
    if isinstance(place.get("output"), list) and not whole:
        parts = [_message(p) for p in place["output"] if isinstance(p, Mapping) and p.get("type") == "message"]
        return {**about, **parts[-1]} if parts else None
    if not whole and ("content" in place or "tool_calls" in place) and place.get("role", "assistant") == "assistant":
        ended = {"max_tokens": CUT_OFF, "refusal": REFUSED}.get(str(place.get("stop_reason")), "")
        said = _message(place)
        return {**about, **said, "problem": ended or said.get("problem", "")}
    return None


def _message(message: Record) -> dict[str, Any]:
    """Return the words of a message, or the arguments of the tool that it calls."""
    calls = message.get("tool_calls") or []
    functions = [c.get("function") for c in calls if isinstance(c, Mapping)] if isinstance(calls, list) else []
    functions.append(message.get("function_call"))
    for function in functions:
        if isinstance(function, Mapping) and function.get("arguments"):
            given = function["arguments"]
            return {"answer": given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)}
    content = message.get("content")
    if isinstance(content, list):
        used = [p.get("input") for p in content if isinstance(p, Mapping) and p.get("type") == "tool_use"]
        if used:
            return {"answer": json.dumps(used[0], ensure_ascii=False)}
    if isinstance(content, Mapping):
        return {"answer": json.dumps(content, ensure_ascii=False)}
    words = _words(content)
    return {"answer": words, "problem": REFUSED if message.get("refusal") and not words else ""}


def _sure(answer: Any, logprobs: Any) -> float | None:
    """Return the probability of the label's tokens; None where they are not there."""
    entries = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(answer, str) or not isinstance(entries, list):
        return None
    try:
        tokens = [(str(e["token"]).encode(), float(e["logprob"])) for e in entries]
    except (TypeError, KeyError, ValueError, OverflowError):
        return None
    return label_probability(answer, tokens)


def _usage(usage: Any) -> dict[str, int | None]:
    if not isinstance(usage, Mapping):
        return {}
    prompt = (usage.get(k) for k in ("prompt_tokens", "input_tokens", "input", "promptTokens", "inputTokens"))
    reply = (usage.get(k) for k in ("completion_tokens", "output_tokens", "output", "completionTokens"))
    return {"prompt_tokens": _first_count(prompt), "completion_tokens": _first_count(reply)}


def _first_count(values: Iterator[Any]) -> int | None:
    return next((n for v in values if (n := foreign.count(_number(v))) is not None), None)


def _number(value: Any) -> float | None:
    """Return a finite number, which a spreadsheet may hold as text; None of anything else."""
    if isinstance(value, bool) or value is None or value == "":
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _bounded(value: Any) -> float | None:
    """Return a cost or a duration; None of what cannot be one."""
    found = _number(value)
    return found if found is not None and 0 <= found <= MOST else None


def _about(record: Record) -> dict[str, Any]:
    """Return what the envelope says: who was asked, when, how long it took, what it cost."""
    usages = (record.get(k) for k in ("usage", "usageDetails", "usage_details"))
    told: dict[str, int | None] = next((u for u in map(_usage, usages) if any(v is not None for v in u.values())), {})
    own = _usage(record)
    details = record.get("costDetails") or record.get("cost_details")
    costs = [record.get(k) for k in _COSTS] + ([details.get("total")] if isinstance(details, Mapping) else [])
    cost = next((c for v in costs if (c := _bounded(v)) is not None), None)
    start, end = (_time(next((record[k] for k in names if record.get(k)), None)) for names in (_STARTS, _ENDS))
    return {
        "id": next((str(record[k]) for k in _IDS if record.get(k) not in (None, "")), None),
        "model": next((str(record[k]) for k in _MODELS if isinstance(record.get(k), str) and record[k]), None),
        "prompt_tokens": told.get("prompt_tokens") or own.get("prompt_tokens"),
        "completion_tokens": told.get("completion_tokens") or own.get("completion_tokens"),
        "cost": cost,
        "latency": _latency(record, start, end),
        "time": start,
        "session": next((str(record[k]) for k in _SESSIONS if record.get(k) not in (None, "")), None),
    }


def _latency(record: Record, start: float | None, end: float | None) -> float | None:
    for names, unit in ((_MILLISECONDS, 1e-3), (_SECONDS, 1.0)):
        for name in names:
            found = _bounded(record.get(name))
            if found is not None:
                return found * unit
    return end - start if start is not None and end is not None and end >= start else None


def _time(value: Any) -> float | None:
    """Return seconds since 1970 of a number, of seconds, milli- or nanoseconds, or of a date as ISO 8601 writes it."""
    number = _number(value)
    if number is not None:
        return next((number / unit for unit in (1.0, 1e3, 1e6, 1e9) if 0 < number / unit < 1e11), None)
    try:
        found = datetime.fromisoformat(str(value).replace(" UTC", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _of_span(record: Record, spans: Record) -> Call | None:
    """Return the call of an OpenInference span; None of a span that is no LLM's."""
    llm = spans["llm"]
    kind = str(record.get("span_kind") or _at(spans, "openinference", "span", "kind") or "LLM").upper()
    if not isinstance(llm, Mapping) or kind != "LLM":
        return None
    asked, said = _messages_of(llm.get("input_messages")), _messages_of(llm.get("output_messages"))
    question = _question(asked)
    reply = _message(said[-1]) if said else None
    if question is None and reply is None:
        return None
    rules = _opened(llm.get("invocation_parameters"))
    failed = str(record.get("status_code", "")).upper() == "ERROR"
    cost = llm.get("cost")
    about = {k: v for k, v in _about(record).items() if v is not None}
    context = record.get("context")
    if isinstance(context, Mapping) and context.get("span_id"):
        about["id"] = str(context["span_id"])
    told = {
        "model": str(llm.get("model_name") or ""),
        "prompt_tokens": foreign.count(_number(_at(llm, "token_count", "prompt"))),
        "completion_tokens": foreign.count(_number(_at(llm, "token_count", "completion"))),
        "cost": _bounded(cost.get("total")) if isinstance(cost, Mapping) else None,
        "session": str(_at(spans, "session", "id") or ""),
    }
    said_so = {k: v for k, v in told.items() if v not in (None, "")}
    answer = {"answer": None, "problem": FAILED} if failed else reply or {}
    allowed = _allowed(rules) if isinstance(rules, Mapping) else ()
    return _call(PHOENIX, {**(question or {}), **about, **said_so, **answer, "allowed": allowed})


def _messages_of(value: Any) -> list[dict[str, Any]]:
    """Return messages, whose names OpenInference writes as ``message.role``, or within a ``message``."""
    found = []
    for item in value if isinstance(value, list) else []:
        if isinstance(item, Mapping):
            nested = _nested(item)
            inner = nested.get("message", nested)
            found.append(dict(inner) if isinstance(inner, Mapping) else {})
    return [
        {**m, "content": m.get("content") or [_nested(c).get("message_content", c) for c in m.get("contents") or []]}
        for m in found
        if "role" in m
    ]


def _tree(record: Record) -> dict[str, Any]:
    """Return a span's attributes as a tree, whether they are nested, or names with dots, under a name or alone."""
    attributes = record.get("attributes")
    flat = dict(attributes) if isinstance(attributes, Mapping) else {}
    for name, value in record.items():
        if name.startswith(("attributes.", "llm.", "openinference.")) and value not in (None, ""):
            flat[name.removeprefix("attributes.")] = value
    return _nested(flat)


def _nested(flat: Record) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = str(name).split(".")
        if len(path) > foreign.DEEPEST:
            continue
        at = tree
        for part in path:
            inner = at.get(part)
            at[part] = at = inner if isinstance(inner, dict) else {}
        value = _opened(value)
        at[last] = (
            {**at.get(last, {}), **value} if isinstance(value, dict) and isinstance(at.get(last), dict) else value
        )
    return {k: _lists(v) for k, v in tree.items()}


def _lists(value: Any) -> Any:
    """Return a tree with lists where the names are numbers."""
    if not isinstance(value, dict):
        return value
    if value and all(k.isdecimal() and len(k) < 10 for k in value):
        return [_lists(value[k]) for k in sorted(value, key=int)]
    return {k: _lists(v) for k, v in value.items()}


def _at(tree: Any, *path: str) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree
