"""Answer store: what was paid for is kept, so that no answer is paid for twice, whoever asks.

One store for all sessions and processes, of a user or of a team. Each answer is one transaction. A question in flight
is claimed first, with the most that it may cost: two processes do not ask the same question at once, and a killed one
leaves a trace of what it may have spent. No key and no text is in it: a question is known by its hash.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from hybrid.errors import StoreError
from hybrid.store.database import CLAIMING, INSERT, Database, among, answers, batches, claims, failures, in_parts, runs

ASK, ANSWERED, BUSY, SPENT = "ask", "answered", "busy", "spent"
MOST_TRIES = 3  # runs in which a question may fail before it is no longer asked


@dataclass(frozen=True, slots=True)
class Spending:
    """What a run has cost so far, in USD.

    Parameters
    ----------
    paid
        For answers.
    lost
        The most that calls without an answer may have cost: timeouts, broken connections, killed processes.
    in_flight
        The most that the calls under way may cost.
    """

    paid: float = 0.0
    lost: float = 0.0
    in_flight: float = 0.0

    @property
    def total(self) -> float:
        return self.paid + self.lost + self.in_flight


@dataclass(frozen=True, slots=True)
class _End:
    """How a claimed question ended: with a reply that cost so much, or with None and what may be lost."""

    key: str
    run: str
    reply: str | None
    cost: float
    host: str
    pid: int


_HELD: dict[str, deque[_End]] = {}  # by store: what it did not take, to be written as soon as it does


class AnswerStore(Database):
    """The answers of a store, opened.

    Parameters
    ----------
    holder
        Who claims questions: this process, unless a batch does, which outlives it.

    Raises
    ------
    StoreError
        If it cannot be opened, or is not a store that this version knows.
    """

    def __init__(self, place: str | Path | None = None, *, holder: str | None = None) -> None:
        super().__init__(place)
        self._host, self._pid = (_here(), os.getpid()) if holder is None else (holder, 0)
        self._says = _statements(self.kind)
        self._held = _HELD.setdefault(self.place, deque())
        self._swept = False  # whether the claims of the dead were looked for
        self._write_held()

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the replies that are kept, by key."""
        found: dict[str, str] = {}
        for part in in_parts(keys):
            found |= dict(self.run(_replies(len(part)), **part).fetchall())
        return found

    def failed(self, keys: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Return the questions that were asked and got no answer: why, as a reply, and in how many runs."""
        found: dict[str, tuple[str, int]] = {}
        for part in in_parts(keys):
            found |= {key: (reply, tries) for key, reply, tries in self.run(_failed(len(part)), **part).fetchall()}
        return found

    def fail(self, key: str, run: str, reply: str) -> None:
        """Note that a question was asked and got no answer; an answer at a later run takes its place."""
        with self.writing():
            self.run(self._says.fail, key=key, run=run, reply=reply, tries=1, at=time.time())

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what is kept of some questions, so that they can be asked, and paid for, again."""
        with self.writing():
            for key in sorted(keys):
                self.run(_DROP_ANSWER, gone=key)
                self.run(_DROP_FAILURE, gone=key)

    def claim(self, key: str, run: str, *, cost: float, cap: float, lease: float) -> str:
        """Take a question on, unless somebody has, or the money is spent.

        Parameters
        ----------
        cost
            The most that the call may cost, USD.
        cap
            USD for the whole run: what is paid, lost, and in flight, in every process.
        lease
            Seconds after which a claim that was not settled counts as lost, whoever holds it.

        Returns
        -------
        str
            ``ask``: it is yours, `settle` or `release` it. ``answered``, ``busy``, ``spent``: do not ask.
        """
        return self.claim_all({key: cost}, run, cap=cap, lease=lease)[key]

    def claim_all(self, costs: Mapping[str, float], run: str, *, cap: float, lease: float) -> dict[str, str]:
        """Take questions on, in their order, as far as the money goes; see `claim`."""
        self._write_held()
        now = time.time()
        with self.alone(CLAIMING):
            if not self._swept:
                self._drop_dead(now)
            found = self._verdicts(costs, run, cap)
            if self._swept and not {BUSY, SPENT}.isdisjoint(found.values()) and self._drop_dead(now):
                found = self._verdicts(costs, run, cap)
            mine = {"run": run, "host": self._host, "pid": self._pid, "until": now + lease}
            taken = [{**mine, "key": k, "cost": costs[k]} for k, verdict in found.items() if verdict == ASK]
            if len(taken) == 1:
                self.run(_CLAIM, **taken[0])
            elif taken:
                self.run_many(_CLAIM, taken)
        self._swept = True
        return found

    def _verdicts(self, costs: Mapping[str, float], run: str, cap: float) -> dict[str, str]:
        known: dict[str, str] = {}
        for part in in_parts(list(costs)):  # answers and claims in one look: a claim becomes an answer in one step
            known |= dict(self.run(_known(len(part)), **part).fetchall())
        total = self.spending(run).total
        found = {}
        for key, cost in costs.items():
            verdict = known.get(key)
            if verdict is None:
                verdict = ASK if total + cost <= cap else SPENT
                total += cost if verdict == ASK else 0.0
            found[key] = verdict
        return found

    def settle(self, key: str, run: str, reply: str, *, cost: float) -> None:
        """Keep the answer of a claimed question and what it cost.

        Raises
        ------
        StoreError
            If the store does not take it: it is then held in memory, and written when it does.
        """
        self._end(_End(key, run, reply, cost, self._host, self._pid))

    def release(self, key: str, run: str, *, lost: float) -> None:
        """Give a claimed question back unanswered; `lost` is the most that the failed calls may have cost.

        Raises
        ------
        StoreError
            If the store does not take it: it is given back when it does.
        """
        self._end(_End(key, run, None, lost, self._host, self._pid))

    def _end(self, end: _End) -> None:
        try:
            self._write(end)
        except StoreError as error:
            self._held.append(end)
            raise StoreError(
                f"{error} Answers that were paid for and not written are held in memory: start again when there is "
                "room."
            ) from error

    def _write(self, end: _End) -> None:
        with self.writing():
            if end.reply is not None:
                # another process may have asked after the lease ended: both are paid, the first answer stays
                self.run(self._says.settle, key=end.key, run=end.run, reply=end.reply, cost=end.cost, at=time.time())
                self.run(_DROP_FAILURE, gone=end.key)
            self.run(_DROP_CLAIM, gone=end.key, by=end.pid, on=end.host)
            paid, lost = (0.0, end.cost) if end.reply is None else (end.cost, 0.0)
            self.run(self._says.spend, run=end.run, paid=paid, lost=lost)

    def _write_held(self) -> None:
        """Write what the store did not take before, as far as it takes it now."""
        while self._held:
            try:
                end = self._held.popleft()
            except IndexError:  # another thread was first
                return
            try:
                self._write(end)
            except StoreError:
                self._held.appendleft(end)
                return

    def lose(self, run: str, cost: float) -> None:
        """Count a failed call that may have been charged, while its question stays claimed."""
        with self.writing():
            self.run(self._says.spend, run=run, paid=0.0, lost=cost)

    def spending(self, run: str) -> Spending:
        """Return what a run has cost so far."""
        return Spending(*self.run(_SPENDING, whose=run).fetchone())

    def begin_batch(self, token: str, run: str) -> None:
        """Note that a batch is about to be sent: a kill between sending and `name_batch` does not lose it."""
        with self.writing():
            self.run(_BEGIN_BATCH, token=token, run=run, id=None, at=time.time())

    def name_batch(self, token: str, name: str) -> None:
        """Note the server's name of a batch."""
        with self.writing():
            self.run(_NAME_BATCH, which=token, called=name)

    def end_batch(self, token: str) -> None:
        """Forget a batch, and give back the questions that it claimed and did not answer."""
        with self.writing():
            self.run(_END_BATCH, which=token)
            self.run(_DROP_CLAIMS, on=self._host)

    def batches(self, run: str) -> list[tuple[str, str | None]]:
        """Return the batches of a run that are under way: token, and the server's name for it if it is known."""
        found: list[tuple[str, str | None]] = self.run(_BATCHES, whose=run).fetchall()
        return found

    def _drop_dead(self, now: float) -> bool:
        """Turn the claims of processes that are gone, and those that are overdue, into losses; whether any was."""
        gone = False
        rows = self.run(_PERHAPS_DEAD, now=now, on=self._host, by=self._pid).fetchall()
        for key, run, cost, host, pid, until in rows:
            if (until < now or not _alive(pid)) and self.run(_DROP_CLAIM, gone=key, by=pid, on=host).rowcount:
                self.run(self._says.spend, run=run, paid=0.0, lost=cost)
                gone = True
        return gone


def _same(column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
    return column == sa.bindparam(name, type_=column.type)


_DROP_ANSWER = sa.delete(answers).where(_same(answers.c.key, "gone"))
_DROP_FAILURE = sa.delete(failures).where(_same(failures.c.key, "gone"))
_DROP_CLAIM = sa.delete(claims).where(
    _same(claims.c.key, "gone"), _same(claims.c.pid, "by"), _same(claims.c.host, "on")
)
_DROP_CLAIMS = sa.delete(claims).where(_same(claims.c.host, "on"))
_CLAIM = sa.insert(claims)
_PERHAPS_DEAD = sa.select(claims).where(
    sa.or_(
        claims.c.until < sa.bindparam("now", type_=sa.Double),
        sa.and_(_same(claims.c.host, "on"), claims.c.pid != 0, claims.c.pid != sa.bindparam("by", type_=sa.BigInteger)),
    )
)
_NOTHING: sa.ColumnElement[float] = sa.literal_column("0.0", sa.Double)
_OF_RUN = sa.select(runs).where(_same(runs.c.run, "whose")).subquery()
_SPENDING = sa.select(
    *(
        sa.func.coalesce(sa.select(sa.cast(column, sa.Double)).scalar_subquery(), _NOTHING)
        for column in (_OF_RUN.c.paid, _OF_RUN.c.lost)
    ),
    sa.func.coalesce(
        sa.select(sa.func.sum(claims.c.cost)).where(_same(claims.c.run, "whose")).scalar_subquery(), _NOTHING
    ),
)
_BEGIN_BATCH = sa.insert(batches)
_NAME_BATCH = sa.update(batches).where(_same(batches.c.token, "which")).values(id=sa.bindparam("called", type_=sa.Text))
_END_BATCH = sa.delete(batches).where(_same(batches.c.token, "which"))
_BATCHES = sa.select(batches.c.token, batches.c.id).where(_same(batches.c.run, "whose")).order_by(batches.c.at)


@lru_cache
def _replies(size: int) -> sa.Select[Any]:
    return sa.select(answers.c.key, answers.c.reply).where(among(answers.c.key, size))


@lru_cache
def _failed(size: int) -> sa.Select[Any]:
    return sa.select(failures.c.key, failures.c.reply, failures.c.tries).where(among(failures.c.key, size))


@lru_cache
def _known(size: int) -> sa.CompoundSelect[Any]:
    return sa.union_all(
        sa.select(claims.c.key, sa.literal_column(f"'{BUSY}'")).where(among(claims.c.key, size)),
        sa.select(answers.c.key, sa.literal_column(f"'{ANSWERED}'")).where(among(answers.c.key, size)),
    )


class _Statements:
    """The statements that a kind of database has words of its own for."""

    def __init__(self, insert: Any) -> None:
        self.settle = insert(answers).on_conflict_do_nothing(index_elements=["key"])
        failed, spent = insert(failures), insert(runs)
        self.fail = failed.on_conflict_do_update(
            index_elements=["key"],
            set_={"reply": failed.excluded.reply, "tries": failures.c.tries + 1, "at": failed.excluded.at},
        )
        self.spend = spent.on_conflict_do_update(
            index_elements=["run"],
            set_={"paid": runs.c.paid + spent.excluded.paid, "lost": runs.c.lost + spent.excluded.lost},
        )


@lru_cache
def _statements(kind: str) -> _Statements:
    return _Statements(INSERT[kind])


def _here() -> str:
    """Return which processes this one can see: a machine's name, and the container's where it is one."""
    try:
        return f"{socket.gethostname()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _alive(pid: int) -> bool:
    """Whether a process of this machine runs; where that cannot be told, it is taken to run until its lease ends."""
    if os.name != "posix" or not pid:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
