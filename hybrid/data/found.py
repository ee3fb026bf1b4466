"""Found: what a reader meets on its way through a file and passes on, said once and not once a row."""

from __future__ import annotations

from dataclasses import dataclass, field

from hybrid.data.notes import Note, listed, plural
from hybrid.errors import DatasetError


@dataclass(slots=True)
class Found:
    """Counts of what was mended or left out while reading.

    Parameters
    ----------
    short, mended, strange
        Rows with fewer fields than the header; values with half a sign in them; codes without a class name.
    nested, plain
        Columns that hold nested or binary values, with the first row that does; columns that hold others.
    """

    short: int = 0
    mended: int = 0
    strange: int = 0
    nested: dict[str, int] = field(default_factory=dict)
    plain: set[str] = field(default_factory=set)

    def add(self, other: Found) -> None:
        """Add what was met elsewhere in the file."""
        self.short += other.short
        self.mended += other.mended
        self.strange += other.strange
        self.nested = other.nested | self.nested
        self.plain |= other.plain

    def nested_only(self) -> list[str]:
        """Return the columns to leave out: they hold nothing but nested values."""
        return [c for c in self.nested if c not in self.plain]

    def notes(self) -> tuple[Note, ...]:
        """Return them in words."""
        notes = []
        left_out = self.nested_only()
        if left_out:
            few = "holds" if len(left_out) == 1 else "hold"
            what = f"{listed(left_out)} {few} nested or binary values."
            notes.append(Note(what, "Left out. Give each field a column of its own if you need it.", "info"))
        for column in self.nested.keys() & self.plain:
            what = f"{column!r} holds nested values in some rows, the first in row {self.nested[column]}."
            notes.append(Note(what, "Taken as they are written in JSON.", "warning"))
        if self.short:
            what = f"{plural(self.short, 'row has', 'rows have')} fewer fields than the header, as Excel writes them."
            notes.append(Note(what, "The missing ones are blank.", "info"))
        if self.mended:
            what = f"{plural(self.mended, 'value holds', 'values hold')} half a sign, such as half an emoji."
            notes.append(Note(what, "It is shown as �.", "warning"))
        if self.strange:
            what = f"{plural(self.strange, 'label has', 'labels have')} no name among the class names in the file."
            notes.append(Note(what, "Left blank.", "warning"))
        return tuple(notes)


def nested_error(file: str, column: str, row: int) -> DatasetError:
    """Return the refusal of a nested value in a column that is read."""
    return DatasetError(
        f"{file}, row {row}, {column}: a nested or binary value. Give each field a column of its own, or leave it out."
    )
