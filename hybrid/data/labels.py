"""Labels: any spelling of a class → its code, for files, LLM replies, functions in production and evaluation alike."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from hybrid.routing.table import NONE, NONE_LABEL, UNKNOWN

_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]")
_WHOLE = re.compile(r"(-?[0-9]+)\.0+")  # pandas writes whole numbers so where a column has gaps
_SEPARATOR = re.compile(r"(?<=[^\W_])[\s_]+(?=[^\W_])|(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])")
_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d_]) (?=[^\W\d_])")
_ALIKE = str.maketrans("‘’ʼ´`“”„«»‐‑‒–—−ς", "''''" + "'" + '"""""' + "------" + "σ")
_TRUTH_VALUES = {"true": "1", "false": "0"}


def clean(name: str) -> str:
    """Return a label as it is shown: without signs that cannot be seen, single spaces, trimmed.

    Examples
    --------
    >>> clean(" late\\u00a0 delivery\\u200b")
    'late delivery'
    """
    return " ".join(_INVISIBLE.sub("", name).split())


def spelling(name: str) -> str:
    """Return what all spellings of one label share: case, spaces, Unicode form and a whole number's ``.0`` aside.

    Every sign that means something stays, so that ``C#`` is not ``C``, ``1.5`` not ``15`` and ``-1`` not ``1``.

    Examples
    --------
    >>> spelling("Late\\u00a0 DELIVERY ") == spelling("late delivery"), spelling("1.0"), spelling("C#")
    (True, '1', 'c#')
    """
    if not name.isascii():
        name = unicodedata.normalize("NFC", "".join(map(_one_width, name)))
    key = clean(name).lower()
    if not key.isascii():
        key = unicodedata.normalize("NFC", key.replace("i\u0307", "i"))
    whole = _WHOLE.fullmatch(key)
    return whole[1] if whole else key or name


def _one_width(sign: str) -> str:
    """Return the usual form of a full-width or half-width sign; any other as it is."""
    return unicodedata.normalize("NFKC", sign) if unicodedata.decomposition(sign)[:6] in ("<wide>", "<narro") else sign


def _loose(name: str) -> str:
    """Return what spellings share that only an answer may differ in: kinds of quotes and dashes, ``ß``, a hyphen."""
    key = unicodedata.normalize("NFKC", spelling(name)).translate(_ALIKE).casefold().replace("ı", "i")
    return _SEPARATOR.sub(" ", key)


def _looser(name: str) -> str:
    return _BETWEEN_LETTERS.sub("", _loose(name))


@dataclass(frozen=True, slots=True, eq=False)
class Matcher:
    """Finds the class that a name means; call it with the name.

    A name is taken as it is spelt; else as the one class that differs in case, spaces, invisible signs or Unicode form
    alone; else, in words, in the kind of their quotes, dashes and separators. Where several classes would fit, none
    does: a name is never guessed at.

    Parameters
    ----------
    classes
        In the order of their codes.

    Examples
    --------
    >>> code = Matcher(("card_arrival", "C#", "1"))
    >>> code("Card arrival"), code("c#"), code(1.0), code("C"), code("-1"), code(None)
    (0, 1, 2, -1, -1, -1)
    """

    classes: tuple[str, ...]
    _codes: Mapping[str, int] = field(init=False, repr=False)
    _levels: tuple[tuple[Callable[[str], str], Mapping[str, int]], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_codes", {c: i for i, c in enumerate(self.classes)})
        levels: list[Callable[[str], str]] = [spelling, _loose, _looser]
        if {spelling(c) for c in self.classes} <= {"0", "1", *_TRUTH_VALUES}:
            levels.append(_truth_value)
        object.__setattr__(self, "_levels", tuple((key, _unambiguous(self.classes, key)) for key in levels))

    def __call__(self, name: object) -> int:
        """Return the code of a name, else `UNKNOWN`; numbers and truth values are read as they are written."""
        if name is None:
            return UNKNOWN
        said = name if isinstance(name, str) else str(name)
        code = self._codes.get(said)
        if code is not None:
            return code
        for key, codes in self._levels:
            code = codes.get(key(said))
            if code is not None:  # also where several fit: what they share here they share at every looser level
                return code
        return UNKNOWN


def _truth_value(name: str) -> str:
    key = spelling(name)
    return _TRUTH_VALUES.get(key, key)


def _unambiguous(classes: Sequence[str], key: Callable[[str], str]) -> dict[str, int]:
    codes: dict[str, int] = {}
    for code, name in enumerate(classes):
        codes[key(name)] = UNKNOWN if key(name) in codes else code
    return codes


def coded(name: object, code: Callable[[object], int]) -> int:
    """Return the code of an answer: a class, `NONE` where it is spelt so and no class is, else `UNKNOWN`.

    Examples
    --------
    >>> of = Matcher(("billing", "shipping"))
    >>> coded("Billing", of), coded("None of these", of), coded("other", of)
    (0, -2, -1)
    """
    found = code(name)
    none = found == UNKNOWN and isinstance(name, str) and spelling(name) == spelling(NONE_LABEL)
    return NONE if none else found


@lru_cache(maxsize=8)
def matcher(classes: tuple[str, ...]) -> Matcher:
    """Return the matcher of some classes; it is made once."""
    return Matcher(classes)


@dataclass(frozen=True, slots=True, eq=False)
class Folding:
    """The classes that a column of labels holds.

    Parameters
    ----------
    classes
        Sorted.
    code
        Of each distinct label as it was given.
    folded
        By class, the other spellings that were taken for it; a class with one spelling is not in it.
    """

    classes: tuple[str, ...]
    code: Mapping[str, int]
    folded: Mapping[str, tuple[str, ...]]


def fold(labels: Mapping[str, int]) -> Folding:
    """Take spellings of one label for one class, named by the most frequent spelling.

    Parameters
    ----------
    labels
        How often each label occurs, trimmed; blank ones are left out.

    Examples
    --------
    >>> found = fold({"billing": 5, "Billing": 2, "C#": 1, "C": 1})
    >>> found.classes, found.folded
    (('C', 'C#', 'billing'), {'billing': ('Billing',)})
    """
    key = _truth_value if {spelling(n) for n in labels} <= {"0", "1", *_TRUTH_VALUES} else spelling
    spellings: dict[str, list[str]] = {}
    for name in labels:
        if name:
            spellings.setdefault(key(name), []).append(name)
    # of equally frequent ones the shortest: composed signs, single spaces, no invisible ones
    ranked = [sorted(names, key=lambda n: (-labels[n], len(n), n)) for names in spellings.values()]
    ranked.sort(key=lambda names: names[0])
    return Folding(
        tuple(names[0] for names in ranked),
        {name: code for code, names in enumerate(ranked) for name in names},
        {names[0]: tuple(names[1:]) for names in ranked if len(names) > 1},
    )


def keep_apart(labels: Iterable[str]) -> Folding:
    """Take every spelling for a class of its own."""
    classes = tuple(sorted({n for n in labels if n}))
    return Folding(classes, {c: i for i, c in enumerate(classes)}, {})


def most_frequent(names: Mapping[str, int] | Iterable[str], *, at_most: int = 5) -> str:
    """Return the most frequent names and how often each occurs, in words.

    Examples
    --------
    >>> most_frequent(["refund", "spam", "refund"])
    "'refund' (2), 'spam' (1)"
    """
    counts = Counter(names)
    shown = ", ".join(f"{name[:60]!r} ({n:,})" for name, n in counts.most_common(at_most))
    more = len(counts) - at_most
    return shown if more <= 0 else f"{shown} and {more:,} other {'spelling' if more == 1 else 'spellings'}"
