"""Traffic: a made-up log of sixty days, drawn from test rows, to see what watching looks like; always labelled so."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from hybrid.errors import StudyError
from hybrid.production.archive import digest_of, read_files
from hybrid.production.bundle import load_bundle
from hybrid.production.feedback import Correction
from hybrid.production.watching import Decisions, cost_verdict, watch
from hybrid.routing.engine import Policy
from hybrid.study.corrections import review
from hybrid.study.watching import Observed, Watched

if TYPE_CHECKING:
    from hybrid.study.study import Study

DAYS, CHANGES_ON = 60, 35
A_DAY = 200
REVIEWED = 0.05  # of the decisions
HARDER = 0.3  # of the texts after the change are ones that a tier before the last answers wrongly


def simulated(study: Study, policy: Policy, *, seed: int = 0) -> Observed:
    """Draw sixty days of test rows at random; from the 36th on, more of the texts are ones that go wrong.

    Raises
    ------
    StudyError
        If there is no test row with an answer of every tier of the policy.
    """
    on = study.measure(policy, "test").graded
    if not len(on):
        raise StudyError("No test row has an answer from every tier of this policy, so no traffic can be made up.")
    content = study.export(policy)
    bundle, digest = load_bundle(content), digest_of(content)
    rng, o = np.random.default_rng(seed), on.outcomes(policy)
    wrong = o.label != on.truth
    hard = np.flatnonzero(wrong & ~o.asked[:, -1])
    hard = hard if len(hard) else np.flatnonzero(wrong | o.asked[:, -1])
    day = np.sort(rng.integers(0, DAYS, DAYS * A_DAY))
    rows = rng.integers(0, len(on), len(day))
    if len(hard):
        late = (day >= CHANGES_ON) & (rng.random(len(day)) < HARDER)
        rows[late] = rng.choice(hard, int(late.sum()))
    today = datetime.datetime.now(datetime.UTC).date()
    days = tuple(today - datetime.timedelta(days=DAYS - k) for k in range(DAYS))
    first = datetime.datetime.combine(days[0], datetime.time(), datetime.UTC).timestamp()
    texts = [str(t) for t in (study.dataset.texts if study.dataset.texts is not None else study.dataset.ids)[on.rows]]
    said = o.seen.take(rows)
    ids = tuple(f"simulated-{k}" for k in range(len(day)))
    drawn = rng.random(len(day)) < REVIEWED
    digits = np.zeros((len(texts), 0), dtype=np.int64)
    if bundle.reference is not None and bundle.reference.texts:
        digits = np.array([list(map(int, d)) for d in bundle.reference.digits(texts)], dtype=np.int64)
    decisions = Decisions(
        first + day * 86_400.0 + np.sort(rng.random(len(day))) * 86_000,
        day,
        days,
        ids,
        pa.chunked_array([pa.array([texts[int(i)] for i in rows], pa.string())]),
        frozenset({"live"}),
        o.label[rows],
        np.full(len(day), -1, dtype=np.int64),
        o.tier[rows],
        o.cost[rows],
        o.latency[rows] * rng.lognormal(0, 0.3, len(day)),
        np.zeros(len(day), dtype=bool),
        said,
        np.where(drawn, REVIEWED, 0.0),
        digits[rows],
    )
    corrections = [
        Correction(ids[int(k)], study.classes[on.truth[rows[k]]], "review", float(decisions.at[k]))
        for k in np.flatnonzero(drawn)
        if rng.random() < 0.9  # a few are not done yet
    ]
    seen = watch(decisions, bundle, title=f"simulated@{digest}")
    judged = review(decisions, bundle, corrections)
    one = Watched(read_files(content), digest, bundle, decisions, seen, judged, cost_verdict(decisions, bundle))
    return Observed(Path("simulated traffic, which is nowhere"), (one,), None, {})
