"""LLM batch: the same questions through the server's Batch API, cheaper and within a day; resumable like the rest."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from hybrid.data import foreign
from hybrid.errors import TierError
from hybrid.store.answers import ASK, SPENT, AnswerStore
from hybrid.tiers.llm.client import OF_THE_ROW, CallError, LLMClient
from hybrid.tiers.llm.recording import Questions, failed_reply, open_questions

SHARE_OF_PRICE = 0.5  # what OpenAI charges in a batch
MAX_QUESTIONS, MAX_BYTES = 50_000, 150_000_000  # of one batch; OpenAI takes 50,000 and 200 MB
LEASE = 30 * 3600.0  # seconds; a batch ends after 24 hours
ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")
TOKEN = "hybrid_tuner"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it stands.

    Parameters
    ----------
    status
        The server's word: ``validating``, ``in_progress``, ``finalizing``, or one of `ENDED`.
    done, total
        Questions, as the server counts them; `total` is 0 until it has.
    kept
        Answers that were fetched just now.
    message
        What is wrong, for the user.
    """

    id: str
    status: str
    done: int = 0
    total: int = 0
    kept: int = 0
    message: str = ""


def submit(asked: Questions, key: str | None, *, cap: float, path: str | Path | None = None) -> int:
    """Send the open questions as batches; returns how many questions were sent.

    The first one is asked at once and at the full price, to learn what the server takes.

    Parameters
    ----------
    cap
        USD for the run, as in `RecordingJob`; what does not fit under it is not sent.

    Raises
    ------
    CallError
        Where the server refuses.
    TierError
        Where nothing fits under the cap.
    """
    return asyncio.run(_submit(asked, key, cap, path))


def look(asked: Questions, key: str | None, *, path: str | Path | None = None) -> list[Batch]:
    """Look at each batch of the run under way, in this session or an earlier one, and fetch the answers of those ended.

    Raises
    ------
    CallError
        Where the server cannot be asked; what was fetched before is kept.
    """
    return asyncio.run(_look(asked, key, path, _state))


def cancel(asked: Questions, key: str | None, *, path: str | Path | None = None) -> list[Batch]:
    """Cancel the batches under way; what they answered so far is fetched when they have ended, at the next `look`."""

    async def stop(client: LLMClient, name: str) -> Any:
        state = await _state(client, name)
        return state if state.status in ENDED else await _call(client, client.beneath.batches.cancel(name))

    return asyncio.run(_look(asked, key, path, stop))


def under_way(asked: Questions, *, path: str | Path | None = None) -> int:
    """Return how many batches of the run have not been fetched."""
    with AnswerStore(path) as store:
        return len(store.batches(asked.run))


async def _submit(asked: Questions, key: str | None, cap: float, path: str | Path | None) -> int:
    with AnswerStore(path) as store:
        todo = open_questions(asked, store)
    async with LLMClient(asked.settings, key) as client:
        sent = 0
        while todo and not sent:
            first = next(iter(todo))
            sent += await _ask_first(asked, first, todo.pop(first), client, cap, path)
        for part in _parts({k: client.adapted(r) for k, r in todo.items()}):
            sent += await _send(asked, part, client, cap, path)
    return sent


async def _ask_first(
    asked: Questions, key: str, request: dict[str, Any], client: LLMClient, cap: float, path: str | Path | None
) -> bool:
    """Ask a question at once; returns False where another process or batch has it."""
    settings = asked.settings
    with AnswerStore(path) as store:
        verdict = store.claim(key, asked.run, cost=settings.most(request), cap=cap, lease=settings.timeout + 10)
        if verdict == SPENT:
            raise TierError(f"The cap of ${cap:,.4g} leaves no room for a single question: raise it.")
        if verdict != ASK:
            return False
        try:
            reply = await client.call(request, asked.check)
        except CallError:
            store.release(key, asked.run, lost=0.0)
            raise
        cost = settings.cost(reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens)
        store.settle(key, asked.run, reply.to_json(), cost=cost)
    return True


def _parts(requests: dict[str, dict[str, Any]]) -> Iterator[dict[str, str]]:
    """Yield lines of a batch by key, no more at a time than a batch takes."""
    part: dict[str, str] = {}
    size = 0
    for key, request in requests.items():
        line = json.dumps({"custom_id": key, "method": "POST", "url": ENDPOINT, "body": request}, ensure_ascii=False)
        if part and (len(part) >= MAX_QUESTIONS or size + len(line.encode()) > MAX_BYTES):
            yield part
            part, size = {}, 0
        part[key] = line
        size += len(line.encode()) + 1
    if part:
        yield part


async def _send(asked: Questions, part: dict[str, str], client: LLMClient, cap: float, path: str | Path | None) -> int:
    token = uuid.uuid4().hex
    with AnswerStore(path, holder=token) as store:
        most = {k: SHARE_OF_PRICE * asked.settings.most(json.loads(line)["body"]) for k, line in part.items()}
        verdicts = store.claim_all(most, asked.run, cap=cap, lease=LEASE)
        lines = [line for k, line in part.items() if verdicts[k] == ASK]
        if not lines:
            return 0
        store.begin_batch(token, asked.run)
        try:
            content = ("questions.jsonl", "\n".join(lines).encode(), "application/jsonl")
            file = await _call(client, client.beneath.files.create(file=content, purpose="batch"))
            made = client.beneath.batches.create(
                input_file_id=file.id,
                endpoint=ENDPOINT,
                completion_window="24h",
                metadata={TOKEN: token},
            )
            name = (await _call(client, made)).id
        except CallError as error:
            if error.kind not in ("timeout", "broken_off"):  # else it may have been made: the next look finds out
                store.end_batch(token)
            raise
        store.name_batch(token, name)
    return len(lines)


async def _look(
    asked: Questions, key: str | None, path: str | Path | None, state_of: Callable[[LLMClient, str], Awaitable[Any]]
) -> list[Batch]:
    with AnswerStore(path) as store:
        open_ = store.batches(asked.run)
    found = []
    if open_:
        async with LLMClient(asked.settings, key) as client:
            for token, name in open_:
                found.append(await _one(asked, token, name, client, path, state_of))
    return found


async def _one(
    asked: Questions,
    token: str,
    name: str | None,
    client: LLMClient,
    path: str | Path | None,
    state_of: Callable[[LLMClient, str], Awaitable[Any]],
) -> Batch:
    with AnswerStore(path, holder=token) as store:
        if name is None:
            name = await _find(client, token)
            if name is None:
                store.end_batch(token)
                return Batch("", "failed", message="It never reached the server: submit it again.")
            store.name_batch(token, name)
        state = await state_of(client, name)
        counts = state.request_counts
        done, total = (counts.completed, counts.total) if counts else (0, 0)
        kept = 0
        if state.status in ENDED:
            for file in (state.output_file_id, state.error_file_id):
                if file:
                    kept += _keep(asked, await _read_file(client, file), client, store)
            store.end_batch(token)  # what it did not answer can be asked again
        errors = state.errors.data if state.errors and state.errors.data else []
        says = foreign.shown("; ".join(str(e.message) for e in errors[:3]))
        return Batch(name, state.status, done, total, kept, says)


def _keep(asked: Questions, content: str, client: LLMClient, store: AnswerStore) -> int:
    """Keep what a batch's output says, a line at a time; returns how many answers that were."""
    requests = dict(zip(asked.keys, asked.requests, strict=True))
    settings, n = asked.settings, 0
    for line in content.splitlines():
        try:
            said = foreign.parse(line)
        except ValueError:
            continue
        key = said.get("custom_id") if isinstance(said, dict) else None
        if not isinstance(key, str) or key not in requests:
            continue
        response = said.get("response")
        status, body = (
            (response.get("status_code"), response.get("body")) if isinstance(response, dict) else (None, None)
        )
        if status is None:  # the server never got to it: it stays open
            continue
        try:
            reply = client.read(status, body, requests[key], asked.check)
        except CallError as error:
            if error.kind in OF_THE_ROW:
                store.fail(key, asked.run, failed_reply(error, requests[key]).to_json())
            continue
        cost = SHARE_OF_PRICE * settings.cost(reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens)
        store.settle(key, asked.run, reply.to_json(), cost=cost)
        n += 1
    return n


async def _find(client: LLMClient, token: str) -> str | None:
    """Return the server's name of a batch that was sent before its name could be noted."""
    page = await _call(client, client.beneath.batches.list(limit=100))
    return next((b.id for b in page.data if (b.metadata or {}).get(TOKEN) == token), None)


async def _state(client: LLMClient, name: str) -> Any:
    return await _call(client, client.beneath.batches.retrieve(name))


async def _read_file(client: LLMClient, name: str) -> str:
    return (await _call(client, client.beneath.files.content(name))).text


async def _call(client: LLMClient, call: Awaitable[_T]) -> _T:
    """Wait for a call of the client beneath; its errors become `CallError`, without the key."""
    import openai

    from hybrid.tiers.bodies import BodyError

    try:
        return await call
    except (openai.OpenAIError, BodyError) as error:
        raise client.explained(error) from None
