"""Field patterns: expressions of the user's own, each with a name and tests, matched in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import re2
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hybrid.errors import SupportError
from hybrid.support import fields
from hybrid.support.fields import compact

MAX_PATTERN = 200  # characters
MAX_PATTERNS = 50
MAX_MEMORY = 1 << 20  # bytes that one compiled expression may take
NAME = r"^[a-z][a-z0-9_]{0,31}$"


class Strict(BaseModel):
    """A part of the settings: nothing unknown, nothing infinite, nothing changed once it is checked."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class PatternTest(Strict):
    """A text, and what a pattern must find in it, in order; nothing where the list is empty."""

    text: str = Field(max_length=2000)
    finds: tuple[str, ...] = ()


class FieldPattern(Strict):
    """An expression that finds a field.

    Parameters
    ----------
    name
        Of the field that it finds: a new one, or one of `hybrid.support.fields.FIELDS` to find more of those.
    expression
        In the syntax of RE2, which knows no look-around and no back-references, and takes time in proportion to the
        text; where it has a group, the first group is the value.
    tests
        Checked whenever the settings are made or loaded.
    """

    name: str = Field(pattern=NAME)
    expression: str = Field(min_length=1, max_length=MAX_PATTERN)
    tests: tuple[PatternTest, ...] = ()

    @field_validator("expression")
    @classmethod
    def _compiles(cls, expression: str) -> str:
        compiled(expression)
        return expression

    def find(self, text: str) -> Iterator[fields.Field]:
        """Find every match that is not empty."""
        pattern = compiled(self.expression)
        group = 1 if pattern.groups else 0
        for m in pattern.finditer(text):
            start, end = m.span(group)
            if start < end:
                said = text[start:end]
                yield fields.Field(self.name, compact(said), said, start, end, f"pattern {self.name}")

    def failures(self) -> list[str]:
        """Return what is wrong with each test that fails, in words."""
        failed = []
        for test in self.tests:
            found = tuple(f.text for f in self.find(test.text))
            if found != test.finds:
                failed.append(
                    f"Pattern {self.name}: in {test.text!r} it finds {_listed(found)}, its test says "
                    f"{_listed(test.finds)}. Change the expression or the test."
                )
        return failed


def _listed(found: tuple[str, ...]) -> str:
    return ", ".join(map(repr, found)) or "nothing"


@lru_cache(maxsize=512)
def compiled(expression: str) -> Any:
    """Return a compiled expression.

    Raises
    ------
    SupportError
        If it is not one of RE2's.
    """
    options = re2.Options()
    options.max_mem = MAX_MEMORY
    options.log_errors = False
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        said = error.args[0] if error.args else "it cannot be read"
        said = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        hint = (
            " RE2 knows no look-around and no back-references." if re.search(r"\(\?[=!<]|\\[1-9]", expression) else ""
        )
        raise SupportError(f"The expression {expression!r} cannot be used: {said}.{hint} Correct it.") from None


def first_problem(error: ValidationError, what: str) -> SupportError:
    """Return pydantic's first complaint as an error for the user."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return SupportError(f"{what}{', ' if where else ''}{where}: {first['msg'].removeprefix('Value error, ')}.")
