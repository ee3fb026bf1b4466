"""Chat: a chat completion request as a request to classify, where it is one, and the decision as its reply."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid.data.labels import Matcher
from hybrid.production.runtime import Decision
from hybrid.routing.table import NONE_LABEL, UNKNOWN

_OPENED, _CLOSED = "<text>", "</text>"  # as this product's own prompt wraps a text
_KEY = re.compile(r'\{\s*\\?"(\w+)\\?"\s*:')  # of the JSON that a prompt shows


@dataclass(frozen=True, slots=True)
class Question:
    """A request to classify one text into the bundle's classes.

    Parameters
    ----------
    text
        What is to be classified.
    key
        Under which the label stands in the JSON that is asked for; None: the bare label.
    spelling
        The class's name as the client writes it, by the bundle's class.
    filled
        Other values that the client's schema requires.
    """

    text: str
    key: str | None
    spelling: Mapping[str, str]
    filled: Mapping[str, Any]

    def content(self, decision: Decision) -> str:
        """Return what a model would have replied."""
        assert decision.label is not None
        label = self.spelling[decision.label]
        if self.key is None:
            return label
        sure = {k: decision.confidence if v is float else v for k, v in self.filled.items()}
        return json.dumps({self.key: label, **sure}, ensure_ascii=False)


def read_question(
    body: Mapping[str, Any], classes: Sequence[str], matcher: Matcher, *, inside: re.Pattern[str] | None = None
) -> Question | None:
    """Read a chat completion request; None where it is no request to classify into these classes.

    It is one where a JSON schema allows nothing but names of the bundle's classes, or the instructions before the last
    message name every class; the last message is the user's, and is the text, or holds it between ``<text>`` tags or
    where `inside` finds it. Tools, several replies, pictures and unknown fields of a schema make it another request.

    Parameters
    ----------
    inside
        Finds the text in the last message: its first group. For prompts that put instructions and text into one.
    """
    messages = body.get("messages")
    if body.get("tools") or body.get("functions") or body.get("n") not in (None, 1) or not isinstance(messages, list):
        return None
    said = [(m.get("role"), _words(m.get("content"))) if isinstance(m, dict) else (None, None) for m in messages]
    if not said or said[-1][0] != "user" or any(words is None for _, words in said):
        return None
    last = str(said[-1][1])
    before = "\n".join(str(words) for role, words in said[:-1] if role in ("system", "developer", "user"))
    asked = _schema(body.get("response_format"), matcher)
    if asked is False:
        return None
    at = _within_tags(last)
    if inside is not None:
        found = inside.search(last)
        at = None if found is None else found.span(1)
        if at is None:
            return None
    text = last if at is None else last[slice(*at)]
    instructions = f"{before}\n{'' if at is None else last[: at[0]]}"
    if isinstance(asked, _Asked):
        names = dict(asked.spelling)
        # a schema may offer a part of the classes for each text: what it does not offer it cannot be told
        return Question(text, asked.key, names, asked.filled) if len(names) > 1 else None
    if not _names_all(instructions, classes):
        return None
    wants_json = (body.get("response_format") or {}).get("type") == "json_object" or "json" in instructions.casefold()
    shown = _KEY.findall(instructions)
    key = (shown[-1] if shown else "label") if wants_json else None
    return Question(text, key, {c: c for c in classes}, {})


def _within_tags(last: str) -> tuple[int, int] | None:
    """Return where the text lies in a message that ends with it between tags; a pattern would go back and forth."""
    whole, start = last.rstrip(), last.find(_OPENED) + len(_OPENED)
    end = len(whole) - len(_CLOSED)
    if start < len(_OPENED) or end < start or not whole.endswith(_CLOSED):
        return None
    inner = whole[start:end]
    start += len(inner) - len(inner.lstrip())
    return start, start + len(inner.strip())


@dataclass(frozen=True, slots=True)
class _Asked:
    key: str
    spelling: Mapping[str, str]
    filled: Mapping[str, Any]


def _schema(wanted: Any, matcher: Matcher) -> _Asked | bool:
    """Return what a schema asks for; True where there is none, False where it asks for something else."""
    if wanted is None or (isinstance(wanted, dict) and wanted.get("type") in ("text", "json_object")):
        return True
    try:
        schema = wanted["json_schema"]["schema"]
        properties = {name: _resolved(one, schema) for name, one in schema["properties"].items()}
        required = schema.get("required") or list(properties)
        labels = {name: p["enum"] for name, p in properties.items() if isinstance(p, dict) and p.get("enum")}
        others = {name: properties[name].get("type") for name in required if name not in labels}
    except (TypeError, KeyError, AttributeError):
        return False
    if len(labels) != 1:
        return False
    key, names = next(iter(labels.items()))
    if not isinstance(names, list):
        return False
    codes = [matcher(name) if isinstance(name, str) else UNKNOWN for name in names]
    if UNKNOWN in codes or len(set(codes)) < len(codes):
        return False
    filled: dict[str, Any] = {}
    for name, kind in others.items():
        if kind == "number" and name in ("confidence", "probability", "score"):
            filled[name] = float  # the decision's own
        elif kind == "string":
            filled[name] = ""  # a reason, which nobody thought
        else:
            return False
    return _Asked(key, {matcher.classes[c]: n for c, n in zip(codes, names, strict=True)}, filled)


def _resolved(given: Any, schema: Mapping[str, Any]) -> Any:
    """Return a property as it stands where the schema defines it: pydantic refers to enums."""
    at = given
    if isinstance(at, dict) and isinstance(at.get("allOf"), list) and len(at["allOf"]) == 1:
        at = at["allOf"][0]
    reference = at.get("$ref") if isinstance(at, dict) else None
    if not isinstance(reference, str) or not reference.startswith("#/$defs/"):
        return given
    return schema["$defs"][reference.removeprefix("#/$defs/")]


def _words(content: Any) -> str | None:
    """Return a message's words; None where it holds something else."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "\n".join(p["text"] for p in content)
    return None


def _names_all(words: str, classes: Sequence[str]) -> bool:
    folded = words.casefold()
    return all(re.search(rf"(?<!\w){re.escape(c.casefold())}(?!\w)", folded) for c in classes)


def completion(question: Question, decision: Decision, *, id: str, model: str, fingerprint: str) -> dict[str, Any]:
    """Return the chat completion that says a decision; a refusal where no tier knew or its class was not offered."""
    known = decision.label in question.spelling
    refusal = f"No tier of {model} knows one of the classes that are offered."
    if decision.label == NONE_LABEL:
        refusal = "The text is out of scope: it belongs to none of the classes that are offered."
    message = {
        "role": "assistant",
        "content": question.content(decision) if known else None,
        "refusal": None if known else refusal,
    }
    return {
        "id": f"chatcmpl-{id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": fingerprint,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": usage(decision),
    }


def usage(decision: Decision) -> dict[str, int]:
    """Return the tokens that were spent: those of the LLM's calls, none where no LLM was asked."""
    prompt = sum(step.prompt_tokens for step in decision.trace)
    reply = sum(step.completion_tokens for step in decision.trace)
    return {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}


def chunks(whole: Mapping[str, Any], *, with_usage: bool) -> list[str]:
    """Return a completion as the events of a stream."""
    head = {k: whole[k] for k in ("id", "created", "model", "system_fingerprint")} | {"object": "chat.completion.chunk"}
    said = whole["choices"][0]["message"]
    delta = {k: v for k, v in said.items() if v is not None}
    parts: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    if with_usage:
        parts = [{**p, "usage": None} for p in parts]
        parts.append({**head, "choices": [], "usage": whole["usage"]})
    return [f"data: {json.dumps(p, ensure_ascii=False)}\n\n" for p in parts] + ["data: [DONE]\n\n"]
