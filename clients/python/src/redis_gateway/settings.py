"""How a gateway behaves: its time-outs, and what it does while the server is away."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = ["Away", "Kept", "Local", "Mode", "Settings"]

Mode = Literal["open", "local", "closed"]
"""While the server is away: let everything pass, limit within this process, or refuse everything."""

MODES: Final = ("open", "local", "closed")


@dataclass(frozen=True)
class Local:
    """A limit of this deployment's own for admissions while the server is away. Each of `Settings.instances` gets its
    share."""

    requests: int
    """Requests in `window`, for each first account."""
    window: float = 60.0
    """Seconds."""

    def __post_init__(self) -> None:
        if self.requests < 0 or self.window <= 0:
            raise ValueError("Local: requests from 0, a window above 0")


@dataclass(frozen=True)
class Away:
    """What is decided while the server is away, by family."""

    limits: Mode = "local"
    """`allow` and `tokens`. Local: the call's own limit, divided by `Settings.instances`."""
    slots: Mode = "local"
    """`slot` with more than one slot. Local: the call's maximum, divided by `Settings.instances`. Locks are always
    closed."""
    budgets: Literal["open", "closed"] = "closed"
    """`within_budget` and `reserve`."""
    admission: Literal["open", "closed"] | Local = "closed"
    """`admit` and `route`. Closed suits prepaid accounts. `Local(...)` limits requests in this process."""

    def __post_init__(self) -> None:
        for name, allowed in (("limits", MODES), ("slots", MODES), ("budgets", ("open", "closed"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"Away.{name}: one of {', '.join(allowed)}")
        if not isinstance(self.admission, Local) and self.admission not in ("open", "closed"):
            raise ValueError("Away.admission: open, closed or Local(...)")


@dataclass(frozen=True)
class Kept:
    """Settlements and charges that the server has not taken yet. They are sent again until it takes them, each once."""

    count: int = 100_000
    """The most that are kept. Further ones are dropped, and counted."""
    directory: str | os.PathLike[str] | None = None
    """They survive the process in this directory. None: they are kept in memory only."""
    every: float = 1.0
    """Seconds between two tries."""
    settle_within: float = 3_300.0
    """A settlement that may have arrived is given up after this time: the server forgets settled leases after an
    hour."""
    charge_within: float = 80_000.0
    """The same for charges: the server forgets their ids after `gw.idempotency-ms`, a day by default."""
    book_within: float = 600.0
    """If the server does not know the admission of a settlement that may have arrived, its money is booked only within
    this time. An account remembers the last 65,536 that it settled, for an hour at most: at more than 18 a second it
    forgets sooner, and the money would be booked twice. The default suits up to 109 settlements a second for each
    account; set it to 65,536 divided by your rate if that is higher."""


@dataclass(frozen=True)
class Settings:
    """All durations are in seconds."""

    timeout: float = 0.05
    """The longest wait for a reply on the request path."""
    connect_timeout: float = 0.1
    """The longest wait for a connection."""
    connections: int = 50
    """The most connections to one server, besides those of `waiting_connections`."""
    waiting_connections: int = 8
    """The most connections on which calls wait inside the server: for an answer that another is computing, or for a
    slot."""
    waiting_timeout: float = 5.0
    """The longest wait for a reply on these. A longer wait is made of several calls."""
    failures: int = 5
    """So many failures in a row open the circuit: the server is not asked for `pause` seconds."""
    pause: float = 1.0
    instances: int = 1
    """How many processes share the limits. Each gets its part of a local limit while the server is away."""
    lease_ttl: float = 30.0
    """How long an admission's lease lives without a sign of life. It is extended every third of this time."""
    lease_cap: float = 600.0
    """An admission is not extended beyond this time after it was admitted."""
    away: Away = field(default_factory=Away)
    kept: Kept = field(default_factory=Kept)

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout", "waiting_timeout", "pause", "lease_ttl", "lease_cap"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Settings.{name}: above 0")
        for name in ("connections", "waiting_connections", "failures", "instances"):
            if getattr(self, name) < 1:
                raise ValueError(f"Settings.{name}: at least 1")
        if self.waiting_timeout < 0.5:
            raise ValueError("Settings.waiting_timeout: at least 0.5")
