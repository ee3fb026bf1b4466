"""Prices: what a model's tokens cost, from a table that others keep up to date; it is read without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a model's tokens cost at a server.

    Parameters
    ----------
    input, output
        USD per million tokens, in a call of usual length.
    cached
        USD per million tokens of a prompt that the server had read before; None: as others.
    steps
        (prompt tokens, input, output, cached) from short to long: in a call with a longer prompt, all tokens cost so.
    note
        What else decides the price, in words: the length of the call, the hour. Empty where nothing does.
    """

    input: float
    output: float
    cached: float | None = None
    steps: tuple[tuple[int, float, float, float], ...] = ()
    note: str = ""

    def cost(self, prompt_tokens: float, completion_tokens: float, cached_tokens: float = 0) -> float:
        """Return USD for a call of so many tokens; `cached_tokens` are among the prompt's."""
        inwards, outwards = self.input, self.output
        cached = inwards if self.cached is None else self.cached
        for above, *prices in self.steps:
            if prompt_tokens > above:
                inwards, outwards, cached = prices
        fresh = max(0.0, prompt_tokens - cached_tokens)
        return (fresh * inwards + cached_tokens * cached + completion_tokens * outwards) / 1e6


def price(model: str, base_url: str | None = None) -> ModelPrice | None:
    """Return a model's list price; None where the table does not know it.

    Parameters
    ----------
    base_url
        Of the server that is asked. One that the table does not know, such as your own, has no list price, whatever its
        model is called. None: at whoever makes the model, for answers that were recorded elsewhere.

    Examples
    --------
    >>> found = price("claude-sonnet-4-5")
    >>> found.input, found.output, found.cost(1_000, 100), found.cost(300_000, 0)
    (3.0, 15.0, 0.0045, 1.8)
    >>> price("gpt-4o-mini", "http://localhost:8000/v1") is None
    True
    """
    from genai_prices.data_snapshot import get_snapshot  # half a second, for whoever connects a model

    try:
        _, info = get_snapshot().find_provider_model(model, None, None, base_url)
    except LookupError:
        return None
    return _price_of(info, datetime.now(UTC))


def models(makers: Sequence[str]) -> list[str]:
    """Return the models of these makers that have a list price, by name."""
    from genai_prices.data_snapshot import get_snapshot

    now = datetime.now(UTC)
    known = (p for p in get_snapshot().providers if p.id in makers)
    return sorted({m.id for p in known for m in p.models if _price_of(m, now) is not None})


def _price_of(info: ModelInfo, at: datetime) -> ModelPrice | None:
    now = info.get_prices(at)
    inwards, outwards, cached = _base(now.input_mtok), _base(now.output_mtok), _base(now.cache_read_mtok)
    if inwards is None or outwards is None:
        return None
    starts = sorted({t.start for p in (now.input_mtok, now.output_mtok, now.cache_read_mtok) for t in _tiers(p)})
    steps = []
    for start in starts:
        long = [_at(p, start + 1) for p in (now.input_mtok, now.output_mtok, now.cache_read_mtok)]
        steps.append((start, long[0] or 0.0, long[1] or 0.0, long[0] or 0.0 if long[2] is None else long[2]))
    notes = []
    if steps:
        above, first, second, _ = steps[0]
        notes.append(f"A call with more than {above:,} tokens in its prompt costs ${first:g} and ${second:g}.")
    if now.requests_kcount is not None:
        each = _base(now.requests_kcount) or 0.0
        notes.append(f"Each request costs ${each / 1000:g} besides its tokens, which is not counted here.")
    elsewhen = _at_other_hours(info, at, (inwards, outwards))
    if elsewhen:
        notes.append(elsewhen)
    return ModelPrice(inwards, outwards, cached, tuple(steps), " ".join(notes))


def _at_other_hours(info: ModelInfo, at: datetime, now: tuple[float, float]) -> str:
    """Say what a model costs at other hours of the day; empty where the hour decides nothing."""
    hours: dict[tuple[float | None, float | None], list[datetime]] = {}
    start = at.replace(hour=0, minute=0, second=0, microsecond=0)
    for half in range(48):
        then = start + timedelta(minutes=30 * half)
        found = info.get_prices(then)
        hours.setdefault((_base(found.input_mtok), _base(found.output_mtok)), []).append(then)
    if len(hours) < 2:
        return ""
    others = [(p, times) for p, times in hours.items() if p != now and None not in p]
    said = ", ".join(f"${p[0]:g} and ${p[1]:g} from {_stretch(times)} UTC" for p, times in others)
    return f"The price depends on the hour; this is the one now; it is {said}." if said else ""


def _stretch(times: list[datetime]) -> str:
    """Return a stretch of half-hours, which may go over midnight, as text."""
    halves = {t.hour * 2 + t.minute // 30 for t in times}
    first = next((h for h in sorted(halves) if (h - 1) % 48 not in halves), min(halves))
    last = first
    while (last + 1) % 48 in halves and (last + 1) % 48 != first:
        last = (last + 1) % 48
    end = (last + 1) % 48
    return f"{first // 2:02}:{first % 2 * 30:02} to {end // 2:02}:{end % 2 * 30:02}"


def _base(price: Any) -> float | None:
    return None if price is None else float(getattr(price, "base", price))


def _tiers(price: Any) -> list[Any]:
    return list(getattr(price, "tiers", ()))


def _at(price: Any, prompt_tokens: int) -> float | None:
    """Return a price in a call with a prompt of so many tokens; a tier's is that of all tokens of the call."""
    found = _base(price)
    for tier in _tiers(price):
        if prompt_tokens > tier.start:
            found = float(tier.price)
    return found
