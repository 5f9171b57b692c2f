"""LiteLLM's settings of a key, user, team, organisation or model, as policies of an account."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any, TypeAlias

__all__ = ["UNKNOWN", "Policy", "budget", "document", "limits", "money"]

log = logging.getLogger("redis_gateway_litellm")

Policy: TypeAlias = dict[str, Any]
UNKNOWN = "unknown"
"""The duration of a budget that LiteLLM does not tell here."""

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
UNITS_MS = {"s": 1_000, "m": MINUTE_MS, "h": 60 * MINUTE_MS, "d": DAY_MS, "w": 7 * DAY_MS}
NAMED = {"hourly": "1h", "daily": "1d", "weekly": "7d", "monthly": "1mo", "1month": "1mo"}
LONGEST_WINDOW_MS = 365 * DAY_MS
MOST_IN_WINDOW = Decimal(9_000_000)
# More than anybody has, and little enough for the sums of the server and the digits of a Decimal.
MOST_USD = Decimal(10**12)
QUANTUM = Decimal("1e-12")
# What LiteLLM resets at midnight, on Mondays, and on the first of a month.
CALENDAR = {"1d": "day", "24h": "day", "7d": "week", "1w": "week", "30d": "month", "1mo": "month"}
complained: set[str] = set()


def money(amount: object) -> Decimal:
    """A float is the number that it shows, at most MOST_USD. Not finite or not a number: 0."""
    try:
        found = Decimal(str(amount))
    except InvalidOperation:
        return Decimal(0)
    if not found.is_finite():
        return Decimal(0)
    return max(-MOST_USD, min(found, MOST_USD)).quantize(QUANTUM, rounding=ROUND_CEILING)


def plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def document(policies: Iterable[Policy]) -> str:
    """The document of GW.POLICYPUT: the same bytes for the same settings."""
    return json.dumps({"policies": list(policies)}, separators=(",", ":"), sort_keys=True)


def limits(rpm: object, tpm: object, parallel: object = None, *, token_meter: str = "tokens") -> list[Policy]:
    """Requests and tokens in any 60 seconds, and requests at a time. What was taken for a request that gives no sign of
    life is given back."""
    made: list[Policy] = []
    if (most := whole(rpm)) is not None:
        made.append({"name": "rpm", "kind": "window", "limit": most, "per_ms": MINUTE_MS})
    if (most := whole(tpm)) is not None:
        window = {"name": "tpm", "kind": "window", "limit": most, "per_ms": MINUTE_MS}
        made.append({**window, "meter": token_meter, "give_back": True})
    if (most := whole(parallel)) is not None:
        made.append({"name": "parallel", "kind": "inflight", "max": most})
    return made


def whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # LiteLLM's sys.maxsize means no limit.
    return max(0, int(value)) if value < 2**53 else None


def budget(most: object, soft: object, duration: object, reset_at: datetime | None, whose: str) -> list[Policy]:
    """The budget of a period, if there is one. `whose` names its owner in what is logged."""
    most_usd = max(money(most), Decimal(0)) if amount(most) else None
    soft_usd = money(soft) if amount(soft) and money(soft) > 0 else None
    if most_usd is None and soft_usd is None:
        return []
    period = period_of(duration, reset_at)
    if period is None:
        complain(
            f"the budget_duration of {whose} is not known here: LiteLLM's own check of this budget is the only one"
        )
        return []
    if most_usd is None:
        assert soft_usd is not None
        if "period" not in period:
            complain(f"the soft_budget of {whose} has no equal: its period is not a day, a week or a month")
            return []
        # It refuses nobody, and raises the event.
        shadow = {
            "name": "soft_budget",
            "kind": "budget",
            "amount": plain(soft_usd),
            "soft_percent": 100,
            "shadow": True,
        }
        return [{**shadow, **period}]
    if "period" in period:
        made: Policy = {"name": "budget", "kind": "budget", "amount": plain(most_usd), **period}
        if soft_usd is not None and most_usd > 0:
            percent = (soft_usd * 100 / most_usd).to_integral_value(ROUND_FLOOR)
            made["soft_percent"] = int(min(max(percent, Decimal(1)), Decimal(100)))
        return [made]
    if most_usd > MOST_IN_WINDOW:
        complain(f"the budget of {whose} is more than {MOST_IN_WINDOW} in a window: only LiteLLM itself checks it")
        return []
    if soft_usd is not None:
        complain(f"the soft_budget of {whose} has no equal: its period is not a day, a week or a month")
    if int(period["per_ms"]) > LONGEST_WINDOW_MS:
        complain(f"the budget_duration of {whose} is too long for a window: only LiteLLM itself checks this budget")
        return []
    # It counts billionths.
    limit = plain(most_usd.quantize(Decimal("1e-9"), rounding=ROUND_FLOOR))
    window = {"name": "budget", "kind": "window", "limit": limit, "meter": "usd", "decimal": True}
    return [{**window, "fixed": True, **period}]


def amount(value: object) -> bool:
    """Without an end it is no limit."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def period_of(duration: object, reset_at: datetime | None) -> dict[str, Any] | None:
    """Members of a policy: the period of a budget, or the windows of one that is no period of the calendar."""
    if duration is None:
        return {"period": "total"}
    text = NAMED.get(str(duration).strip().lower(), str(duration).strip().lower())
    calendar = CALENDAR.get(text)
    end = reset_at.astimezone(timezone.utc) if reset_at is not None else None
    if calendar is not None and (calendar == "month" or end is None or (end.hour, end.minute) == (0, 0)):
        return {"period": calendar}
    unit = text.lstrip("0123456789")
    number = text[: len(text) - len(unit)]
    if unit not in UNITS_MS or not number or int(number) == 0:
        return None
    # Without a known end, windows begin with the hour or the day, as LiteLLM's do.
    anchor_ms = int(end.timestamp() * 1000) if end is not None else 0
    return {"per_ms": int(number) * UNITS_MS[unit], "anchor_ms": anchor_ms % (int(number) * UNITS_MS[unit])}


def complain(text: str) -> None:
    """Once for each text."""
    if text not in complained and len(complained) < 10_000:
        complained.add(text)
        log.warning(text)


def entry_of(settings: object, model: str) -> tuple[str | None, Any]:
    """The entry of a setting by model that governs this one, and its value: that of its name, with or without the
    provider's, or else the pattern such as `gpt-*` with the most letters."""
    if not isinstance(settings, Mapping):
        return None, None
    names = (model, model.rpartition("/")[2])
    patterns = [entry for entry in settings if isinstance(entry, str) and "*" in entry]
    patterns.sort(key=lambda entry: (len(entry) - entry.count("*"), -entry.count("*"), entry), reverse=True)
    found = next((name for name in names if name in settings), None) or next(
        (entry for entry in patterns if any(fits(entry, name) for name in names)), None
    )
    return found, settings[found] if found is not None else None


def fits(pattern: str, name: str) -> bool:
    """`*` stands for any letters, and nothing else has a meaning. Each piece is taken where it comes first, so that no
    pattern takes long."""
    first, *pieces, last = pattern.split("*")
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for piece in pieces:
        found = name.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
