"""Split: which rows thresholds are chosen on and which they are reported on, and the folds; no group is torn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybrid.data.dataset import Dataset
from hybrid.data.notes import plural
from hybrid.errors import DatasetError
from hybrid.routing.table import Rows

SIDES = ("tune", "test")
FOLD_ROWS = 30_000  # rows fitted on in all folds together, above which there are fewer folds
LEAST_FOLDS, MOST_FOLDS = 5, 20


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Which rows thresholds are chosen on and which they are reported on.

    Parameters
    ----------
    tune, test
        Row indices, ascending.
    fold
        Shape ``(n_rows,)``: the fold in which a tune row is held out, -1 for test rows.
    given
        True where the file's own split was honoured.
    """

    tune: Rows
    test: Rows
    fold: NDArray[np.int64]
    given: bool

    def side(self, name: str) -> Rows:
        """Return the rows of "tune" or of "test"."""
        if name not in SIDES:
            raise DatasetError(f"A side is tune or test, not {name!r}.")
        return self.tune if name == "tune" else self.test


def split(dataset: Dataset, *, test_share: float = 0.3, n_folds: int | None = None, seed: int = 0) -> Split:
    """Split rows into tune and test, and the tune rows into folds; a group stays together.

    Stratified by label and by which recorded tiers answered. A class keeps at least one group on the tune side.
    In a split that the file gives, a group may lie on both sides (see the dataset's notes), but never in two folds.

    Parameters
    ----------
    test_share
        Of the groups, where the file gives no split.
    n_folds
        At most; no more than there are groups. None: 20 where there are few rows, down to 5 where fitting takes long.
        The shipped model is fitted on all tune rows, those that grade on one fold less: with 20 they are closer.

    Raises
    ------
    DatasetError
        If a side would be empty or the tune side would have one class.
    """
    _, first, member = np.unique(dataset.group, return_index=True, return_inverse=True)
    answered = dataset.recorded.asked @ (1 << np.arange(len(dataset.recorded.tiers)))
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(first))
    order = shuffled[np.lexsort((answered[first[shuffled]], dataset.truth[first[shuffled]]))]
    if dataset.given_split is None:
        on_test = np.zeros(len(first), dtype=bool)
        stratum = np.column_stack([dataset.truth[first[order]], answered[first[order]]])
        starts = np.flatnonzero(np.r_[True, (np.diff(stratum, axis=0) != 0).any(axis=1)])
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            on_test[order[start : start + round(test_share * (end - start))]] = True
        for code in np.unique(dataset.truth[first]):
            own = order[dataset.truth[first[order]] == code]
            if on_test[own].all():
                on_test[own[0]] = False
        test = on_test[member]
    else:
        test = dataset.given_split == "test"
    tune_groups = order[np.isin(order, member[~test])]
    if n_folds is None:
        n_folds = min(MOST_FOLDS, max(LEAST_FOLDS, FOLD_ROWS // max(int(np.sum(~test)), 1)))
    n_folds = max(2, min(n_folds, len(tune_groups)))
    fold_of_group = np.full(len(first), -1)
    fold_of_group[tune_groups] = np.arange(len(tune_groups)) % n_folds
    fold = np.where(test, -1, fold_of_group[member])
    if not test.any() or test.all() or len(tune_groups) < 2:
        raise DatasetError(
            f"{dataset.n_rows:,} rows in {plural(len(first), 'group', 'groups')} cannot be split into tune and test. "
            "Rows whose texts are equal but for case, digits and punctuation, or that share a group, stay together: "
            "add rows with other texts, or pick no group column."
        )
    if len(np.unique(dataset.truth[~test])) < 2:
        raise DatasetError("The tune side has one class only: add rows of another class to it.")
    return Split(np.flatnonzero(~test), np.flatnonzero(test), fold.astype(np.int64), dataset.given_split is not None)
