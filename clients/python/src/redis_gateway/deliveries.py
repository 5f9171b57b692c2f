"""What the server must be told sooner or later: settlements and charges that are kept while it is away."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

__all__ = ["Delivery", "KeptDeliveries"]

Word = str | bytes | int

# For so many seconds what was sent may still be on its way to a server that has frozen.
GRACE_S = 5.0


@dataclass
class Delivery:
    """A call that can be repeated, and what is sent instead if the server does not know what it is about."""

    words: list[Word]
    """Such as GW.SETTLE with its arguments."""
    fallback: list[list[Word]] = field(default_factory=lambda: list[list[str | bytes | int]]())
    """Sent if the reply is UNKNOWN or NOHOLD: charges, each with an id of its own."""
    first_sent: float | None = None
    """When it may have arrived for the first time, unix seconds; None if it certainly has not."""
    early: bool = False
    """What it is about may still be on its way to the server. Then UNKNOWN is no answer yet."""
    again_until: float = 0.0
    """The end of that, unix seconds: some time after the first answer. 0 before that answer."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def is_settlement(self) -> bool:
        return self.words[0] in ("GW.SETTLE", "GW.COMMIT", "GW.CANCEL")

    def ask_again(self) -> bool:
        """Called if the reply is UNKNOWN: whether that is no answer yet. A server that was frozen may read this before
        what was sent earlier on another connection, so the time counts from its first answer."""
        if self.early and not self.again_until:
            self.again_until = time.time() + GRACE_S
        return self.early and self.again_until > time.time()

    def charges(self) -> list[Delivery]:
        return [Delivery(words) for words in self.fallback]

    def line(self) -> str:
        made: dict[str, Any] = {"id": self.id, "words": [plain(word) for word in self.words]}
        if self.fallback:
            made["fallback"] = [[plain(word) for word in words] for words in self.fallback]
        if self.first_sent is not None:
            made["first_sent"] = self.first_sent
        if self.early:
            made["early"] = True
        if self.again_until:
            made["again_until"] = self.again_until
        return json.dumps(made)

    @classmethod
    def of(cls, made: dict[str, Any]) -> Delivery:
        return cls(
            made["words"],
            made.get("fallback", []),
            made.get("first_sent"),
            made.get("early", False),
            made.get("again_until", 0.0),
            made["id"],
        )


def plain(word: Word) -> str | int:
    return word.decode("utf-8", "surrogateescape") if isinstance(word, bytes) else word


class KeptDeliveries:
    """A bounded queue, in memory and, if it is given a directory, on the disk.

    Each process appends to a file of its own, which it locks. A file that nobody locks was left by a process that is
    gone:
    whoever finds it takes it over.
    """

    def __init__(self, count: int, directory: str | os.PathLike[str] | None) -> None:
        self._most = count
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Delivery] = OrderedDict()
        self._directory = Path(directory) if directory is not None else None
        self._file: IO[str] | None = None
        self._path: Path | None = None
        self._lines = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, delivery: Delivery) -> bool:
        """Whether there was room."""
        with self._lock:
            if len(self._kept) >= self._most and delivery.id not in self._kept:
                self.dropped += 1
                return False
            self._kept[delivery.id] = delivery
            self._write(delivery.line())
            return True

    def first(self, count: int) -> list[Delivery]:
        with self._lock:
            return [delivery for _, delivery in zip(range(count), self._kept.values(), strict=False)]

    def done(self, delivery: Delivery, instead: Sequence[Delivery] = ()) -> None:
        """Takes it out. What comes instead is there before it is gone."""
        with self._lock:
            for other in instead:
                self._kept[other.id] = other
                self._write(other.line())
            if self._kept.pop(delivery.id, None) is not None:
                self._write(json.dumps({"done": delivery.id}))
            self._shrink()

    def later(self, delivery: Delivery) -> None:
        """To the end of the queue, with what is known of it now."""
        with self._lock:
            if delivery.id in self._kept:
                self._kept.move_to_end(delivery.id)
                self._write(delivery.line())

    # The disk. All of it is called with the lock.

    def _write(self, line: str) -> None:
        if self._directory is None:
            return
        if self._file is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._path = self._directory / f"{uuid.uuid4().hex}.jsonl"
            self._file = self._path.open("a")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._file.write(line + "\n")
        self._file.flush()
        self._lines += 1

    def _shrink(self) -> None:
        if self._file is None:
            return
        if not self._kept:
            self._file.seek(0)
            self._file.truncate()
            self._lines = 0
        elif self._lines > 10_000 and self._lines > 10 * len(self._kept):
            # Written anew beside it, so that a crash in between loses nothing.
            old, old_path = self._file, self._path
            self._file, self._lines = None, 0
            for delivery in self._kept.values():
                self._write(delivery.line())
            if old_path is not None:
                old_path.unlink(missing_ok=True)
            old.close()

    def adopt(self) -> int:
        """Takes over what processes that are gone have left, and returns how much it was."""
        if self._directory is None or not self._directory.is_dir():
            return 0
        found = 0
        for path in sorted(self._directory.glob("*.jsonl")):
            if path == self._path:
                continue
            with contextlib.suppress(OSError, ValueError):
                found += self._adopt(path)
        return found

    def _adopt(self, path: Path) -> int:
        with path.open() as left:
            try:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return 0  # Its process lives.
            deliveries: dict[str, Delivery] = {}
            for made in lines_of(left):
                if "done" in made:
                    deliveries.pop(made["done"], None)
                else:
                    delivery = Delivery.of(made)
                    # It may have been under way when its process ended.
                    delivery.first_sent = delivery.first_sent or path.stat().st_mtime
                    deliveries[delivery.id] = delivery
            for delivery in deliveries.values():
                self.add(delivery)
            path.unlink(missing_ok=True)
            return len(deliveries)

    def close(self) -> None:
        """What is left stays on the disk for the next process."""
        with self._lock:
            if self._file is not None:
                if not self._kept and self._path is not None:
                    self._path.unlink(missing_ok=True)
                self._file.close()
                self._file = None


def lines_of(file: IO[str]) -> Iterator[dict[str, Any]]:
    for line in file:
        try:
            yield json.loads(line)
        except ValueError:
            return  # The last line of a process that was killed while it wrote.


def unix_ms() -> int:
    return int(time.time() * 1000)
