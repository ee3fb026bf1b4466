"""Reference: what labelled texts looked like when a bundle was exported, as counts that production is compared with.

Where the categories of a count end is taken from the tune rows, and what is counted are the test rows: the comparison
is exact only if the two do not depend on each other. Of texts there are ten numbers each (its length, how unusual its
words are for the tune rows, and eight fixed random sums over them), of which a log keeps which tenth of the tune rows
they fall into: ten digits, from which no text can be read.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, ValidationError

from hybrid.errors import BundleError
from hybrid.metrics.sequential import PARTS
from hybrid.routing.engine import Outcomes, Policy, answering
from hybrid.routing.table import UNKNOWN, Floats, Labels, Rows
from hybrid.tiers.words import words

FILE = "reference.json"
BUCKETS = 4_096  # of hashed words
SUMS = 8  # random ones, over the words of a text
FEATURES = ("length", "unusual words", *(f"word mix {k + 1}" for k in range(SUMS)))
TENTHS = 10
CONFIDENCES = 20  # categories of confidence
MOST_GROUPS = 32  # of classes; the rare ones are one
MOST_TEXTS = 5_000  # of either side, whose words are counted
LEAST_SHARE = 0.01  # of the range of p-values, that a bet is laid on


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Counts(_Strict):
    """One count of the reference.

    `edges` are where categories end, of a number; empty for others. `expected` are the shares on the tune side, by
    which bets are laid; `counts` are the rows of the side that production is compared with.
    """

    edges: list[StrictFloat] = Field(default=[], max_length=1_000)
    expected: list[StrictFloat] = Field(min_length=1, max_length=1_000)
    counts: list[StrictInt] = Field(min_length=1, max_length=1_000)

    def code(self, values: Floats) -> Labels:
        """Return the category of each number."""
        return np.searchsorted(np.array(self.edges), values, side="right").astype(np.int64)

    def cuts(self) -> Floats:
        """Return where the parts end that bets are laid on: neighbouring categories, each at least a tenth or alone."""
        ends, since = [], 0.0
        for share in self.expected:
            if share >= 1 / PARTS and since >= LEAST_SHARE:
                ends.append(since)
                since = 0.0
            since += share
            if since >= 1 / PARTS:
                ends.append(since)
                since = 0.0
        share_of = np.maximum([*ends, since] if since > LEAST_SHARE or len(ends) < 2 else ends, LEAST_SHARE)
        found: Floats = np.cumsum(share_of) / np.sum(share_of)
        found[-1] = 1.0
        return found


class Reference(_Strict):
    """What production is compared with.

    `rows` of the `side`; `tier` is the first that gives labels, whose `confidence` is counted. `classes` counts groups
    of classes: `group` names the group of each class, and the last one is of no class. `seen` holds how many of `of`
    tune texts have a word of each bucket, and `texts` one count for each of `FEATURES`; empty without texts.
    """

    rows: StrictInt
    side: str = Field(max_length=100)
    tier: str
    escalation: Counts
    confidence: Counts
    classes: Counts | None = None
    group: list[StrictInt] = Field(default=[], max_length=20_000)
    seen: list[StrictInt] = Field(default=[], max_length=BUCKETS)
    of: StrictInt = 0
    texts: list[Counts] = Field(default=[], max_length=len(FEATURES))

    def digits(self, texts: Sequence[str]) -> list[str]:
        """Return for each text in which tenth of the tune texts each of its numbers lies, a digit each."""
        numbers = features(texts, np.array(self.seen, dtype=np.float64), self.of)
        codes = np.stack([c.code(numbers[:, k]) for k, c in enumerate(self.texts)], axis=1)
        return ["".join(map(str, row)) for row in codes.tolist()]

    def groups_of(self, labels: Labels) -> Labels:
        """Return the group of each label, `UNKNOWN` among them."""
        return np.array([*self.group, max(self.group) + 1], dtype=np.int64)[np.maximum(labels, UNKNOWN)]


Side = tuple[Outcomes, Sequence[str] | None]
"""What a policy decides about some rows, and their texts; None where there are none."""


def watched(policy: Policy) -> str:
    """Return the tier whose confidence is compared: the first that gives labels, for a gate tells little of a text."""
    return answering(policy.tiers)[0].name


def fit_reference(policy: Policy, tune: Side, counted: Side, *, n_classes: int, side: str = "test") -> Reference:
    """Count what labelled rows look like.

    Parameters
    ----------
    tune
        Where categories come from; no row of it is among `counted`.
    counted
        Rows that production's are to be like, decided by the models that ship.
    """
    first = policy.names.index(watched(policy))

    def sent(o: Outcomes) -> Labels:
        return o.asked[:, -1].astype(np.int64)

    def sure(o: Outcomes) -> Floats:
        values: Floats = o.seen.confidence[:, first]
        return values[~np.isnan(values)]

    often = np.bincount(tune[0].label[tune[0].label >= 0], minlength=n_classes)
    group = np.zeros(n_classes, dtype=np.int64)  # the rare ones first, then from rare to frequent
    own = np.argsort(often, kind="stable")[-(MOST_GROUPS - 1) :] if n_classes >= MOST_GROUPS else np.argsort(often)
    group[own] = np.arange(len(own)) + (1 if len(own) < n_classes else 0)
    coded = np.append(group, group.max() + 1)

    def grouped(o: Outcomes) -> Labels:
        return np.asarray(coded[np.maximum(o.label, UNKNOWN)])

    seen, of, texts = np.zeros(0, dtype=np.int64), 0, []
    if tune[1] is not None and counted[1] is not None:
        some = [given[:: max(1, len(given) // MOST_TEXTS)] for given in (tune[1], counted[1])]
        seen, of = _buckets(some[0]), len(some[0])
        before, now = (features(given, seen.astype(np.float64), of) for given in some)
        texts = [_numbers(before[:, k], now[:, k], TENTHS) for k in range(len(FEATURES))]
    return Reference(
        rows=len(counted[0].label),
        side=side,
        tier=watched(policy),
        escalation=_counts(sent(tune[0]), sent(counted[0]), 2),
        confidence=_numbers(sure(tune[0]), sure(counted[0]), CONFIDENCES),
        classes=_counts(grouped(tune[0]), grouped(counted[0]), int(coded.max()) + 1),
        group=group.tolist(),
        seen=seen.tolist(),
        of=of,
        texts=texts,
    )


def _counts(tune: Labels, counted: Labels, n: int, edges: Floats | None = None) -> Counts:
    return Counts(
        edges=[] if edges is None else edges.tolist(),
        expected=(np.bincount(tune, minlength=n) / len(tune)).tolist() if len(tune) else [1 / n] * n,
        counts=np.bincount(counted, minlength=n).tolist(),
    )


def _numbers(tune: Floats, counted: Floats, n: int) -> Counts:
    """Count numbers by the quantiles of the tune side."""
    edges = np.unique(np.quantile(tune, np.arange(1, n) / n)) if len(tune) else np.zeros(0)
    tuned, now = (np.searchsorted(edges, values, side="right") for values in (tune, counted))
    return _counts(tuned, now, len(edges) + 1, edges)


def features(texts: Sequence[str], seen: Floats, of: int) -> NDArray[np.float64]:
    """Return the numbers of texts, shape ``(n_texts, len(FEATURES))``.

    Parameters
    ----------
    seen, of
        How many of `of` tune texts have a word of each bucket: rare words weigh more, and unseen ones are unusual.
    """
    weight = -np.log((seen + 0.5) / (of + 1))
    found = np.zeros((len(texts), len(FEATURES)))
    for row, text in enumerate(texts):
        hashes = _hashes(text)
        if not len(hashes):
            continue
        w = weight[hashes % BUCKETS]
        signs = ((hashes[:, None] >> (12 + np.arange(SUMS))) & 1) * 2 - 1
        found[row, 0] = len(hashes)
        found[row, 1] = w.mean()
        found[row, 2:] = w @ signs / max(np.sqrt(w @ w), 1e-9)
    return found


def _hashes(text: str) -> Rows:
    return np.array([zlib.crc32(word.encode(errors="replace")) for word in words(text)], dtype=np.int64)


def _buckets(texts: Sequence[str]) -> Rows:
    found = np.zeros(BUCKETS, dtype=np.int64)
    for text in texts:
        found[np.unique(_hashes(text) % BUCKETS)] += 1
    return found


def read_reference(files: Mapping[str, bytes], n_classes: int) -> Reference | None:
    """Return a bundle's reference; None where it has none, as those that were exported before there was any.

    Raises
    ------
    BundleError
        If it does not fit together.
    """
    if FILE not in files:
        return None
    try:
        found = Reference.model_validate_json(files[FILE])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the top"
        raise BundleError(f"{FILE}, {where}: {first['msg']}. Export the bundle again.") from error
    groups = 0 if found.classes is None else len(found.classes.counts) - 1
    if (
        any(_odd(c) for c in (found.escalation, found.confidence, *found.texts, *filter(None, [found.classes])))
        or len(found.escalation.counts) != 2
        or any(len(c.edges) + 1 != len(c.counts) for c in (found.confidence, *found.texts))
        or any(len(c.counts) > TENTHS for c in found.texts)
        or (found.classes is not None and (len(found.group) != n_classes or max(found.group) != groups - 1))
        or any(g < 0 for g in found.group)
        or (found.texts and (len(found.texts) != len(FEATURES) or len(found.seen) != BUCKETS))
        or found.of < 0
        or any(not 0 <= n <= found.of for n in found.seen)
    ):
        raise BundleError(f"{FILE} is damaged: its counts do not fit together. Export the bundle again.")
    return found


def _odd(c: Counts) -> bool:
    return (
        len(c.expected) != len(c.counts)
        or any(n < 0 for n in c.counts)
        or any(not 0 <= s <= 1 for s in c.expected)
        or any(a >= b for a, b in pairwise(c.edges))
        or not 0.99 < sum(c.expected) < 1.01
    )


def packed(reference: Reference) -> dict[str, bytes]:
    """Return the file that `read_reference` reads."""
    plain: dict[str, Any] = reference.model_dump()
    return {FILE: json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()}
