"""Refusals: any server's way to say no, whatever its status and the shape of its body, told apart by what helps.

Servers answer with an object, a list, a string or HTML; with ``error``, ``detail`` or ``message``; with 400, 403, 404,
422, 500, or with 200 and an error inside. What they say is searched for words, and shown as they said it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hybrid.data import foreign

_WORDS = ("message", "msg", "detail", "details", "error", "errors", "error_description", "title", "description", "raw")
_CODES = ("code", "type", "status", "param", "loc", "reason", "reasons", "innererror")
_INSIDE = ("metadata", "error", "errors", "detail", "details", "message", "innererror", "inner_error", "data", "body")
_MOST_WORDS = 5_000  # characters of a body that are searched

# from the first that fits; what an account, a key or a text is refused for comes before what a parameter is
_MEANS = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("country", r"unsupported_country|country,? region|(?:location|country|region) is not (?:supported|available)"),
        (
            "quota",
            r"insufficient[ _](?:quota|balance|credit|funds)|billing[ _](?:hard[ _]limit|not[ _]active)|credit balance"
            r" is too low|(?:out of|no|not enough|exceeded your|purchase|buy|add)(?: \w+)? credits?\b|payment required"
            r"|spending limit|account (?:is )?(?:overdue|in arrears|suspended)|arrearage|top up|欠费|余额不足|充值",
        ),
        (
            "auth",
            r"(?:api|access|secret)[ _-]?key\b.{0,60}?(?:not valid|invalid|incorrect|wrong|expired|revoked|not found"
            r"|missing|required|disabled)|(?:incorrect|invalid|wrong|expired|revoked|missing|no)(?: \w+)? "
            r"(?:api|access)[ _-]?(?:key|token)|invalid_api_key|api_key_invalid|unauthenticated|no auth credentials"
            r"|authentication (?:failed|error|token)|authentication_error"
            r"|(?:密钥|令牌).{0,20}(?:无效|错误|过期|不正确)",
        ),
        ("forbidden", r"must be verified|verify organization|permission[_ ]denied|do(?:es)? not have access to"),
        (
            "refusal",
            r"content[ _-]?(?:filter|policy|management policy|moderation)|responsibleaipolicy|flagged|moderation"
            r"|usage polic(?:y|ies)|safety (?:system|filter|reason|setting)|data_?inspection_?failed"
            r"|inappropriate content|prohibited[ _]content|sensitive content|blocked (?:by|due to|for) "
            r"(?:safety|content)|blocklist|cyber_policy|敏感|不安全|违规",
        ),
        (
            "too_large",
            r"request too large|reduce the length of.{0,40}tokens per min|tokens per min.{0,200}must be reduced",
        ),
        (
            "context_too_long",
            r"context[ _](?:length|size|window)|maximum context|exceed_context|(?:prompt|input|request|message)s? "
            r"(?:is|are) too long|input token count|too many (?:input )?tokens|maximum (?:number of|allowed) "
            r"(?:input )?tokens|(?:input|prompt)[ _](?:length|tokens?) .{0,40}(?:exceed|longer|larger|greater)"
            r"|string_above_max_length|range of input length"
            r"|inputs?`? tokens \+ `?max_new_tokens|超.{0,12}(?:上下文|长度)",
        ),
        (
            "not_found",
            r"(?:invalid|unknown|no such)[ _]model\b(?! (?:parameter|option))|\bmodel[ _]not[ _](?:found|exist)"
            r"|\bmodel\b.{0,60}? does not exist|模型不存在",
        ),
    )
)
_LATER = re.compile(r"rate[ _-]?limit|too many requests|resource_exhausted|throttl|slow down|限流|并发", re.IGNORECASE)
_BUSY = re.compile(r"overload|over capacity|unavailable|try again later|upstream|temporar", re.IGNORECASE)
_REPLY_TOO_LONG = re.compile(
    r"(?:max(?:imum)?[ _](?:completion[ _]|output[ _]|new[ _])?tokens|max_output_tokens)\W.{0,80}?(?:too large|too high"
    r"|must be|at most|exceed|less than|maximum|cannot be|range)",
    re.IGNORECASE | re.DOTALL,
)
_IN_PARTS = re.compile(r"(\d+) (?:tokens )?in (?:the|your) (?:messages|prompt|input).{0,40}?\d+ in (?:the )?completion")
_CONTEXT = re.compile(r"context (?:length|size|window)\D{0,20}(\d+)", re.IGNORECASE)
_AT_MOST = re.compile(
    r"(?:at most|less than or equal to|<=|up to|maximum(?: value)?(?: of| is)?|\d+\s*>|\[\s*\d+\s*,)\s*(\d+)"
    r"(?:\s*-\s*(\d+))?",
    re.IGNORECASE,
)
# what servers call a parameter besides its own name
_ALSO = {
    "logprobs": r"log[ _-]?prob",
    "response_format": r"response[ _]?format|response[ _]?schema|json[ _-]?schema|\bschema\b|structured[ _]outputs?"
    r"|too many states|grammar|guided[ _](?:json|decoding)|required for format|json[ _](?:mode|object)",
    "max_tokens": r"max_(?:completion_|output_)?tokens",
}
_FAILED_TO_OBEY = re.compile(r"required for format|grammar|response_format|json[ _]schema|log[ _-]?prob", re.IGNORECASE)
_UNNAMED = re.compile(r"requested parameters|extra (?:inputs|fields) (?:are )?not permitted", re.IGNORECASE)
_IN_ORDER = ("logprobs", "response_format", "temperature")  # where a server does not say which one it refuses


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server's no means.

    Parameters
    ----------
    kind
        A key of `hybrid.tiers.llm.client.MEANING`.
    says
        The server's own words, in one line of bounded length; empty where it gave none.
    parameter
        Of the request, which the model is to be asked without; None where it refuses none.
    most
        Tokens of a reply that it would give at most; None where it does not say.
    wrote
        What the model itself wrote, where the server did not let it pass.
    wait
        Seconds that it asks to wait, in words; None where it does not.
    """

    kind: str
    says: str
    parameter: str | None = None
    most: int | None = None
    wrote: str | None = None
    wait: float | None = None


def read_refusal(status: int, body: Any, sent: Mapping[str, Any]) -> Refusal:
    """Read a refusal.

    Parameters
    ----------
    status
        HTTP status; for an error within a reply of 200, the code that it gives, else 502.
    body
        As JSON if it was that, else the text.
    sent
        Body of the request: only what it holds can be left out.

    Examples
    --------
    >>> read_refusal(400, [{"error": {"message": "Logprobs is not enabled"}}], {"logprobs": True}).parameter
    'logprobs'
    >>> read_refusal(429, {"error": {"code": "insufficient_quota", "message": "over your quota"}}, {}).kind
    'quota'
    """
    said = list(_said(body))
    words = list(dict.fromkeys(w for key, w in said if key in _WORDS))
    says = foreign.shown(" · ".join(words) or " · ".join(dict.fromkeys(w for _, w in said)))
    everything = " ".join(w for _, w in said)[:_MOST_WORDS]
    named = {w.partition(".")[0].casefold() for key, w in said if key in ("param", "loc")}

    longest = [n for name in ("max_tokens", "max_completion_tokens") if isinstance(n := sent.get(name), int)]
    if longest:
        most = _most_reply(everything)
        if most and most < max(longest):  # else it is not the reply that is too long
            return Refusal("reply_too_long", says, most=most)
    kind = next((kind for kind, pattern in _MEANS if pattern.search(everything)), None)
    if kind is not None and not (kind == "quota" and status == 429 and "resource_exhausted" in everything.casefold()):
        return Refusal(kind, says)
    if status not in (401, 402, 429):
        parameter = _parameter(status, everything, named, sent)
        if parameter is not None:
            return Refusal("bad_request", says, parameter=parameter)
    if "json_validate_failed" in everything or "failed_generation" in everything:
        return Refusal("malformed", says, wrote=_written(body))
    return Refusal(_by_status(status, everything), says, wait=_wait(said))


def error_in(body: Any) -> Any:
    """Return the error that a reply of status 200 holds in the place of an answer; None where it holds none."""
    if not isinstance(body, dict):
        return None
    if body.get("error") and not body.get("choices"):
        return body["error"]
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if first.get("error"):
        return first["error"]
    message = first.get("message")
    says_nothing = not (isinstance(message, dict) and message.get("content"))
    return {"message": "finish_reason: error"} if first.get("finish_reason") == "error" and says_nothing else None


def status_in(error: Any) -> int:
    """Return the HTTP status that an error within a reply names, else 502."""
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    number = foreign.count(int(code) if isinstance(code, str) and code.isascii() and code.isdecimal() else code)
    return number if number is not None and 400 <= number < 600 else 502


def _by_status(status: int, everything: str) -> str:
    if 300 <= status < 400:
        return "redirect"
    kinds = {401: "auth", 402: "quota", 403: "forbidden", 404: "not_found", 408: "timeout", 409: "server"}
    kinds |= {413: "context_too_long", 429: "rate_limit", 451: "country"}
    if status in kinds:
        return kinds[status]
    if _LATER.search(everything):
        return "rate_limit"
    return "server" if status >= 500 or _BUSY.search(everything) else "bad_request"


def _said(value: Any, key: str = "error", depth: int = 8) -> Iterator[tuple[str, str]]:
    """Yield what a body says and under which key, from the outside in; never what it repeats of the request."""
    if isinstance(value, str):
        inner = _inside(value)
        if inner is not None and depth:
            yield from _said(inner, key, depth - 1)
        elif value.strip():
            yield key, _without_html(value)
    elif isinstance(value, bool) or value is None or not depth:
        return
    elif isinstance(value, int | float):
        yield "code", str(value)
    elif isinstance(value, list):
        for one in value[:20]:
            yield from _said(one, key, depth - 1)
    elif isinstance(value, dict):
        for name, inside in value.items():
            lower = str(name).casefold()
            if lower in _WORDS or lower in _CODES or lower in _INSIDE or lower in ("retrydelay", "finish_reason"):
                yield from _said(inside, lower if lower in (*_WORDS, *_CODES, "retrydelay") else key, depth - 1)


def _inside(text: str) -> Any:
    """Return the JSON that a string holds, as gateways pass on what they were told; None where it holds none."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return foreign.parse(text)
    except ValueError:
        return None


def _without_html(text: str) -> str:
    return re.sub(r"<[^>]{0,500}>", " ", text[:_MOST_WORDS]) if text.lstrip().startswith("<") else text[:_MOST_WORDS]


def _most_reply(everything: str) -> int | None:
    """Return how many tokens a reply may have, where it was refused for asking for more."""
    context = _CONTEXT.search(everything)
    parts = _IN_PARTS.search(everything)
    if context and parts:
        left = int(context[1]) - int(parts[1])
        return left if left > 0 else None
    if not _REPLY_TOO_LONG.search(everything):
        return None
    found = [int(m[1]) - int(m[2] or 0) for m in _AT_MOST.finditer(everything)]
    return next((n for n in found if 0 < n < foreign.MOST_TOKENS), None)


def _parameter(status: int, everything: str, named: set[str], sent: Mapping[str, Any]) -> str | None:
    """Return the parameter that is refused: the one that is named as such, else one that is mentioned."""
    optional = [name for name in sent if name not in ("model", "messages")]
    if status >= 500 and not _FAILED_TO_OBEY.search(everything):
        return None
    for name in optional:
        if name.casefold() in named:
            return name
    for name in optional:
        pattern = _ALSO.get(name, rf"(?<![\w]){re.escape(name)}(?![\w])")
        if re.search(pattern, everything, re.IGNORECASE):
            return name
    if _UNNAMED.search(everything):
        return next((name for name in _IN_ORDER if name in sent), None)
    return None


def _written(body: Any) -> str:
    error = body.get("error", body) if isinstance(body, dict) else None
    wrote = error.get("failed_generation") if isinstance(error, dict) else None
    return wrote if isinstance(wrote, str) else ""


def _wait(said: list[tuple[str, str]]) -> float | None:
    for key, words in said:
        found = re.search(
            r"^(\d{1,6}(?:\.\d+)?)(s)$"
            if key == "retrydelay"
            else r"(?:try again|retry) (?:in|after) (\d{1,6}(?:\.\d+)?) ?(ms|s|m)\b",
            words.strip(),
            re.IGNORECASE,
        )
        if found:
            return float(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[found[2].lower()]
    return None
