"""Actions: a table from category and conditions to the name of what happens next; the first row that fits decides.

An action is a name for your own systems to act on; nothing here runs it. A condition is data, read by a small grammar,
never evaluated as code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from hybrid.errors import SupportError
from hybrid.support.field_patterns import NAME, Strict
from hybrid.support.fields import FIELDS

ANY = "any"
ACTION = r"^[a-z][a-z0-9_]{0,63}$"
MAX_ROWS = 200
MAX_CONDITIONS = 8
FALLBACK = "the default"  # what fired where no row fits

# what can be asked about a ticket besides its fields
FACTS = {
    "confidence": "of the category, 0 to 1",
    "tier": "that gave the category",
    "requires_human": "true or false, from the LLM's reading",
    "urgency": "low, normal, high or critical, from the LLM's reading",
    "sentiment": "-1 to 1, from the LLM's reading",
    "issue": "each of the key issues, from the LLM's reading",
    "length": "of the text, in characters",
}
Operator = Literal["<", "<=", ">", ">=", "is", "is not", "contains", "present", "absent"]
URGENCIES = ("low", "normal", "high", "critical")
Facts = Mapping[str, Sequence[str]]  # everything that is known of a ticket, each as its values in text

_TOKEN = re.compile(
    r"\s*(?:(?P<and>and\b)|(?P<op><=|>=|<|>|=|is\s+not\b|is\b|contains\b)|(?P<lone>present\b|absent\b)"
    r"|\"(?P<quoted>[^\"]{0,200})\"|(?P<word>[^\s<>=\"]{1,200}))"
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MONEY = re.compile(r"(-?\d+(?:\.\d+)?) ?([A-Z]{3})")


class Condition(Strict):
    """One thing that must be true of a ticket.

    Parameters
    ----------
    field
        One of the ticket's fields, or of `FACTS`. What is not known of a ticket fulfils nothing but ``absent``.
    operator
        ``<``, ``<=``, ``>``, ``>=`` look at the largest value: an amount under a limit means that every amount is.
        ``is`` and ``contains`` look for any value, whatever its case; ``is not`` wants a value, and none that is it.
    value
        Text or a number as text; an amount may name its currency, and amounts in another one then fulfil nothing.
        Days compare as 2025-01-31, urgencies in their order.

    Examples
    --------
    >>> Condition(field="amount", operator="<", value="100 EUR").holds({"amount": ["49.00 EUR", "9.50 EUR"]})
    True
    >>> Condition(field="amount", operator="<", value="100 EUR").holds({"amount": ["49.00 EUR", "9.50 USD"]})
    False
    """

    field: str = Field(pattern=NAME)
    operator: Operator
    value: str = Field(default="", max_length=200)

    @model_validator(mode="after")
    def _fits(self) -> Condition:
        lone = self.operator in ("present", "absent")
        if lone == bool(self.value):
            what = "takes no value" if lone else "needs a value, such as amount < 100 EUR"
            raise ValueError(f"{self.field} {self.operator} {what}")
        if self.operator in ("<", "<=", ">", ">=") and _size(self.value) is None:
            raise ValueError(
                f"{self.field} {self.operator} {self.value!r} compares with a number, an amount as 100 EUR, a day as "
                "2025-01-31, or an urgency"
            )
        return self

    def holds(self, facts: Facts) -> bool:
        """Whether it is true of a ticket."""
        values = facts.get(self.field, ())
        match self.operator:
            case "present":
                return bool(values)
            case "absent":
                return not values
            case "is":
                return self.value.lower() in [v.lower() for v in values]
            case "is not":
                return bool(values) and self.value.lower() not in [v.lower() for v in values]
            case "contains":
                return any(self.value.lower() in v.lower() for v in values)
        return self._compares(values)

    def _compares(self, values: Sequence[str]) -> bool:
        limit = _size(self.value)
        sizes = [_size(v) for v in values]
        if limit is None or not sizes:
            return False
        largest = 0.0
        for i, size in enumerate(sizes):
            if size is None or size[0] not in (limit[0], *(("money",) if limit[0] == "number" else ())):
                return False  # another kind, such as a day without a year
            if size[1] not in (limit[1], "") and limit[1]:
                return False  # another currency
            largest = size[2] if i == 0 else max(largest, size[2])
        return {
            "<": largest < limit[2],
            "<=": largest <= limit[2],
            ">": largest > limit[2],
            ">=": largest >= limit[2],
        }[self.operator]

    def __str__(self) -> str:
        if not self.value:
            return f"{self.field} {self.operator}"
        bare = _MONEY.fullmatch(self.value) or (_TOKEN.fullmatch(self.value) and " " not in self.value)
        plain = bool(bare) and self.value.lower() not in ("and", "is", "contains", "present", "absent")
        return f"{self.field} {self.operator} " + (self.value if plain else f'"{self.value}"')


def _size(text: str) -> tuple[str, str, float] | None:
    """Return what a text can be compared by: its kind, its currency, its size; None where it cannot be."""
    if m := _MONEY.fullmatch(text):
        return "money", m[2], float(m[1])
    if _NUMBER.fullmatch(text):
        return "number", "", float(text)
    if _DAY.fullmatch(text):
        return "day", "", float(text.replace("-", ""))
    return ("urgency", "", float(URGENCIES.index(text))) if text in URGENCIES else None


def read_conditions(text: str) -> tuple[Condition, ...]:
    """Read conditions as one types them: ``amount < 100 EUR and order present``; none where the text is empty.

    Raises
    ------
    SupportError
        If it is not in the grammar; the message says where, and gives an example.

    Examples
    --------
    >>> [str(c) for c in read_conditions('amount <= 100 EUR and urgency is high and issue contains "late parcel"')]
    ['amount <= 100 EUR', 'urgency is high', 'issue contains "late parcel"']
    """
    parts: list[list[tuple[str, str]]] = [[]]
    at = 0
    while text[at:].strip():
        m = _TOKEN.match(text, at)
        if m is None:
            raise _unreadable(text, text[at:].strip())
        kind = m.lastgroup or ""
        if kind == "and":
            parts.append([])
        else:
            parts[-1].append((kind, m[kind]))
        at = m.end()
    if parts == [[]]:
        return ()
    return tuple(_condition(text, part) for part in parts)


def _condition(text: str, part: list[tuple[str, str]]) -> Condition:
    match part:
        case [("word", field), ("lone", operator)]:
            value = ""
        case [("word", field), ("op", operator), *rest] if rest and all(k in ("word", "quoted") for k, _ in rest):
            value = " ".join(v for _, v in rest)
        case _:
            raise _unreadable(text, " ".join(v for _, v in part) or "and")
    operator = "is" if operator == "=" else " ".join(operator.split())
    try:
        return Condition.model_validate({"field": field, "operator": operator, "value": value})
    except ValueError as error:
        said = str(error).split("Value error, ")[-1].split(" [type=")[0].split("\n")[-1].strip()
        raise SupportError(f"The condition {text!r} cannot be used: {said}.") from None


def _unreadable(text: str, where: str) -> SupportError:
    return SupportError(
        f"The condition {text!r} cannot be read at {where!r}. Write a field, one of <, <=, >, >=, is, is not, contains "
        "and a value, or present or absent; join several by 'and': amount < 100 EUR and order present."
    )


class ActionRow(Strict):
    """A row of the table.

    Parameters
    ----------
    action
        A name in small letters, digits and underscores, for your own systems to act on.
    category
        One of the classes, or ``any``.
    conditions
        All of them must be true.
    to_human
        Whether the ticket goes to a person, whose load it adds to.
    """

    action: str = Field(pattern=ACTION)
    category: str = Field(default=ANY, min_length=1, max_length=200)
    conditions: tuple[Condition, ...] = Field(default=(), max_length=MAX_CONDITIONS)
    to_human: bool = False

    def fits(self, category: str | None, facts: Facts) -> bool:
        """Whether a ticket is one of this row's."""
        return self.category in (ANY, category) and all(c.holds(facts) for c in self.conditions)

    def __str__(self) -> str:
        return " and ".join([f"category is {self.category}", *map(str, self.conditions)])


class ActionTable(Strict):
    """Rows from the first to the last, and what happens where none fits."""

    rows: tuple[ActionRow, ...] = Field(default=(), max_length=MAX_ROWS)
    default: str = Field(default="route_to_agent", pattern=ACTION)
    default_to_human: bool = True

    def decide(self, category: str | None, facts: Facts) -> tuple[str, str, bool]:
        """Return the action, the rule that fired, and whether the ticket goes to a person."""
        for number, row in enumerate(self.rows, 1):
            if row.fits(category, facts):
                return row.action, f"row {number}: {row}", row.to_human
        return self.default, FALLBACK, self.default_to_human

    def check(self, *, classes: Sequence[str], names: Sequence[str] = ()) -> None:
        """Refuse rows that can never fire because they name what there is not.

        Parameters
        ----------
        classes
            The categories that there are.
        names
            Of the user's patterns, which conditions may name besides fields and facts.

        Raises
        ------
        SupportError
            If a row names another category or field.
        """
        known = {*FIELDS, *FACTS, *names}
        for number, row in enumerate(self.rows, 1):
            if row.category not in (ANY, *classes):
                raise SupportError(
                    f"Action row {number}: there is no category {row.category!r}. The categories are "
                    f"{', '.join(classes)}, or {ANY!r}."
                )
            for c in row.conditions:
                if c.field not in known:
                    raise SupportError(
                        f"Action row {number}: there is no field {c.field!r}. The fields are "
                        f"{', '.join(sorted(known))}."
                    )
