"""Configuration: everything that a support pipeline decides by, besides the policy; stored as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from hybrid.errors import SupportError
from hybrid.routing.engine import Policy
from hybrid.support.actions import FACTS, ActionRow, ActionTable, read_conditions
from hybrid.support.extraction import ExtractionSettings
from hybrid.support.field_patterns import Strict

SCHEMA_VERSION = 1
DEAR_KINDS = ("llm", "whatif", "human")  # an answer of these is never an easy one
SIMPLE = ("billing", "shipping", "account")


class SupportConfig(Strict):
    """What the Support page edits and a bundle stores.

    Parameters
    ----------
    simple_categories
        Where the fields of a ticket can be read by rules.
    easy_tiers
        Tiers whose answer makes a ticket an easy one; None, all but the policy's last, and no LLM and no person.
    rules_confidence
        The least confidence of a category with which rules may read the ticket; the policy's own thresholds decide
        first. At 0 they decide alone.
    extraction, actions
        How rules read, and what happens next.
    llm
        Settings of the LLM that reads hard tickets, without its key; None where there is none.
    """

    schema_version: int = SCHEMA_VERSION
    simple_categories: tuple[str, ...] = ()
    easy_tiers: tuple[str, ...] | None = None
    rules_confidence: float = Field(default=0.0, ge=0, le=1)
    extraction: ExtractionSettings = ExtractionSettings()
    actions: ActionTable = ActionTable()
    llm: dict[str, Any] | None = None

    def easy_of(self, policy: Policy) -> tuple[str, ...]:
        """Return the tiers whose answers are easy ones, under this policy."""
        if self.easy_tiers is not None:
            return self.easy_tiers
        return tuple(t.name for t in policy.tiers[:-1] if t.kind not in DEAR_KINDS and not t.scores)

    def check(self, *, classes: Sequence[str], tiers: Sequence[str]) -> None:
        """Refuse what names something that there is not, and patterns that fail their tests.

        Raises
        ------
        SupportError
            The message says what, and how to mend it.
        """
        if self.schema_version != SCHEMA_VERSION:
            raise SupportError(
                f"The pipeline has schema version {self.schema_version}, this version reads {SCHEMA_VERSION}: "
                "export it again."
            )
        for what, named, known in (
            ("category", self.simple_categories, classes),
            ("tier", self.easy_tiers or (), tiers),
        ):
            stray = [n for n in named if n not in known]
            if stray:
                raise SupportError(f"There is no {what} {stray[0]!r}; there are: {', '.join(known)}.")
        for pattern in self.extraction.patterns:
            if pattern.name in FACTS:
                raise SupportError(
                    f"A pattern cannot be called {pattern.name!r}, which is known of every ticket: name it otherwise."
                )
            failures = pattern.failures()
            if failures:
                raise SupportError(failures[0])
        self.actions.check(classes=classes, names=[p.name for p in self.extraction.patterns])

    def fitted(self, *, classes: Sequence[str], tiers: Sequence[str]) -> SupportConfig:
        """Return it without what names other categories and tiers than these: other data were loaded."""
        easy = None if self.easy_tiers is None else tuple(t for t in self.easy_tiers if t in tiers)
        rows = tuple(r for r in self.actions.rows if r.category in ("any", *classes))
        return self.model_copy(
            update={
                "simple_categories": tuple(c for c in self.simple_categories if c in classes),
                "easy_tiers": easy or None,
                "actions": self.actions.model_copy(update={"rows": rows}),
            }
        )


# category, conditions, action, goes to a person
_START = (
    ("any", "requires_human is true", "route_to_agent", True),
    ("billing", "amount >= 500", "route_to_agent", True),
    ("billing", "", "initiate_refund_review", False),
    ("shipping", "", "create_tracking_inquiry", False),
    ("account", "", "send_account_update_link", False),
    ("technical", "", "create_engineering_ticket", False),
    ("returns", "", "send_return_label", False),
    ("product", "", "answer_product_question", False),
)


def default_config(classes: Sequence[str]) -> SupportConfig:
    """Return a table to start from: rows for those of the usual categories that there are.

    Examples
    --------
    >>> [row.action for row in default_config(["billing", "other"]).actions.rows]
    ['route_to_agent', 'route_to_agent', 'initiate_refund_review']
    """
    rows = tuple(
        ActionRow(category=category, conditions=read_conditions(conditions), action=action, to_human=human)
        for category, conditions, action, human in _START
        if category in ("any", *classes)
    )
    return SupportConfig(simple_categories=tuple(c for c in SIMPLE if c in classes), actions=ActionTable(rows=rows))
