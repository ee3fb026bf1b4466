"""Support run: tickets from the page or the data through the pipeline; results are kept by what made them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from hybrid.dashboard import trying
from hybrid.dashboard.inert import inert
from hybrid.dashboard.working import run_cancellable
from hybrid.errors import HybridError
from hybrid.production.runtime import Decision, Runtime
from hybrid.routing.engine import Policy, replay
from hybrid.study.study import Study
from hybrid.support import Extraction, Extractor, SupportConfig, SupportPipeline, TicketAnalysis
from hybrid.support.pipeline import CHUNK, Progress

AT_ONCE = 2_000  # tickets that are analysed without being asked to, where no LLM has to be paid for it
KEEP = 6  # results of a session
CHUNK_LLM = 8  # tickets between two looks at Cancel, where an LLM takes seconds for each
SEPARATOR = "---"
NOT_YET = "The LLM has not read this ticket yet: run the batch."

Pairs = tuple[tuple[str, str], ...]  # id and text


@dataclass(frozen=True, slots=True)
class Batch:
    """Tickets, and how they were classified if that is known already."""

    tickets: Pairs
    decisions: tuple[Decision, ...] | None = None

    @property
    def key(self) -> str:
        return hashlib.sha256(repr(self.tickets).encode()).hexdigest()


def typed(text: str) -> Batch:
    """Return tickets as they were pasted: one a line; where lines of --- stand between them, all lines between."""
    lines = text.splitlines()
    if any(line.strip() == SEPARATOR for line in lines):
        parts = "\n".join("\0" if line.strip() == SEPARATOR else line for line in lines).split("\0")
    else:
        parts = lines
    texts = [part.strip() for part in parts if part.strip()]
    return Batch(tuple((str(i), t) for i, t in enumerate(texts, 1)))


def from_data(study: Study, policy: Policy, side: str, n: int) -> Batch:
    """Return the first tickets of one side of the data, classified as every other page classifies them."""
    return _from_data(study.token, repr(policy), side, n, study, policy)


@st.cache_data(scope="session", max_entries=4, show_spinner=False)
def _from_data(key: str, policy: str, side: str, n: int, _study: Study, _policy: Policy) -> Batch:
    on = _study.measure(_policy, side).graded
    dataset = _study.dataset
    assert dataset.texts is not None
    rows, ids = on.rows[:n], dataset.ids
    outcomes = replay(_policy, on.predictions.take(np.arange(len(rows))))
    decisions = trying.runtime(_study, _policy).explain(outcomes)
    return Batch(tuple((str(ids[i]), str(dataset.texts[i])) for i in rows), tuple(decisions))


class Kept:
    """An extractor that remembers what was read, and asks only when it may.

    Parameters
    ----------
    llm
        Whom to ask.
    kept
        What was read so far, by text; failures are not kept.
    may_ask
        Whether an unread ticket is read now; otherwise rules read it, and it says so.
    """

    def __init__(self, llm: Extractor, kept: dict[str, Extraction], *, may_ask: bool) -> None:
        self._llm, self._kept, self._may_ask = llm, kept, may_ask

    @property
    def name(self) -> str:
        return self._llm.name

    async def extract(self, texts: Sequence[str]) -> list[Extraction]:
        found = {t: self._kept[t] for t in texts if t in self._kept}
        new = [t for t in dict.fromkeys(texts) if t not in found]
        if new and self._may_ask:
            for text, extraction in zip(new, await self._llm.extract(new), strict=True):
                found[text] = extraction
                if extraction.insight is not None:
                    self._kept[text] = extraction
        return [found.get(t) or Extraction((), problem=NOT_YET) for t in texts]


def analyse(
    runtime: Runtime,
    config: SupportConfig,
    batch: Batch,
    *,
    llm: Extractor | None = None,
    progress: Progress | None = None,
) -> list[TicketAnalysis]:
    """Analyse tickets, as production would; the session stays as it is, so this may run in another thread."""
    flow = SupportPipeline(runtime, config, llm=llm)
    decisions = batch.decisions
    if decisions is None:
        decisions = tuple(runtime.decide([text for _, text in batch.tickets]))
    size = CHUNK if llm is None else CHUNK_LLM
    done: list[TicketAnalysis] = []
    for start in range(0, len(batch.tickets), size):
        part = slice(start, start + size)
        done += asyncio.run(flow.complete(batch.tickets[part], decisions[part]))
        if progress is not None:
            progress(len(done), len(batch.tickets))
    return done


def kept_results() -> dict[str, list[TicketAnalysis]]:
    """Return the session's results, by what made them; the latest few."""
    results: dict[str, list[TicketAnalysis]] = st.session_state.setdefault("support_results", {})
    return results


def key_of(study: Study, policy: Policy, config: SupportConfig, batch: Batch, llm: str) -> str:
    """Tell results apart by all that they rest on."""
    parts = (study.token, repr(policy), config.model_dump_json(), batch.key, llm)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def with_progress(key: str, work: Callable[[Progress], list[TicketAnalysis]]) -> list[TicketAnalysis] | None:
    """Run a batch under a progress bar with a button that cancels it, and keep its results.

    Returns
    -------
    list of TicketAnalysis, or None
        None where it could not be done; the page says why.
    """
    try:
        analyses = run_cancellable(
            lambda report: work(lambda n, of: report(n / max(of, 1), f"{n:,} of {of:,} tickets")),
            flag="support_running",
            key="cancel_batch",
            doing="0 of 1 tickets",
        )
    except HybridError as error:
        st.error(inert(error), icon=":material/error:")
        return None
    results = kept_results()
    results[key] = analyses
    while len(results) > KEEP:
        del results[next(iter(results))]
    return results[key]
