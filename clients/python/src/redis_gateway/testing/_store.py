"""Cache entries and log queues."""

from __future__ import annotations

from collections import deque

from ._words import refused

__all__ = ["Entry", "FillLeases", "Queue"]


class Entry:
    def __init__(self, value: bytes, at: int, fresh: int, stale: int, category: bytes, tags: list[bytes]) -> None:
        self.value = value
        self.at = at
        self.fresh_ms = fresh
        self.stale_ms = stale
        self.category = category
        self.tags = tags
        self.fresh_until = at + fresh
        self.until = at + fresh + stale

    def touch(self, now: int) -> None:
        if now < self.fresh_until:
            self.fresh_until = now + self.fresh_ms
            self.until = self.fresh_until + self.stale_ms


class FillLeases:
    """Who computes which key: its token, its end, and the name of the call."""

    def __init__(self) -> None:
        self.leases: dict[bytes, tuple[int, int, bytes]] = {}
        self.last_token = 1_000_000
        self.cleared: dict[tuple[bytes, bytes], int] = {}
        """The last token before each clear."""

    def live(self, key: bytes, now: int) -> tuple[int, int, bytes] | None:
        lease = self.leases.get(key)
        return lease if lease is not None and lease[1] > now else None

    def ask(self, key: bytes, now: int, length: int, holder: bytes) -> tuple[int, int]:
        """The token, 0 if another call has the lease; and how long the lease lasts."""
        lease = self.live(key, now)
        if lease is not None and not (holder and lease[2] == holder):
            return 0, lease[1] - now
        if lease is None:
            self.last_token += 1
            lease = self.leases[key] = (self.last_token, now + length, holder)
        return lease[0], lease[1] - now

    def may_store(self, token: int, category: bytes, tags: list[bytes]) -> bool:
        """Whether nothing that the value belongs to was cleared since the token was given."""
        names = [(b"ALL", b""), (b"CATEGORY", category), *((b"TAG", tag) for tag in tags)]
        return all(self.cleared.get(name, 0) < token for name in names)

    def end(self, key: bytes, token: int, now: int) -> bool:
        lease = self.live(key, now)
        if lease is None or lease[0] != token:
            return False
        del self.leases[key]
        return True


class Queue:
    def __init__(self) -> None:
        self.records: deque[bytes] = deque()
        self.ids: set[bytes] = set()

    def push(self, records: list[bytes], most: int, size: int, reject: bool, push_id: bytes) -> list[int]:
        if push_id and push_id in self.ids:
            return [len(self.records), 0]

        def too_much(count: int, length: int) -> bool:
            return count > most or length > size

        length = sum(map(len, self.records)) + sum(map(len, records))
        if reject and too_much(len(self.records) + len(records), length):
            raise refused("the queue is full: nothing was stored", "QUEUEFULL")
        self.records.extend(records)
        dropped = 0
        while too_much(len(self.records), length):
            length -= len(self.records.popleft())
            dropped += 1
        if push_id:
            self.ids.add(push_id)
        return [len(self.records), dropped]
