"""LLM client: one question to an OpenAI-compatible server, with everything that can go wrong on the way named."""

from __future__ import annotations

import asyncio
import email.utils
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hybrid.data import foreign
from hybrid.errors import TierError
from hybrid.tiers.llm.completions import read_body, read_reply
from hybrid.tiers.llm.questions import LLMSettings, guess_tokens
from hybrid.tiers.llm.refusals import Refusal, error_in, read_refusal, status_in
from hybrid.tiers.llm.replies import Reply
from hybrid.tiers.servers import connect

if TYPE_CHECKING:
    import openai

PASSING = ("rate_limit", "server", "timeout", "connection", "broken_off", "bad_reply")  # worth another try
# no call will do better: a recording stops
FATAL = ("auth", "forbidden", "country", "quota", "not_found", "redirect", "reply_too_long", "private")
MAYBE_PAID = ("timeout", "bad_reply", "broken_off")  # the server may have done its work, and charge for it
ABOUT_THE_TEXT = ("bad_request", "too_large", "bad_reply")  # likelier than about the server as a whole
OF_THE_ROW = (*ABOUT_THE_TEXT, "server", "timeout", "broken_off")  # the question was asked, and got no answer
LONGEST_WAIT = 120.0  # seconds; a server that asks for more is not waited for
FIRST_WAIT, MOST_WAIT = 0.5, 8.0  # seconds before a retry, doubling, where the server does not say
ADAPTATIONS = 20  # calls of one question that are refused for a parameter

MEANING = {
    "auth": "The server refuses the key: it is wrong, revoked, or missing. Enter another.",
    "forbidden": "The account has no right to this model, or is not verified for it: ask its owner, or pick another.",
    "country": "The provider does not serve the country or region that this computer calls from.",
    "quota": "The account has no credit left: top it up, or use another key.",
    "not_found": "The server does not know this model or address, or does not serve it as a chat: check the base URL "
    "and the model's name.",
    "redirect": "The server sends callers on to another address, which is not followed: enter that if you trust it.",
    "rate_limit": "The server asks to slow down: lower the concurrency, or resume later.",
    "too_large": "The text is longer than this account may send at once.",
    "reply_too_long": "The longest reply that is allowed here is more than this model gives: lower it.",
    "server": "The server failed.",
    "timeout": "No answer in time: raise the timeout, or lower the concurrency.",
    "connection": "The server cannot be reached: is it running, and is the base URL right?",
    "private": "This address is of the dashboard's own machine or network, which visitors may not have it ask. Whoever "
    "runs it can allow it: HYBRID_SERVERS.",
    "deadline": "The time for a decision was over.",
    "broken_off": "The connection broke in the middle of an answer.",
    "bad_reply": "What came back is not a chat completion: is this an OpenAI-compatible server?",
    "bad_request": "The server refuses the request.",
    "unknown_label": "The model named no class.",
    "malformed": "The reply is not the JSON that was asked for.",
    "empty": "The reply is empty.",
    "refusal": "The model, or a filter before it, refused to answer.",
    "truncated": "The reply was cut off: raise the longest reply.",
    "context_too_long": "The text does not fit into the model's context.",
    "damaged": "The kept answer cannot be read: it is damaged, or a newer version wrote it.",
}

Check = Callable[[str], str]
"""From a reply's words to its kind: ``ok``, or what is wrong with them."""


class CallError(TierError):
    """A call without an answer.

    `kind` is what happened, `says` the server's own words, `retry_after` the seconds that it asks to wait, `lost` how
    many calls it may have charged for by then.
    """

    def __init__(self, kind: str, says: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(f"{MEANING[kind]}{f' It says: {says}' if says else ''}")
        self.kind = kind
        self.says = says
        self.retry_after = retry_after
        self.lost = 0


Again = Callable[[CallError, float], Awaitable[bool]]
"""Told of a failed call and of the seconds to wait before the next (nan where there is none); waits, and says whether
to go on."""


class LLMClient:
    """A connection to a tier's server; use it in one event loop, and close it, or use it in an ``async with``.

    What the model turns out to refuse (a JSON schema, log-probabilities, a temperature) it is asked without from then
    on, by every client of this process.

    Parameters
    ----------
    key
        Sent to the server, and shown nowhere. A local server may need none.
    without
        Parameters that the model is known to refuse; no other client is told, as a bundle may say so.
    """

    def __init__(self, settings: LLMSettings, key: str | None, *, without: tuple[str, ...] = ()) -> None:
        self.settings = settings
        self._key = key or ""
        self._known = _KNOWN.setdefault((settings.base_url, settings.model), _Known())
        self._told = frozenset(without) - {"model", "messages"}
        self._client: openai.AsyncOpenAI = connect(
            settings.base_url, key, timeout=settings.timeout, headers=settings.headers, query=settings.query
        )

    @property
    def without(self) -> tuple[str, ...]:
        """Parameters that the model refuses, sorted."""
        return tuple(sorted(self._known.refused | self._told))

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
        start = time.perf_counter()
        most = self._known.most  # tokens that a reply may have; a long text leaves room for fewer
        for _ in range(ADAPTATIONS):
            body = self.adapted(request)
            if most is not None:
                body |= {name: min(most, body[name]) for name in _LENGTHS if name in body}
            data = await self._post(body)
            if isinstance(data, Refusal):
                if data.parameter is not None and data.parameter not in self._known.refused:
                    self._known.refused.add(data.parameter)
                    continue
                if data.most is not None and (most is None or data.most < most):
                    most = data.most
                    if "context" not in data.says.casefold():
                        self._known.most = most
                    continue
                return _refused(data, body, check, time.perf_counter() - start)
            try:
                reply = read_reply(data, body, check, time.perf_counter() - start)
            except ValueError:
                raise CallError("bad_reply") from None
            gone = tuple(name for name in self.without if name in request)
            return replace(reply, without=gone) if gone else reply
        raise CallError("bad_request", "it refuses one parameter after the other")

    def read(self, status: int, body: Any, request: Mapping[str, Any], check: Check) -> Reply:
        """Return what came back of a question in a batch, as `call` does."""
        inside = error_in(body)
        if not isinstance(status, int) or status != 200 or inside is not None:
            known = status if isinstance(status, int) and status != 200 else status_in(inside)
            no = read_refusal(known, body if inside is None else inside, request)
            return _refused(replace(no, says=self._clean(no.says)), request, check, None)
        try:
            return read_reply(body, request, check, None)
        except ValueError:
            raise CallError("bad_reply") from None

    def adapted(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request without what the model turned out to refuse."""
        refused = self._known.refused | self._told
        body = {k: v for k, v in request.items() if k not in refused}
        if "max_tokens" in refused and "max_tokens" in request and "max_completion_tokens" not in refused:
            body.setdefault("max_completion_tokens", request["max_tokens"])
        return body

    async def _post(self, body: dict[str, Any]) -> dict[str, Any] | Refusal:
        """Return a completion, or what a server's no means."""
        import httpx2
        import openai

        from hybrid.tiers.bodies import BodyError

        try:
            async with asyncio.timeout(self.settings.timeout):  # the client's own covers each read: a drip never ends
                # as its chat.completions.create does, less the walk through every message, a quarter of the time
                raw = await self._client.post("/chat/completions", body=body, cast_to=httpx2.Response)
            data = read_body(raw.content)
        except TierError:  # of `hybrid.tiers.public`, before a connection was made
            raise CallError("private") from None
        except BodyError as error:
            raise CallError("bad_reply", str(error)) from None
        except ValueError:
            raise CallError("bad_reply") from None
        except openai.APIStatusError as error:
            return self._no(error, body)
        except (openai.OpenAIError, TimeoutError) as error:
            raise self.explained(error) from None
        inside = error_in(data)
        if inside is not None:
            no = read_refusal(status_in(inside), inside, body)
            return replace(no, says=self._clean(no.says))
        if not isinstance(data, dict):
            raise CallError("bad_reply", self._clean(str(data)))
        return data

    def explained(self, error: Exception) -> CallError:
        """Return what an error of the client means, without the key in it."""
        import openai

        if isinstance(error, openai.APITimeoutError | TimeoutError):
            return CallError("timeout")
        if isinstance(error, openai.APIStatusError):
            no = self._no(error, {})
            return CallError(no.kind, no.says, retry_after=no.wait)
        if isinstance(error, openai.APIConnectionError):
            cause = type(error.__cause__).__name__
            return CallError("broken_off" if "Read" in cause or "Protocol" in cause else "connection", cause)
        return CallError("bad_reply", self._clean(str(error)))

    def _no(self, error: openai.APIStatusError, body: Mapping[str, Any]) -> Refusal:
        raw, status = error.response.content, error.status_code
        try:
            said = foreign.parse(raw)
        except ValueError:
            said = raw.decode("utf-8", errors="replace")
        no = read_refusal(status, said, body)
        if no.kind == "redirect":
            no = replace(no, says=foreign.shown(error.response.headers.get("location", "")) or no.says)
        wait = _retry_after(error.response.headers)
        says = self._clean(f"{status}: {no.says}" if no.says else str(status))
        return replace(no, says=says, wait=no.wait if wait is None else wait)

    def _clean(self, message: str) -> str:
        """Return a server's message without the key, which some servers repeat, and not too long."""
        return foreign.shown(message.replace(self._key, "***") if self._key else message)


_LENGTHS = ("max_tokens", "max_completion_tokens")


class _Known:
    """What a model of a server turned out to refuse."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.most: int | None = None  # tokens of a reply


_KNOWN: dict[tuple[str, str], _Known] = {}  # by base URL and model; as long as the process


def _refused(no: Refusal, body: Mapping[str, Any], check: Check, latency: float | None) -> Reply:
    """Return what a refusal says about this text, as an answer; anything else is a `CallError`."""
    if no.kind == "context_too_long":
        return Reply(no.kind, no.says, latency=latency)
    if no.kind == "refusal":  # whatever filtered it has read it, and some charge for that
        return Reply(no.kind, no.says, None, guess_tokens(body), 0, True, latency)
    if no.wrote is not None:
        kind = check(no.wrote) if no.wrote.strip() else "malformed"
        return Reply(kind, no.wrote, None, guess_tokens(body), -(-len(no.wrote.encode()) // 3), True, latency)
    raise CallError(no.kind, no.says, retry_after=no.wait)


async def _wait_only(_: CallError, wait: float) -> bool:
    if wait == wait:
        await asyncio.sleep(wait)
    return True


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
            except (ValueError, OverflowError):
                continue
        if wait == wait:
            return max(0.0, wait)
    return None
