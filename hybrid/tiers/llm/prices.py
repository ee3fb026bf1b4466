"""Prices: what a model's tokens cost, from a table that others keep up to date; it is read without a network."""

from __future__ import annotations

from typing import NamedTuple


class TokenPrice(NamedTuple):
    """USD per million tokens."""

    input: float
    output: float


def list_price(model: str, base_url: str) -> TokenPrice | None:
    """Return a model's list price at a server; None where the table does not know it.

    A server that the table does not know, such as one of your own, has no list price, whatever its model is called.

    Examples
    --------
    >>> list_price("gpt-4o-mini", "https://api.openai.com/v1")
    TokenPrice(input=0.15, output=0.6)
    >>> list_price("gpt-4o-mini", "http://localhost:8000/v1") is None
    True
    """
    import genai_prices  # half a second, for whoever connects a model

    try:
        usage = genai_prices.Usage(input_tokens=1_000_000, output_tokens=1_000_000)
        found = genai_prices.calc_price(usage, model, provider_api_url=base_url)
    except LookupError:
        return None
    return TokenPrice(float(found.input_price), float(found.output_price))
