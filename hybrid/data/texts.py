"""Texts: what a letter is in any script, which scripts write no spaces, and when two texts are near-duplicates."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

# Han, kana, Thai, Lao, Myanmar, Khmer and the Tai scripts: a run of them is a phrase, not a word
UNSPACED = (
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aad\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9fe\uaa60-\uaa7f\uf900-\ufaff\U00020000-\U000323af"
)
_LETTERS = re.compile(r"[^\W\d_]+(?:[#+]+(?!\w))?")  # C# is not C
_JOINERS = re.compile("[\u00ad\u200c\u200d]")  # inside a word, and not seen
_WIDE = re.compile("[\uff01-\uff9f]+")
ASKED = 300  # texts that tell the script of all


@lru_cache(maxsize=1)
def marks() -> str:
    """Return the signs that combine with the letter before them, as ranges for a character class.

    In Hindi a vowel is such a sign; Python's ``\\w`` takes it for the end of the word.
    """
    found = [c for c in range(0x300, 0x1E950) if unicodedata.category(chr(c)) in ("Mn", "Mc")]
    starts = [c for c, before in zip(found, [-1, *found], strict=False) if c != before + 1]
    ends = [c for c, after in zip(found, [*found[1:], -1], strict=True) if c + 1 != after]
    return "".join(f"{chr(a)}-{chr(b)}" for a, b in zip(starts, ends, strict=True))


@lru_cache(maxsize=1)
def _letters_and_marks() -> re.Pattern[str]:
    # a mark only goes on with what a letter began
    return re.compile(rf"[^\W\d_](?:[^\W\d_]|[{marks()}])*(?:[#+]+(?!\w))?")


def composed(text: str) -> str:
    """Return a text with composed accents, of signs of one width, without joiners: one way to write one thing."""
    text = unicodedata.normalize("NFC", _JOINERS.sub("", text))
    return _WIDE.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)


def bare(text: str) -> str:
    """Return a text without case, digits, punctuation and white space; what is left of near-duplicates is equal.

    What combines with a letter is part of it, and so is the sign of ``C#`` and ``C++``.

    Examples
    --------
    >>> bare("Gold up 1.5 %!"), bare("gold UP 12%"), bare("दिन") == bare("दान"), bare("C#") == bare("C")
    ('goldup', 'goldup', False, False)
    """
    if text.isascii():
        return "".join(_LETTERS.findall(text.lower()))
    return "".join(_letters_and_marks().findall(composed(text).casefold()))


def script(texts: Sequence[str]) -> str | None:
    """Return the script that most letters of texts are of, such as ``Devanagari``, or ``Chinese``; None for Latin.

    Examples
    --------
    >>> script(["मुझे पैसे वापस चाहिए"]), script(["Où est mon colis ?"]), script(["退款在哪里"])
    ('Devanagari', None, 'Chinese')
    """
    step = max(1, len(texts) // ASKED)
    signs = Counter(c for text in texts[::step] for c in str(text)[:500] if c.isalpha())
    by_script: Counter[str] = Counter()
    for sign, times in signs.items():
        by_script["LATIN" if sign.isascii() else unicodedata.name(sign, "OTHER").split(" ")[0]] += times
    if not by_script:
        return None
    kana = by_script.pop("HIRAGANA", 0) + by_script.pop("KATAKANA", 0)
    if kana > by_script["CJK"] / 5:
        return "Japanese"
    name = by_script.most_common(1)[0][0]
    return {"LATIN": None, "CJK": "Chinese"}.get(name, name.title())


def is_spaced(name: str) -> bool:
    """Whether a script, as `script` names it, writes spaces between words."""
    return name not in ("Chinese", "Japanese", "Thai", "Lao", "Myanmar", "Khmer", "Tai", "New")
