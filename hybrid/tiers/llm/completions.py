"""Completions: the body of a chat completion, in every form that servers give it → a reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hybrid.data import foreign
from hybrid.data.said import label_probability, without_thoughts
from hybrid.tiers.llm.questions import guess_tokens
from hybrid.tiers.llm.replies import OK, Reply

FILTERED = (  # as finish reasons; the last six are other servers' words for the first
    "content_filter", "safety", "prohibited_content", "blocklist", "spii", "recitation", "sensitive", "refusal",
)  # fmt: skip
LONGEST_BODY = 20_000_000  # bytes
KEPT = 200_000  # characters of a reply, from its end: as many as are read


def read_body(raw: bytes) -> Any:
    """Return what a server sent: JSON, also after comments that kept the connection open, or a stream of events.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if len(raw) > LONGEST_BODY:
        raise ValueError("too long")
    try:
        return foreign.parse(raw)
    except ValueError:
        lines = [line for line in raw.decode("utf-8", errors="replace").splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(":")]
    events = [line[5:].strip() for line in kept if line.startswith("data:")]
    if not events:
        return foreign.parse("\n".join(kept))
    return _joined([foreign.parse(e) for e in events if e != "[DONE]"])


def _joined(events: list[Any]) -> dict[str, Any]:
    """Return the completion that a stream of its pieces amounts to."""
    whole: dict[str, Any] = {}
    content: list[str] = []
    thought: list[str] = []
    finish = None
    for event in events:
        if not isinstance(event, dict):
            raise ValueError("no event")
        if event.get("error"):
            return event
        whole |= {k: v for k, v in event.items() if v is not None and k in ("usage", "error")}
        choice = _first(event)
        piece = choice.get("delta", choice.get("message"))
        if isinstance(piece, dict):
            content.append(_words(piece.get("content")))
            thought.append(_words(piece.get("reasoning_content")))
        finish = choice.get("finish_reason") or finish
    message = {"role": "assistant", "content": "".join(content), "reasoning_content": "".join(thought)}
    return {**whole, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def read_reply(data: Any, body: Mapping[str, Any], check: Callable[[str], str], latency: float | None) -> Reply:
    """Return what a chat completion says.

    Parameters
    ----------
    body
        Of the request: tokens are guessed from it where the server does not count them.
    check
        From a reply's words to its kind.

    Raises
    ------
    ValueError
        If it is none.
    """
    choice = _first(data)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ValueError("no chat completion")
    cut = choice.get("finish_reason") in ("length", "max_tokens", "MAX_TOKENS")
    content = _content(message, check, cut=cut)
    kind = _kind(choice, message, content, check, cut=cut)
    prompt, completion, cached = _usage(data, content)
    guessed = prompt is None or completion is None
    probability = label_probability(content, list(_tokens(choice))) if kind == OK else None
    return Reply(
        kind,
        content[-KEPT:],
        probability,
        guess_tokens(body) if prompt is None else prompt,
        -(-len(content.encode()) // 3) if completion is None else completion,
        guessed,
        latency,
        cached_tokens=0 if guessed else cached,
    )


def _first(data: Any) -> dict[str, Any]:
    choices = data.get("choices") if isinstance(data, dict) else None
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _content(message: Mapping[str, Any], check: Callable[[str], str], *, cut: bool) -> str:
    """Return a message's answer: its content, else the arguments of the function that it calls, else its thoughts.

    Thoughts count as the answer only where they are one: a whole reply that was put into the wrong field.
    """
    content = _words(message.get("content"))
    if content.strip():
        return content
    for arguments in _arguments(message):
        return arguments
    for field in ("reasoning_content", "reasoning"):
        thought = _words(message.get(field))
        if not cut and "{" in thought and check(thought) == OK:
            return thought
    return content


def _words(value: Any) -> str:
    """Return content: a string, or the text of its chunks without those that are thoughts."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "" if "think" in str(value.get("type")) else _words(value.get("text"))
    if isinstance(value, list):
        return "".join(_words(v) for v in value if isinstance(v, str | dict))
    return ""


def _arguments(message: Mapping[str, Any]) -> Iterator[str]:
    calls = message.get("tool_calls")
    functions = [c.get("function") for c in calls if isinstance(c, dict)] if isinstance(calls, list) else []
    for function in (*functions, message.get("function_call")):
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            yield function["arguments"]


def _kind(
    choice: Mapping[str, Any], message: Mapping[str, Any], content: str, check: Callable[[str], str], *, cut: bool
) -> str:
    if message.get("refusal") or str(choice.get("finish_reason")).casefold() in FILTERED:
        return "refusal"
    kind = check(content) if without_thoughts(content) else "empty"
    # a whole label may stand in a reply that was cut off after it
    return "truncated" if kind != OK and cut else kind


def _usage(data: Mapping[str, Any], content: str) -> tuple[int | None, int | None, int]:
    """Return the tokens of prompt, reply, and those of the prompt that were cached; None where they are not counted.

    0 of both is a server that does not count; so is 0 for a reply that is not empty.
    """
    usage = data.get("usage")
    if not isinstance(usage, dict):
        return None, None, 0
    prompt = foreign.count(usage.get("prompt_tokens", usage.get("input_tokens")))
    completion = foreign.count(usage.get("completion_tokens", usage.get("output_tokens")))
    total = foreign.count(usage.get("total_tokens"))
    if prompt and completion is not None and total is not None:
        completion = max(completion, total - prompt)  # some leave out what the model thought, and charge for it
    details = usage.get("prompt_tokens_details", usage.get("input_tokens_details"))
    told = details.get("cached_tokens") if isinstance(details, dict) else usage.get("prompt_cache_hit_tokens")
    cached = min(foreign.count(told) or 0, prompt or 0)
    return prompt or None, completion if completion or not content else None, cached


def _tokens(choice: Mapping[str, Any]) -> Iterator[tuple[bytes, float]]:
    logprobs = choice.get("logprobs")
    found = logprobs.get("content") if isinstance(logprobs, dict) else None
    for entry in found if isinstance(found, list) else []:
        token, logprob = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
        if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
            return
        yield foreign.piece(entry.get("bytes")) or token.encode(), logprob
