"""LLM recording: ask an LLM about rows of a dataset, within a budget; interrupted at any moment, nothing is lost."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybrid.data.dataset import Dataset
from hybrid.data.split import Split
from hybrid.errors import HybridError, TierError
from hybrid.routing.table import Rows
from hybrid.store.answers import ANSWERED, ASK, BUSY, MOST_TRIES, AnswerStore, Spending
from hybrid.tiers.llm.client import ABOUT_THE_TEXT, FATAL, LONGEST_WAIT, MAYBE_PAID, OF_THE_ROW, CallError, LLMClient
from hybrid.tiers.llm.examples import examples_for_rows
from hybrid.tiers.llm.questions import LLMSettings, guess_tokens
from hybrid.tiers.llm.replies import DAMAGED, OK, Reply

RUNNING, PAUSED, STOPPING, DONE, STOPPED, CANCELLED = "running", "paused", "stopping", "done", "stopped", "cancelled"
FAILURES_IN_A_ROW = 8  # rows, at least; then whatever is wrong will not pass by itself
LOOK = 0.05  # seconds between looks at whether to go on


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """The questions to ask an LLM about some rows.

    Parameters
    ----------
    rows
        Of the dataset, in the order in which they are asked: every beginning is a stratified sample.
    requests, keys
        One a row; rows with equal keys are one question.
    run
        Whose money it is: this tier on this dataset.
    """

    settings: LLMSettings
    classes: tuple[str, ...]
    rows: Rows
    requests: tuple[dict[str, Any], ...]
    keys: tuple[str, ...]
    run: str

    def check(self, content: str) -> str:
        return self.settings.check(content, self.classes)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What asking would take.

    Parameters
    ----------
    answered, to_ask
        Questions.
    failed
        Questions that were asked and got no answer; among those to ask, unless they failed in `MOST_TRIES` runs.
    damaged
        Answers that are kept and cannot be read: they count as failed, and are asked again once they are forgotten.
    cost
        USD for those to ask: from the answers' mean where there are some, else from the lengths of the prompts.
    measured
        Whether it rests on answers.
    """

    answered: int
    to_ask: int
    cost: float
    measured: bool
    failed: int = 0
    damaged: int = 0


def sample(dataset: Dataset, split: Split, n: int) -> Rows:
    """Return `n` rows, stratified by side of the split and label, in an order of which every beginning is so too.

    The same rows at every call, and those of a smaller `n` among them.
    """
    side = np.zeros(dataset.n_rows, dtype=np.int64)
    side[split.test] = 1
    stratum = side * len(dataset.classes) + dataset.truth
    order = np.lexsort((dataset.key, stratum))  # within a stratum by a hash of the text: as good as random
    size = np.bincount(stratum)[stratum[order]]
    first = np.searchsorted(stratum[order], stratum[order])
    place = (np.arange(dataset.n_rows) - first + 0.5) / size
    chosen: Rows = order[np.lexsort((dataset.key[order], place))][:n]
    return chosen


def questions(settings: LLMSettings, dataset: Dataset, split: Split, n: int) -> Questions:
    """Write the questions about a sample of `n` rows.

    Raises
    ------
    TierError
        If the dataset has no texts.
    """
    if dataset.texts is None:
        raise TierError("There are no texts to ask an LLM about: load data with a text column.")
    rows = sample(dataset, split, n)
    labels = [dataset.classes[c] for c in dataset.truth]
    near = examples_for_rows(list(dataset.texts), labels, dataset.group, split.fold, rows.tolist(), settings.examples)
    requests = tuple(
        settings.request(dataset.texts[i], dataset.classes, shown) for i, shown in zip(rows, near, strict=True)
    )
    keys = tuple(settings.question_key(r) for r in requests)
    run = f"{settings.role}|{settings.model}|{settings.base_url}|{dataset.fingerprint}"
    return Questions(settings, dataset.classes, rows, requests, keys, run)


def replies(asked: Questions, store: AnswerStore) -> list[Reply | None]:
    """Return what is kept for each row, why it failed if it did; None where it was not asked."""
    kept = {key: text for key, (text, _) in store.failed(asked.keys).items()} | store.get(asked.keys)
    read = {key: Reply.from_json(text) for key, text in kept.items()}
    return [read.get(key) for key in asked.keys]


def forget_damaged(asked: Questions, store: AnswerStore) -> None:
    """Drop the kept answers that cannot be read, so that they are asked, and paid for, again."""
    kept = store.get(asked.keys)
    store.forget([key for key, text in kept.items() if Reply.from_json(text).kind == DAMAGED])


def estimate(asked: Questions, store: AnswerStore) -> Estimate:
    """Say what asking the questions that are still open will cost."""
    kept = {key: Reply.from_json(text) for key, text in store.get(asked.keys).items()}
    failed = store.failed(asked.keys)
    settings = asked.settings
    open_ = open_questions(asked, store)
    read = [r for r in kept.values() if r.kind != DAMAGED]
    paid = [settings.cost(r.prompt_tokens, r.completion_tokens, r.cached_tokens) for r in read]
    each = [float(np.mean(paid))] * len(open_) if paid else [settings.most(r) for r in open_.values()]
    return Estimate(len(kept), len(open_), float(sum(each)), bool(paid), len(failed), len(kept) - len(read))


def open_questions(asked: Questions, store: AnswerStore) -> dict[str, dict[str, Any]]:
    """Return the questions to ask, by key: those without an answer that have not failed in too many runs."""
    kept, failed = store.get(asked.keys), store.failed(asked.keys)
    spent = {key for key, (_, tries) in failed.items() if tries >= MOST_TRIES}
    pairs = zip(asked.keys, asked.requests, strict=True)
    return {key: request for key, request in pairs if key not in kept and key not in spent}


def failed_reply(error: CallError, request: Mapping[str, Any]) -> Reply:
    """Return a failed question as a row of the table keeps it, with what its calls may have cost."""
    prompt = guess_tokens(request) if error.lost else 0
    return Reply(error.kind, error.says, None, prompt, 0, True, None, lost=max(0, error.lost - 1))


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a recording is.

    Parameters
    ----------
    state
        ``running``, ``paused``, ``stopping`` (waits for calls in flight), ``done``, ``stopped`` (see `message`) or
        ``cancelled``.
    total, done
        Questions; `done` counts those that were answered before.
    asked
        Answered by this job.
    failed
        Failed calls of this job by kind, those that went well at another try included.
    unusable
        Answers of this job without a usable label, by kind.
    given_up
        Questions without an answer, after all tries.
    without
        Parameters that the model refused, so that it is asked without them.
    spending
        Of the run, all sessions together.
    rate
        Answers a second, by this job while it ran.
    """

    state: str
    total: int
    done: int
    asked: int
    failed: Mapping[str, int]
    unusable: Mapping[str, int]
    given_up: int
    spending: Spending
    rate: float
    message: str = ""
    without: tuple[str, ...] = ()

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None while there is none."""
        return (self.total - self.done) / self.rate if self.rate else None


class RecordingJob:
    """Asks questions in a thread of its own, and keeps each answer at once.

    Parameters
    ----------
    key
        Of the server; held in memory only.
    cap
        USD for the run, what it cost in earlier sessions included. It is not exceeded by more than the difference
        between what the calls in flight cost and what they were expected to cost at most.
    path
        Of the store.
    """

    def __init__(self, asked: Questions, key: str | None, *, cap: float, path: str | Path | None = None) -> None:
        self.questions = asked
        self._key, self._cap, self._path = key, cap, path
        self._lock = threading.Lock()
        self._state, self._message = RUNNING, ""
        self._total = len(set(asked.keys))
        self._before = self._asked = self._given_up = self._in_a_row = self._flying = 0
        self._failed: Counter[str] = Counter()
        self._unusable: Counter[str] = Counter()
        self._streak: list[tuple[str, Reply]] = []  # failed since the last answer: the row's fault, or the server's
        self._without: tuple[str, ...] = ()
        self._spending = Spending()
        self._worked, self._since = 0.0, time.monotonic()
        self._thread = threading.Thread(target=self._run, name="llm-recording", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; returns whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def pause(self) -> None:
        """Take no new question until `resume`; calls in flight are finished."""
        with self._lock:
            if self._state == RUNNING:
                self._state, self._worked = PAUSED, self._worked + time.monotonic() - self._since

    def resume(self) -> None:
        with self._lock:
            if self._state == PAUSED:
                self._state, self._since = RUNNING, time.monotonic()

    def cancel(self) -> None:
        """Take no new question, finish the calls in flight, and end."""
        self._end(CANCELLED, "Cancelled. Every answer is kept: start again to go on.")

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def progress(self) -> JobProgress:
        """Return how far it is; from any thread."""
        with self._lock:
            worked = self._worked + (time.monotonic() - self._since if self._state == RUNNING else 0.0)
            ended = self._state in (CANCELLED, STOPPED) and self._thread.is_alive()
            return JobProgress(
                STOPPING if ended else self._state,
                self._total,
                self._before + self._asked,
                self._asked,
                dict(self._failed),
                dict(self._unusable),
                self._given_up,
                self._spending,
                self._asked / worked if worked else 0.0,
                self._message,
                self._without,
            )

    def run(self) -> JobProgress:
        """Ask in this thread, and wait for the end."""
        self._run()
        return self.progress()

    def _run(self) -> None:
        try:
            with AnswerStore(self._path) as store:
                asyncio.run(self._record(store))
        except HybridError as error:
            self._end(STOPPED, str(error))
        except Exception as error:  # a thread has nobody above it: say it on the page instead of dying silently
            logging.getLogger(__name__).exception("The recording ended by a fault")
            self._end(STOPPED, f"The recording ended by a fault ({type(error).__name__}). Every answer is kept.")
        n = self._given_up
        again = f"They count as failed; start again to repeat them, in up to {MOST_TRIES} runs."
        self._end(DONE, f"{n} questions got no answer. {again}" if n else "")

    def _end(self, state: str, message: str) -> None:
        with self._lock:
            if self._state in (RUNNING, PAUSED):
                if self._state == RUNNING:
                    self._worked += time.monotonic() - self._since
                self._state, self._message = state, message

    @property
    def _going(self) -> bool:
        return self._state in (RUNNING, PAUSED)

    async def _record(self, store: AnswerStore) -> None:
        asked = self.questions
        todo = deque(open_questions(asked, store).items())
        with self._lock:
            self._before = self._total - len(todo)
            self._spending = store.spending(asked.run)
        if not todo:
            return
        async with LLMClient(asked.settings, self._key) as client:
            workers = [self._work(todo, client, store) for _ in range(asked.settings.concurrency)]
            ends = await asyncio.gather(*workers, return_exceptions=True)  # what is in flight was paid: it is kept
            self._without = client.without
        fault = next((end for end in ends if end is not None), None)
        if fault is not None:
            raise fault
        if self._state != STOPPED:
            if not self._asked:  # then a server that is down is likelier than a row that it stumbles over
                self._streak = [(key, reply) for key, reply in self._streak if reply.kind in ABOUT_THE_TEXT]
            self._note_failures(store)

    async def _work(self, todo: deque[tuple[str, dict[str, Any]]], client: LLMClient, store: AnswerStore) -> None:
        """Take one question after the other; where that ends by a fault, the others finish what they have begun."""
        try:
            await self._take(todo, client, store)
        except BaseException:
            todo.clear()
            raise

    async def _take(self, todo: deque[tuple[str, dict[str, Any]]], client: LLMClient, store: AnswerStore) -> None:
        settings, run = self.questions.settings, self.questions.run
        lease = settings.timeout * (settings.retries + 1) + LONGEST_WAIT * settings.retries + 10
        while todo and self._going:
            if self._state == PAUSED:
                await asyncio.sleep(LOOK)
                continue
            key, request = todo.popleft()
            verdict = store.claim(key, run, cost=settings.most(request), cap=self._cap, lease=lease)
            if verdict == ASK:
                await self._ask(key, request, client, store)
            elif verdict == ANSWERED:
                self._count(Reply(OK, ""), store, before=True)
            elif verdict == BUSY or self._flying:  # another process has it, or a call in flight may free some money
                todo.append((key, request))
                await asyncio.sleep(LOOK)
            else:
                spent = store.spending(run).total
                self._end(STOPPED, f"The cap of ${self._cap:,.4g} is reached (${spent:,.4g} spent). Raise it to go on.")

    async def _ask(self, key: str, request: dict[str, Any], client: LLMClient, store: AnswerStore) -> None:
        settings, run = self.questions.settings, self.questions.run
        most = settings.most(request)

        async def again(error: CallError, wait: float) -> bool:
            with self._lock:
                self._failed[error.kind] += 1
            if error.kind in MAYBE_PAID:
                store.lose(run, most)
            until = time.monotonic() + wait
            while time.monotonic() < until and self._going:
                await asyncio.sleep(min(LOOK, max(0.0, until - time.monotonic())))
            if not self._going:
                return False
            return store.spending(run).total <= self._cap

        self._flying += 1
        try:
            reply = await client.ask(request, self.questions.check, again=again)
        except CallError as error:
            store.release(key, run, lost=0.0)
            self._fail(key, error, request, store)
        except BaseException:
            store.release(key, run, lost=most)
            raise
        else:
            cost = settings.cost(reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens)
            store.settle(key, run, reply.to_json(), cost=cost)
            self._note_failures(store)
            self._without = client.without
            self._count(reply, store)
        finally:
            self._flying -= 1

    def _count(self, reply: Reply, store: AnswerStore, *, before: bool = False) -> None:
        spending = store.spending(self.questions.run)
        with self._lock:
            self._in_a_row = 0
            self._spending = spending
            if before:
                self._before += 1
            else:
                self._asked += 1
            if reply.kind != OK:
                self._unusable[reply.kind] += 1

    def _fail(self, key: str, error: CallError, request: Mapping[str, Any], store: AnswerStore) -> None:
        spending = store.spending(self.questions.run)
        if error.kind in OF_THE_ROW and self._going:  # else it was not asked to the end: it stays open
            self._streak.append((key, failed_reply(error, request)))
        with self._lock:
            self._spending = spending
            self._given_up += 1
            self._in_a_row += 1
            enough = self._in_a_row >= max(FAILURES_IN_A_ROW, 2 * self.questions.settings.concurrency)
        if error.kind in FATAL:
            self._end(STOPPED, f"{error} Every answer is kept.")
        elif enough:
            self._end(STOPPED, f"{self._in_a_row} questions in a row failed. {error} Every answer is kept.")

    def _note_failures(self, store: AnswerStore) -> None:
        """Note the failed rows once another got an answer: then it was not the server as a whole."""
        for key, reply in self._streak:
            store.fail(key, self.questions.run, reply.to_json())
        self._streak.clear()
