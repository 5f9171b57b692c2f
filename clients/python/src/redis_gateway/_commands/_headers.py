"""HTTP headers that tell of limits: the IETF draft's, OpenAI's, Anthropic's, and Retry-After."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal, TypeAlias

from ._types import Admission, AdmissionRow, Verdict

#: Whose headers: those of the IETF draft ratelimit-headers, OpenAI's, or Anthropic's.
HeaderFamily: TypeAlias = Literal["ietf", "openai", "anthropic"]

ALL: tuple[HeaderFamily, ...] = ("ietf", "openai", "anthropic")
#: The meters that OpenAI's and Anthropic's headers are about, by what they are called there.
OPENAI = {"requests": "requests", "tokens": "tokens"}
ANTHROPIC = {**OPENAI, "input_tokens": "input-tokens", "output_tokens": "output-tokens"}


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit in whole units, as headers tell of it."""

    name: str
    meter: str
    allowed: bool
    limit: int
    remaining: int
    reset_after_ms: int
    period_ms: int

    def tightness(self) -> tuple[bool, int, int]:
        """The least is the limit that a client meets first."""
        return self.allowed, self.remaining, -self.reset_after_ms


def verdict_headers(
    name: str, verdict: Verdict, period_ms: int, now_ms: int, *, families: Collection[HeaderFamily] = ALL
) -> dict[str, str]:
    """The headers of one limiter. `name` is `requests` for a limit on requests, and `tokens` for one on tokens."""
    allowed, limit, remaining = verdict.allowed, verdict.limit, verdict.remaining
    limits = [Limit(name, name, allowed, limit, remaining, verdict.reset_after_ms, period_ms)]
    return headers(limits, now_ms, families) | retry_after(allowed, verdict.retry_after_ms)


def admission_headers(
    admission: Admission,
    now_ms: int,
    *,
    meters: Mapping[str, str] | None = None,
    families: Collection[HeaderFamily] = ALL,
) -> dict[str, str]:
    """The headers of a decision with `ROWS DETAIL`.

    They tell of windows and buckets that count whole units. If several count one meter, OpenAI's and Anthropic's
    headers tell of the one that a client meets first. Budgets are left out, since their amounts are decimals. `meters`
    gives the usual names of meters that are called otherwise here, such as `{"tpm": "tokens"}`.
    """
    limits = [limit for row in admission.rows if (limit := limit_of(row, meters or {}, admission.admitted))]
    return headers(limits, now_ms, families) | retry_after(admission.admitted, admission.retry_after_ms)


def limit_of(row: AdmissionRow, meters: Mapping[str, str], admitted: bool) -> Limit | None:
    if row.kind not in ("WINDOW", "BUCKET") or row.reset_after_ms < 0 or row.period_ms is None or row.meter is None:
        return None
    if not isinstance(row.limit, int) or not isinstance(row.remaining, int):
        return None
    # The policy is in SHADOW: it refuses nobody.
    if admitted and not row.allowed:
        return None
    meter = meters.get(row.meter, row.meter)
    return Limit(row.policy, meter, row.allowed, row.limit, row.remaining, row.reset_after_ms, row.period_ms)


def retry_after(allowed: bool, retry_after_ms: int) -> dict[str, str]:
    """None if waiting does not help."""
    return {} if allowed or retry_after_ms < 0 else {"Retry-After": str(seconds(retry_after_ms))}


def headers(limits: Iterable[Limit], now_ms: int, families: Collection[HeaderFamily]) -> dict[str, str]:
    by_name: dict[str, Limit] = {}
    by_meter: dict[str, Limit] = {}
    for limit in limits:
        for found, key in ((by_name, limit.name), (by_meter, limit.meter)):
            if key not in found or limit.tightness() < found[key].tightness():
                found[key] = limit
    made: dict[str, str] = {}
    if by_name and "ietf" in families:
        named = [(quoted(name), limit) for name, limit in by_name.items()]
        made["RateLimit-Policy"] = ", ".join(f"{name};q={one.limit};w={seconds(one.period_ms)}" for name, one in named)
        made["RateLimit"] = ", ".join(
            f"{name};r={one.remaining};t={seconds(one.reset_after_ms)}" for name, one in named
        )
    for meter, limit in by_meter.items():
        if "openai" in families and (name := OPENAI.get(meter)):
            made[f"x-ratelimit-limit-{name}"] = str(limit.limit)
            made[f"x-ratelimit-remaining-{name}"] = str(limit.remaining)
            made[f"x-ratelimit-reset-{name}"] = duration(limit.reset_after_ms)
        if "anthropic" in families and (name := ANTHROPIC.get(meter)):
            made[f"anthropic-ratelimit-{name}-limit"] = str(limit.limit)
            made[f"anthropic-ratelimit-{name}-remaining"] = str(limit.remaining)
            made[f"anthropic-ratelimit-{name}-reset"] = time(now_ms + limit.reset_after_ms)
    return made


def quoted(name: str) -> str:
    """A string of RFC 9651, which has printable ASCII alone."""
    shown = "".join(letter if " " <= letter <= "~" else "?" for letter in name)
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


def seconds(ms: int) -> int:
    """Rounded up: a client that waits so long is admitted."""
    return -(-ms // 1000)


def duration(ms: int) -> str:
    """As OpenAI writes it: 1h2m3.5s."""
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{ms // 1000}.{ms % 1000:03}".rstrip("0").rstrip(".") + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def time(unix_ms: int) -> str:
    """RFC 3339, in UTC, with milliseconds."""
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=unix_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
