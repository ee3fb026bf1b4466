"""Finders: fixed rules that find each kind of field in a text; every expression is bounded, so time is linear."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import phonenumbers
from price_parser import Price

from hybrid.support.fields import MONTHS, Field, compact, iso_date

SIGNS = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR"}
DOLLARS = {"US": "USD", "A": "AUD", "AU": "AUD", "C": "CAD", "CA": "CAD", "NZ": "NZD", "HK": "HKD", "S": "SGD"}
CODES = (
    "AED AUD BRL CAD CHF CNY CZK DKK EUR GBP HKD HUF ILS INR ISK JPY KRW MXN NOK NZD PLN RON SEK SGD THB TRY USD ZAR"
)
LOWER_CODES = "chf czk dkk eur gbp inr nok pln sek usd"  # the others are words, or could be
CURRENCY_WORDS = {
    "dollar": "USD",
    "buck": "USD",
    "euro": "EUR",
    "pound": "GBP",
    "quid": "GBP",
    "rupee": "INR",
    "franc": "CHF",
    "yen": "JPY",
    "zloty": "PLN",
}
_TO_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_TENS = "thirty forty fifty sixty seventy eighty ninety hundred"
NUMBER_WORDS = {word: i for i, word in enumerate(re.findall(r"\w+", _TO_TWENTY))}
NUMBER_WORDS |= {word: 10 * i for i, word in enumerate(re.findall(r"\w+", _TENS), 3)}

_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_NUMBER = r"\d{1,3}(?:[,.'\u00a0\u202f ]\d{3}){1,4}(?:[.,]\d{1,2})?(?![\d,.]*\d)|\d{1,9}(?:[.,]\d{1,2})?(?![\d,.]*\d)"
_SIGN = r"(?:US|AU?|CA?|NZ|HK|S)?\$|[€£¥₹]"
_UNIT = (
    rf"[$€£¥₹]|(?:{CODES.replace(' ', '|')}|{LOWER_CODES.replace(' ', '|')})\b"
    rf"|(?i:{'|'.join(CURRENCY_WORDS)})(?i:s|es)?\b"
)
_BEFORE = re.compile(
    rf"(?<![\w$€£¥₹])(?P<unit>{_SIGN}|(?:{CODES.replace(' ', '|')})(?=[ \u00a0\d]))[ \u00a0]?(?P<number>{_NUMBER})"
)
_AFTER = re.compile(rf"(?<![\w.,-])(?P<number>{_NUMBER})[ \u00a0]?(?P<unit>{_UNIT})")
_WORDED = re.compile(
    rf"\b(?P<number>(?i:{'|'.join(NUMBER_WORDS)}))[ -](?P<unit>(?i:{'|'.join(CURRENCY_WORDS)})(?i:s|es)?)\b"
)
_DATES = (
    re.compile(r"(?<![\w/.-])(?P<y>\d{4})([-/.])(?P<m>\d{1,2})\2(?P<d>\d{1,2})(?![\w/-])"),
    re.compile(r"(?<![\w/.-])(?P<a>\d{1,2})([-/.])(?P<b>\d{1,2})\2(?P<y>\d{4}|\d{2})(?![\w/-])"),
    re.compile(
        rf"(?<![\w/.-])(?P<d>\d{{1,2}})(?:st|nd|rd|th|\.)?(?: of)? ?(?P<month>(?i:{_MONTH}))\b"
        r"(?:\.?,? (?P<y>(?:19|20)\d{2})\b)?"
    ),
    re.compile(
        rf"(?<!\w)(?P<month>(?=[A-Z])(?i:{_MONTH}))\.? (?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?![\w:%])(?!\.\d)"
        r"(?:,? (?P<y>(?:19|20)\d{2})\b)?"
    ),
    re.compile(rf"(?<!\w)(?P<month>(?=[A-Z])(?i:{_MONTH}))\.?,? (?P<y>(?:19|20)\d{{2}})\b"),
    re.compile(r"(?<![\w/.-])(?P<m>0?[1-9]|1[0-2])/(?P<y>(?:19|20)\d{2})(?![\w/-])"),
    # 8/10 is a mark, not a day
    re.compile(r"(?<![\w/.-])(?P<a>\d{1,2})/(?P<b>0[1-9])(?![\w/%-])"),
    re.compile(r"(?<![\w/.-])(?P<a>1[3-9]|[23]\d)/(?P<b>1[0-2])(?![\w/%-])"),
    re.compile(r"(?<![\w/.-])(?P<a>\d{2})\.(?P<b>\d{2})\.(?!\d)"),
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}\b")
_ID = r"(?:[A-Za-z]{1,4}-){0,2}[A-Za-z]{0,4}\d[\dA-Za-z]*(?:-[\dA-Za-z]+){0,3}(?![\w@])(?!['’]?s\b)"
_LINK = r"(?:[ ]?(?:is|was|id|no\.?|nr\.?|num(?:ber)?s?|code|name|reference|ref|:|#|\"|“|from|of|for|both|,)){0,4}[ ]?"
_TRACKING = (
    re.compile(r"\b(?:[A-Z]{2}\d{9}[A-Z]{2}|1Z[0-9A-Z]{16}|JJ?D\d{8,18}|[A-Z]{2}\d{9,12})\b"),
    re.compile(
        rf"\b(?i:tracking|track and trace|shipment|parcel|waybill|consignment)(?i:{_LINK})(?i:(?:the )?return)?"
        r"[ :#\"“]{0,3}(?P<id>(?=[A-Z]*\d)[A-Z0-9]{5,24})(?!\w)"
    ),
)
_ORDER = (
    re.compile(rf"\b(?i:orders?|purchase|purchase order)(?i:{_LINK})(?P<id>#?(?=[\w-]{{4}}){_ID})"),
    re.compile(r"(?<![\w#])#[ ]?(?P<id>\d{4,12})\b"),
)
_REFERENCE = re.compile(
    r"\b(?i:invoices?|case|complaint|ticket|reference|ref|returns?|warranty|repair|rma|claim|credit note|receipt|"
    rf"booking|quote|note)(?i:{_LINK})(?P<id>#?(?=[\w-]{{4}}){_ID})"
)
_ACCOUNT = re.compile(
    r"\b(?i:customer|client|account|member(?:ship)?|user|login)(?i: ?id| ?numbers?| ?no\.?| ?name| card)?(?i:"
    rf"{_LINK})(?P<id>(?=[\w.-]{{4}})(?:[A-Za-z][\w.]{{0,30}}\d[\w.-]{{0,30}}|\d[\d-]{{2,20}}\d)(?![\w@]))"
)
_CODE = re.compile(r"(?<![\w-])(?P<prefix>[A-Z]{1,4})-(?P<digits>\d{1,12})(?![\w-])")
NOT_PRODUCTS = ("BT", "CET", "CVE", "EN", "GMT", "IP", "IPX", "ISO", "MP", "SHA", "USB", "UTC", "UTF", "WIFI", "WPA")
_CALL = re.compile(r"(?i)\b(?:phone|call|tel|telephone|mobile|cell|whatsapp|ring|dial|reach)\b[^.!?]{0,25}$")

MIN_DIGITS = 7  # of a telephone number

Finder = Callable[[str], Iterator[Field]]


def amounts(text: str) -> Iterator[Field]:
    """Find money: a number next to a sign, code or word of a currency; a number alone is not money."""
    for pattern in (_BEFORE, _AFTER):
        for m in pattern.finditer(text):
            value = _money(m["number"], m["unit"])
            if value is not None:
                yield Field("amount", value, m[0], *m.span())


def worded_amounts(text: str) -> Iterator[Field]:
    """Find money whose number is written as a word: ten euros."""
    lower = text.lower()
    if not any(word in lower for word in CURRENCY_WORDS):
        return
    for m in _WORDED.finditer(text):
        yield Field("amount", f"{NUMBER_WORDS[m['number'].lower()]}.00 {_currency(m['unit'])}", m[0], *m.span())


def _money(number: str, unit: str) -> str | None:
    amount = Price.fromstring(number).amount
    return None if amount is None else f"{amount:.2f} {_currency(unit)}"


def _currency(unit: str) -> str:
    if unit.endswith("$"):
        return DOLLARS.get(unit[:-1], "USD")
    word = unit.lower().removesuffix("s")
    return SIGNS.get(unit) or CURRENCY_WORDS.get(word) or unit.upper()


def dates(text: str, *, day_first: bool = True) -> Iterator[Field]:
    """Find dates that exist; of two numbers that could both be the month, `day_first` says which is the day."""
    for pattern in _DATES:
        for m in pattern.finditer(text):
            value = _date(m.groupdict(), day_first=day_first)
            if value is not None:
                yield Field("date", value, m[0], *m.span())


def _date(parts: dict[str, str | None], *, day_first: bool) -> str | None:
    year = int(y) if (y := parts.get("y")) else None
    if (a := parts.get("a")) and (b := parts.get("b")):
        first, second = int(a), int(b)
        day, month = (first, second) if (day_first and second <= 12) or first > 12 else (second, first)
        return iso_date(year, month, day)
    month = MONTHS[name.lower()] if (name := parts.get("month")) else int(parts["m"] or 0)
    return iso_date(year, month, int(d) if (d := parts.get("d")) else None)


def emails(text: str) -> Iterator[Field]:
    """Find e-mail addresses; the domain's case does not matter, so it is written small."""
    for m in _EMAIL.finditer(text):
        user, _, domain = m[0].rpartition("@")
        yield Field("email", f"{user}@{domain.lower()}", m[0], *m.span())


def phones(text: str, *, region: str = "US") -> Iterator[Field]:
    """Find telephone numbers: international ones, those of a region, and short local ones that are grouped as such."""
    if len(re.findall(r"\d", text)) < MIN_DIGITS:
        return
    for found in phonenumbers.PhoneNumberMatcher(text, region, leniency=phonenumbers.Leniency.POSSIBLE):
        if found.raw_string.isdigit() and not _CALL.search(text, max(0, found.start - 40), found.start):
            continue  # a run of digits is a number of something, unless the text says that it is a phone's
        yield Field("phone", _phone(found.raw_string), found.raw_string, found.start, found.end)
    for m in re.finditer(r"(?<![\w+])\+\d{1,3}(?:[ ./()-]{0,2}\d{1,5}){2,6}(?!\w)", text):
        yield Field("phone", _phone(m[0]), m[0], *m.span())


def _phone(text: str) -> str:
    digits = re.sub(r"\D", "", text)
    return f"+{digits}" if text.lstrip().startswith("+") else digits


def numbers_of(name: str, *patterns: re.Pattern[str]) -> Finder:
    """Return a finder of identifiers: the group ``id``, or all that matched."""

    def find(text: str) -> Iterator[Field]:
        for pattern in patterns:
            group = "id" if "id" in pattern.groupindex else 0
            for m in pattern.finditer(text):
                yield Field(name, compact(m[group]), m[group], *m.span(group))

    return find


tracking = numbers_of("tracking", *_TRACKING)
orders = numbers_of("order", *_ORDER)
references = numbers_of("reference", _REFERENCE)
accounts = numbers_of("account", _ACCOUNT)


def codes(text: str) -> Iterator[Field]:
    """Find codes of letters, hyphen and digits: up to four digits name a product, more an order."""
    for m in _CODE.finditer(text):
        if m["prefix"] not in NOT_PRODUCTS:
            yield Field("product" if len(m["digits"]) <= 4 else "order", m[0], m[0], *m.span())
