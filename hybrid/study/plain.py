"""Plain: policies, columns and what was found as JSON values, for projects, links and files that a person reads."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hybrid.data import foreign
from hybrid.data.columns import Columns, RecordedColumns
from hybrid.errors import HybridError, StudyError
from hybrid.production.bundle import by_name, pattern_name, plain_scope, scope_from, spoken
from hybrid.routing.engine import Policy
from hybrid.routing.patterns import PATTERNS
from hybrid.routing.table import NEVER, Tier
from hybrid.study.terms import Terms

MAX_LINK = 65_536  # characters that are unpacked from a link


def plain_policy(policy: Policy, classes: Sequence[str]) -> dict[str, Any]:
    """Return a policy as JSON values; a class's own values stand under its name."""
    said: dict[str, Any] = {
        "pattern": pattern_name(policy.pattern),
        "tiers": list(policy.names),
        "parameters": by_name(policy.pattern, classes),
    }
    return said if policy.scope is None else said | {"scope": plain_scope(policy.scope, classes)}


def policy_from(stored: Mapping[str, Any], tiers: Sequence[Tier], classes: Sequence[str]) -> Policy:
    """Return the policy that `plain_policy` wrote, over the tiers that are here now.

    Raises
    ------
    StudyError
        If a tier, the pattern or a parameter is not known here.
    """
    here = {t.name: t for t in tiers}
    try:
        kind = PATTERNS[stored["pattern"]]
        missing = [name for name in stored["tiers"] if name not in here]
        if missing:
            raise StudyError(f"There is no tier called {missing[0]!r} here. The tiers are {', '.join(here)}.")
        values: dict[str, Any] = {}
        for p in kind.params():
            value = stored["parameters"][p.name]
            if p.high == NEVER:
                value = spoken(value, "never", NEVER)
            if p.per_class:
                unknown = [c for c in value if c not in classes]
                if unknown:
                    raise StudyError(f"{p.label.format(label='a class')}: there is no class {unknown[0]!r} here.")
                value = tuple(value.get(c) for c in classes) if value else ()
            values[p.name] = tuple(value) if p.per_tier else value
        scope = None if stored.get("scope") is None else scope_from(stored["scope"], classes)
        return Policy(kind(**values), tuple(here[name] for name in stored["tiers"]), scope)
    except StudyError:
        raise
    except (HybridError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"The stored policy cannot be read: {error}.") from error


def plain(value: Any, classes: Sequence[str] = ()) -> Any:
    """Return a record of numbers, words, policies and records as JSON values; nan, which JSON has not, as None."""
    if isinstance(value, Policy):
        return plain_policy(value, classes)
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name), classes) for f in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(each, classes) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each, classes) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def from_plain(kind: Any, stored: Any, tiers: Sequence[Tier], classes: Sequence[str]) -> Any:
    """Return what `plain` wrote of a record of this kind, its policies over these tiers.

    Raises
    ------
    StudyError
        If it does not fit: another version wrote it, or a tier is gone.
    """
    try:
        return _value(kind, stored, tiers, classes)
    except StudyError:
        raise
    except (HybridError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyError(f"What is stored is no {kind.__name__} of this version: {error!r}.") from error


def _value(kind: Any, stored: Any, tiers: Sequence[Tier], classes: Sequence[str]) -> Any:
    outer, inner = get_origin(kind), get_args(kind)
    if kind is Policy:
        return policy_from(stored, tiers, classes)
    if outer in (Union, UnionType):
        if stored is None and NoneType in inner:
            return None
        several = isinstance(stored, list)
        kind = next(k for k in inner if k is not NoneType and (get_origin(k) is tuple) == several)
        return _value(kind, stored, tiers, classes)
    if outer is tuple:
        kinds = inner[:1] * len(stored) if inner[-1] is Ellipsis else inner
        return tuple(_value(k, each, tiers, classes) for k, each in zip(kinds, stored, strict=True))
    if outer is dict:
        return {name: _value(inner[1], each, tiers, classes) for name, each in stored.items()}
    if is_dataclass(kind):
        of = get_type_hints(kind)
        return kind(**{f.name: _value(of[f.name], stored[f.name], tiers, classes) for f in fields(kind)})  # type: ignore[operator]
    if kind is float:
        return math.nan if stored is None else float(stored)
    if not isinstance(stored, kind):
        raise TypeError(f"{stored!r} is no {kind.__name__}")
    return stored


def plain_columns(columns: Columns) -> dict[str, Any]:
    """Return what each column is, as JSON values."""
    return asdict(columns)


def columns_from(stored: Mapping[str, Any]) -> Columns:
    """Return the columns that `plain_columns` wrote.

    Raises
    ------
    StudyError
        If something in it is not known here.
    """
    try:
        found = dict(stored)
        found["recorded"] = tuple(RecordedColumns(**r) for r in found.get("recorded", ()))
        return Columns(**found)
    except (TypeError, AttributeError) as error:
        raise StudyError(f"The stored columns cannot be read: {error}.") from error


def link(policy: Policy, terms: Terms, classes: Sequence[str]) -> str:
    """Return a policy and the terms that it is measured on as the value of a link's parameter."""
    said = json.dumps([plain_policy(policy, classes), terms.plain()], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(zlib.compress(said.encode(), 9)).decode().rstrip("=")


def from_link(value: str) -> tuple[Mapping[str, Any], Terms]:
    """Return the plain policy and the terms of a link.

    Raises
    ------
    StudyError
        If it is damaged.
    """
    try:
        packed = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        said = zlib.decompressobj().decompress(packed, MAX_LINK)
        match foreign.parse(said):
            case [dict(policy), dict(terms)]:
                return policy, Terms.from_plain(terms)
        raise ValueError("it holds something else")
    except (ValueError, zlib.error) as error:
        raise StudyError("The link is damaged or was cut off: copy it again.") from error
