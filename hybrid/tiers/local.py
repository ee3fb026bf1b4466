"""Local model: what every kind of tier that runs here has to offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, Self

from hybrid.routing.table import Answers


class LocalModel(Protocol):
    """A fitted model that answers texts here, and packs itself as plain numbers and JSON.

    A kind is a file: the class, and beside it the function that fits it and answers every row out of fold.

    Attributes
    ----------
    kind
        What ``policy.json`` calls it.
    waits
        Whether an answer takes milliseconds or a call over the network, so that production asks it in a thread.
    """

    kind: ClassVar[str]
    waits: ClassVar[bool]

    @property
    def answers_alike(self) -> bool:
        """Whether it is bound to answer as it did; an endpoint of others is not."""

    def answer(self, texts: Sequence[str]) -> Answers:
        """Answer texts, one by one as in a batch."""

    def to_files(self, name: str) -> dict[str, bytes]:
        """Return its files, named after `name`; a model without numbers has none."""

    @classmethod
    def from_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """Return the model that `to_files` took apart, without running code.

        Raises
        ------
        BundleError, KeyError, ValueError, OSError
            If a file is missing or damaged.
        """
