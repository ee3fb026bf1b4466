"""LLM asking: production's way to an LLM tier; no call that fails takes others with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import numpy as np

from hybrid.errors import BundleError
from hybrid.routing.table import UNKNOWN, Answers
from hybrid.tiers.llm.client import CallError, LLMClient
from hybrid.tiers.llm.replies import GateSaid
from hybrid.tiers.llm.tier import LLMTier
from hybrid.tiers.servers import KEY_VARIABLE, URL_VARIABLE


class Asked(NamedTuple):
    """One answer a text, in order, why a text got none, and what a gate gave as its reason."""

    answers: Answers
    failures: tuple[str | None, ...]  # a kind, as `hybrid.tiers.llm.client.MEANING` explains; None: answered
    gates: tuple[GateSaid | None, ...]
    tokens: tuple[tuple[int, int], ...]  # of the prompt and of the reply; 0 where no answer came


_One = tuple[Answers, str | None, GateSaid | None, tuple[int, int]]


class LLMAsker:
    """Asks one LLM tier, so many calls at a time, over connections that stay open within an event loop.

    Raises
    ------
    BundleError
        If the tier's server needs a key and the environment holds none.
    """

    def __init__(self, model: LLMTier) -> None:
        settings = model.settings
        self.model = model
        self._key = settings.key()
        if self._key is None and urlsplit(settings.base_url).scheme == "https":
            raise BundleError(
                f"This policy asks {settings.name!r} at {settings.base_url}: put its key into the environment variable "
                f"{settings.key_variable}{_other_server(settings.key_variable)}, or supply a function: "
                f"hybrid.load(path, models={{{settings.name!r}: function}})."
            )
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[LLMClient, asyncio.Semaphore]]
        self._open = WeakKeyDictionary()

    async def ask(self, texts: Sequence[str], *, until: float | None) -> Asked:
        """Ask about texts.

        Parameters
        ----------
        until
            `time.monotonic` at which calls are given up; None, never.
        """
        found = await asyncio.gather(*(self._one(text, until) for text in texts))
        answers = [one[0] for one in found]
        columns = [np.concatenate([getattr(a, f) for a in answers]) for f in ("label", "confidence", "cost", "latency")]
        failures, gates, tokens = (tuple(one[k] for one in found) for k in (1, 2, 3))
        return Asked(Answers(*columns), failures, gates, tokens)  # type: ignore[arg-type]

    async def close(self) -> None:
        """Close the connections of the running loop."""
        opened = self._open.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened[0].close()

    async def _one(self, text: str, until: float | None) -> _One:
        start = time.monotonic()
        request = self.model.request(text)
        client, room = self._connection()
        sent = False
        try:
            async with asyncio.timeout(None if until is None else until - start), room:
                sent = True
                reply = await client.ask(request, self.model.check)
        except CallError as error:
            failure, lost = error.kind, error.lost
        except TimeoutError:
            failure, lost = "deadline", int(sent)
        else:
            said = self.model.answers([reply])
            waited = np.array([time.monotonic() - start])
            answers = Answers(said.label, said.confidence, said.cost, waited)
            spent = (1 + reply.lost) * reply.prompt_tokens, (1 + reply.lost) * reply.completion_tokens
            return answers, None, self.model.gate_said(reply), spent
        cost = np.array([lost * self.model.settings.most(request)])
        nothing = np.array([UNKNOWN], dtype=np.int64)
        return Answers(nothing, np.zeros(1), cost, np.array([time.monotonic() - start])), failure, None, (0, 0)

    def _connection(self) -> tuple[LLMClient, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        if loop not in self._open:
            settings = self.model.settings
            client = LLMClient(settings, self._key, without=self.model.without)
            self._open[loop] = client, asyncio.Semaphore(settings.concurrency)
        return self._open[loop]


def _other_server(variable: str) -> str:
    if variable != KEY_VARIABLE:
        return ""
    return f" (it goes to OpenAI, or to the server that {URL_VARIABLE} names, alone)"
