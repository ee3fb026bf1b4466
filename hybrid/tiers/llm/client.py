"""LLM client: one question to an OpenAI-compatible server, with everything that can go wrong on the way named."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from hybrid.errors import TierError
from hybrid.tiers.llm.questions import OK, LLMSettings, Reply, guess_tokens, label_probability

if TYPE_CHECKING:
    import openai

PASSING = ("rate_limit", "server", "timeout", "connection", "broken_off", "bad_reply")  # worth another try
FATAL = ("auth", "quota", "not_found")  # no call will do better: a recording stops
MAYBE_PAID = ("timeout", "bad_reply", "broken_off")  # the server may have done its work, and charge for it
LONGEST_WAIT = 120.0  # seconds; a server that asks for more is not waited for
FIRST_WAIT, MOST_WAIT = 0.5, 8.0  # seconds before a retry, doubling, where the server does not say

MEANING = {
    "auth": "The server refuses the key: it is wrong, revoked, or lacks the right to this model. Enter another.",
    "quota": "The account has no credit left: top it up, or use another key.",
    "not_found": "The server does not know this model or address: check the base URL and the model's name.",
    "rate_limit": "The server asks to slow down: lower the concurrency, or resume later.",
    "server": "The server failed.",
    "timeout": "No answer in time: raise the timeout, or lower the concurrency.",
    "connection": "The server cannot be reached: is it running, and is the base URL right?",
    "deadline": "The time for a decision was over.",
    "broken_off": "The connection broke in the middle of an answer.",
    "bad_reply": "What came back is not a chat completion: is this an OpenAI-compatible server?",
    "bad_request": "The server refuses the request.",
    "unknown_label": "The model named no class.",
    "malformed": "The reply is not the JSON that was asked for.",
    "empty": "The reply is empty.",
    "refusal": "The model refused to answer.",
    "truncated": "The reply was cut off: raise the longest reply.",
    "context_too_long": "The text does not fit into the model's context.",
}

Check = Callable[[str], str]
"""From a reply's words to its kind: ``ok``, or what is wrong with them."""


class CallError(TierError):
    """A call without an answer.

    `kind` is what happened, `retry_after` the seconds that the server asks to wait, `lost` how many calls the server
    may have charged for by then.
    """

    def __init__(self, kind: str, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(f"{MEANING[kind]}{f' It says: {detail}' if detail else ''}")
        self.kind = kind
        self.retry_after = retry_after
        self.lost = 0


Again = Callable[[CallError, float], Awaitable[bool]]
"""Told of a failed call and of the seconds to wait before the next (nan where there is none); waits, and says whether
to go on."""


class LLMClient:
    """A connection to a tier's server; use it in one event loop, and close it, or use it in an ``async with``.

    What the server turns out not to know (a JSON schema, log-probabilities, a temperature) it is asked without from
    then on.

    Parameters
    ----------
    key
        Sent to the server, and shown nowhere. A local server may need none.
    """

    def __init__(self, settings: LLMSettings, key: str | None) -> None:
        import openai  # takes a second or more: not for whoever only loads a bundle without an LLM

        self.settings = settings
        self._key = key or ""
        self._dropped: set[str] = set()
        self._client: openai.AsyncOpenAI = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=settings.base_url,
            max_retries=0,  # retried here, where a timeout covers a whole call and a failed call is counted
            timeout=settings.timeout,
            http_client=openai.DefaultAsyncHttpxClient(verify=_tls()),
        )

    @property
    def beneath(self) -> openai.AsyncOpenAI:
        """The client beneath, for what is not a question: files and batches."""
        return self._client

    async def close(self) -> None:
        await self._client.close()

    async def __aenter__(self) -> LLMClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def ask(self, request: Mapping[str, Any], check: Check, *, again: Again | None = None) -> Reply:
        """Ask, and ask again where it failed for a passing reason.

        Parameters
        ----------
        request
            The body, as `LLMSettings.request` makes it.
        check
            Says whether a reply's words can be used.
        again
            Called after each failed call; unless given, the wait is waited and the call repeated.

        Raises
        ------
        CallError
            Where the last call failed, or one failed for good.
        """
        calls = lost = 0
        while True:
            calls += 1
            try:
                reply = await self.call(request, check)
            except CallError as error:
                lost += error.kind in MAYBE_PAID
                error.lost = lost
                wait = self._wait(error, calls)
                if not await (again or _wait_only)(error, wait) or wait != wait:
                    raise
                continue
            return replace(reply, calls=calls, lost=lost)

    def _wait(self, error: CallError, calls: int) -> float:
        """Return the seconds before the next call; nan where there will be none."""
        if error.kind not in PASSING or calls > self.settings.retries:
            return math.nan
        if error.retry_after is None:
            return min(MOST_WAIT, FIRST_WAIT * 2.0 ** (calls - 1))
        return error.retry_after if error.retry_after <= LONGEST_WAIT else math.nan

    async def call(self, request: Mapping[str, Any], check: Check) -> Reply:
        """Ask once; every failure is a `CallError` of a kind in `MEANING`."""
        while True:
            body = self.adapted(request)
            start = time.perf_counter()
            try:
                data = await self._post(body)
            except _UnsupportedError as error:
                self._dropped.add(error.parameter)
                continue
            except _ContextError:
                return Reply("context_too_long", "", latency=time.perf_counter() - start)
            return read_reply(data, body, check, time.perf_counter() - start)

    def adapted(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request without what the server turned out not to know."""
        body = {k: v for k, v in request.items() if k not in self._dropped}
        if "max_tokens" in self._dropped and "max_tokens" in request:
            body["max_completion_tokens"] = request["max_tokens"]
        return body

    async def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        import httpx2
        import openai

        try:
            async with asyncio.timeout(self.settings.timeout):  # the client's own covers each read: a drip never ends
                # as its chat.completions.create does, less the walk through every message, a quarter of the time
                raw = await self._client.post("/chat/completions", body=body, cast_to=httpx2.Response)
            data: dict[str, Any] = json.loads(raw.content)
        except ValueError:
            raise CallError("bad_reply") from None
        except (openai.OpenAIError, TimeoutError) as error:
            raise self.explained(error, body) from None
        return data

    def explained(self, error: Exception, body: Mapping[str, Any]) -> Exception:
        """Return what an error of the client means: a `CallError`, without the key in it."""
        import openai

        if isinstance(error, openai.APITimeoutError | TimeoutError):
            return CallError("timeout")
        if isinstance(error, openai.APIStatusError):
            return self._status_error(error, body)
        if isinstance(error, openai.APIConnectionError):
            cause = type(error.__cause__).__name__
            return CallError("broken_off" if "Read" in cause or "Protocol" in cause else "connection", cause)
        return CallError("bad_reply", self._clean(str(error)))

    def _status_error(self, error: openai.APIStatusError, body: Mapping[str, Any]) -> Exception:
        status, code = error.status_code, error.code or ""
        says = str(error.body.get("message", "")) if isinstance(error.body, dict) else ""
        says = self._clean(says or error.message)
        if status in (400, 413, 422):
            if code == "context_length_exceeded" or ("context" in says.lower() and "token" in says.lower()):
                return _ContextError()
            parameter = _unsupported(error.param or "", says, body)
            if parameter is not None and parameter not in self._dropped:
                return _UnsupportedError(parameter)
        if (status == 429 and code == "insufficient_quota") or status == 402:
            return CallError("quota", says)
        kinds = {401: "auth", 403: "auth", 404: "not_found", 408: "timeout", 409: "server", 429: "rate_limit"}
        kind = kinds.get(status, "server" if status >= 500 else "bad_request")
        return CallError(kind, f"{status}: {says}", retry_after=_retry_after(error.response.headers))

    def _clean(self, message: str) -> str:
        """Return a server's message without the key, which some servers repeat, and not too long."""
        return (message.replace(self._key, "***") if self._key else message)[:300]


async def _wait_only(_: CallError, wait: float) -> bool:
    if wait == wait:
        await asyncio.sleep(wait)
    return True


class _UnsupportedError(Exception):
    def __init__(self, parameter: str) -> None:
        super().__init__(parameter)
        self.parameter = parameter


class _ContextError(Exception):
    pass


def _unsupported(parameter: str, says: str, body: Mapping[str, Any]) -> str | None:
    """Return the optional parameter that a refusal is about."""
    if "json_schema" in says and "response_format" in body:
        return "response_format"
    for name in ("response_format", "logprobs", "temperature", "max_tokens"):
        if name in body and (parameter.startswith(name) or name in says):
            return name
    return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait: in milliseconds, in seconds, or until a date."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            wait = float(value) / unit
        except ValueError:
            try:
                wait = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except ValueError:
                continue
        if wait == wait:
            return max(0.0, wait)
    return None


def read_reply(data: dict[str, Any], body: Mapping[str, Any], check: Check, latency: float | None) -> Reply:
    """Return what a chat completion says.

    Raises
    ------
    CallError
        If it is none.
    """
    if not isinstance(data, dict) or not isinstance(data.get("choices"), list) or not data["choices"]:
        raise CallError("bad_reply")
    choice = data["choices"][0] if isinstance(data["choices"][0], dict) else {}
    message = choice.get("message")
    if not isinstance(message, dict):
        raise CallError("bad_reply")
    content = message.get("content") if isinstance(message.get("content"), str) else ""
    assert isinstance(content, str)
    counted = _usage(data)
    guessed = counted is None
    prompt, completion = counted or (guess_tokens(body), -(-len(content.encode()) // 3))
    kind = _kind(choice, message, content, check)
    probability = label_probability(content, _tokens(choice)) if kind == OK else None
    return Reply(kind, content, probability, prompt, completion, guessed, latency)


def _kind(choice: Mapping[str, Any], message: Mapping[str, Any], content: str, check: Check) -> str:
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        return "refusal"
    kind = check(content) if content.strip() else "empty"
    # a whole label may stand in a reply that was cut off after it
    return "truncated" if kind != OK and choice.get("finish_reason") == "length" else kind


def _usage(data: Mapping[str, Any]) -> tuple[int, int] | None:
    usage = data.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return cast(tuple[int, int], counts) if all(isinstance(c, int) and c >= 0 for c in counts) else None


def _tokens(choice: Mapping[str, Any]) -> list[tuple[bytes, float]]:
    logprobs = choice.get("logprobs")
    found = logprobs.get("content") if isinstance(logprobs, dict) else None
    tokens = []
    for entry in found if isinstance(found, list) else []:
        try:
            piece = bytes(entry["bytes"]) if entry.get("bytes") else str(entry["token"]).encode()
            tokens.append((piece, float(entry["logprob"])))
        except (KeyError, TypeError, ValueError, AttributeError):
            return []
    return tokens


@lru_cache(1)
def _tls() -> ssl.SSLContext:
    """Return the one TLS context of the process: making it takes longer than a client does otherwise."""
    return ssl.create_default_context()
