"""Watching in one call: a log's folder, or a running server on this machine, and its bundles → everything there is."""

from __future__ import annotations

import datetime
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hybrid.data import foreign
from hybrid.errors import HybridError
from hybrid.production.archive import digest_of, read_files
from hybrid.production.bundle import Bundle, load_bundle
from hybrid.production.feedback import Correction, Feedback
from hybrid.production.log import read_log
from hybrid.production.trial import Trial, compare
from hybrid.production.watching import (
    YEARLY,
    Decisions,
    Watch,
    bundles_in,
    cost_verdict,
    decisions_of,
    summary_lines,
    watch,
)
from hybrid.study.corrections import Review, corrected, review

TOKENS_VARIABLE = "HYBRID_SERVE_TOKENS"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PATIENCE = 5.0  # seconds that a server is waited for


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """One bundle in production.

    Parameters
    ----------
    files
        Of the bundle.
    digest
        By which the log names it.
    cost
        What there is to say where texts cost more than was promised; None where there is not.
    """

    files: dict[str, bytes]
    digest: str
    bundle: Bundle
    decisions: Decisions
    watch: Watch
    review: Review
    cost: str | None

    def new_bundle(self, *, on: datetime.date) -> bytes:
        """Return a bundle with the threshold that the reviewed decisions prove.

        Raises
        ------
        StudyError
            If none is proven.
        """
        return corrected(self.files, self.bundle, self.decisions, self.review, digest=self.digest, on=on.isoformat())

    @property
    def lines(self) -> list[str]:
        """Return all of it in lines for the terminal."""
        r, said = self.review, summary_lines(self.watch, cost=self.cost)
        said.append(f"  corrections: {r.words}")
        if r.labelled:
            a = r.accuracy
            said.append(
                f"  accuracy {a.value:.1%} (95 % at all times: {a.low:.1%} to {a.high:.1%}), from {r.labelled:,} of "
                f"{r.drawn:,} decisions that were drawn for a review"
            )
        if r.reported:
            said.append(
                f"  {r.reported:,} reported by users, of which {r.reported_wrong:,} were wrong: no fair draw, so they "
                "count in none of these numbers"
            )
        return said


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """A log and the bundles that were asked about.

    Parameters
    ----------
    folder
        Of the log.
    bundles
        In the order in which they were named.
    trial
        The second against the first, where there are two; None else.
    others
        How many decisions of other bundles the log holds, by digest.
    """

    folder: Path
    bundles: tuple[Watched, ...]
    trial: Trial | None
    others: dict[str, int]

    def reviewed_again(self) -> Observed:
        """Return the same with the corrections of now; the log itself is not read again."""
        said = Feedback(self.folder).read()
        bundles = tuple(replace(w, review=review(w.decisions, w.bundle, said)) for w in self.bundles)
        return replace(self, bundles=bundles, trial=_trial(bundles, said))

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "log": str(self.folder),
            "bundles": [
                w.watch.plain() | {"corrections": w.review.plain(w.decisions), "cost": w.cost} for w in self.bundles
            ],
            "trial": None if self.trial is None else self.trial.plain(),
            "other_bundles": self.others,
        }


def observe(source: str, bundles: Sequence[str] = (), *, alpha: float = YEARLY, strange: bool = False) -> Observed:
    """Read a log and say all that there is to say of its bundles.

    Parameters
    ----------
    source
        The log's folder, or the address of a server on this machine, which says where its log and its bundles are.
    bundles
        Paths: one, or two that are compared; may be left out with a server.
    alpha
        See `hybrid.production.watching.watch`.
    strange
        Whether a stranger sent the log, see `hybrid.production.log.read_log`.

    Raises
    ------
    HybridError
        If there is no log, no bundle, or one that made none of its decisions.
    """
    if source.startswith(("http://", "https://")):
        folder, known = located(source)
        bundles = bundles or known
    else:
        folder = Path(source)
    if not bundles:
        raise HybridError("Name the bundle that decided: --bundle policy.zip.")
    if len(bundles) > 2:
        raise HybridError("One bundle is watched, or two are compared; name no more than that.")
    log, corrections = read_log(folder, strange=strange), Feedback(folder).read()
    found = []
    for path in bundles:
        bundle, digest = load_bundle(path), digest_of(path)
        decisions = decisions_of(log, bundle, digest)
        seen = watch(decisions, bundle, title=f"{Path(path).stem}@{digest}", alpha=alpha)
        said = review(decisions, bundle, corrections)
        found.append(Watched(read_files(path), digest, bundle, decisions, seen, said, cost_verdict(decisions, bundle)))
    digests = [w.digest for w in found]
    others = {digest: n for digest, n in bundles_in(log).items() if digest not in digests}
    return Observed(folder, tuple(found), _trial(found, corrections), others)


def _trial(found: Sequence[Watched], corrections: Sequence[Correction]) -> Trial | None:
    if len(found) < 2:
        return None
    a, b = found
    names = a.watch.title, b.watch.title
    return compare(a.decisions, b.decisions, corrections, names=names, classes=a.bundle.config.classes)


class _NoOtherPlace(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would take the token along."""

    def redirect_request(self, *_: Any) -> None:
        return None


def located(url: str) -> tuple[Path, tuple[str, ...]]:
    """Ask a server on this machine where its log and its bundles are.

    Raises
    ------
    HybridError
        If it is on another machine, cannot be asked, or keeps no log.
    """
    try:
        there = urllib.parse.urlsplit(url).hostname in LOOPBACK
    except ValueError as error:
        raise HybridError(f"{url!r} is no address ({error}): write http://127.0.0.1:8000.") from error
    if not there:
        raise HybridError(f"{url} is another machine, whose files are not here: name a copy of its log's folder.")
    request = urllib.request.Request(f"{url.rstrip('/')}/admin/where")
    token = os.environ.get(TOKENS_VARIABLE, "").split(",")[0].strip()
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoOtherPlace())
    try:
        with opener.open(request, timeout=PATIENCE) as answer:
            told = foreign.parse(answer.read(1 << 20))
        log, *known = (told[name] for name in ("log", "bundle", "against"))
        if not all(path is None or isinstance(path, str) for path in (log, *known)):
            raise TypeError("a path is no text")
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        why = f"it answers {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error)
        hint = f" Set {TOKENS_VARIABLE} to its token." if "401" in why else ""
        raise HybridError(f"{url} does not say where its log is ({why}); is it hybrid serve?{hint}") from error
    if log is None:
        raise HybridError(f"{url} keeps no log: start it with --log FOLDER.")
    return Path(log), tuple(path for path in known if path)
