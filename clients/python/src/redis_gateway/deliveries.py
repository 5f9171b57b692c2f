"""What the server must be told sooner or later: settlements and charges that are kept while it is away."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import logging
import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Delivery", "KeptDeliveries"]

log = logging.getLogger("redis_gateway")

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
    """The admission or hold that it ends was asked for, and no reply came: that question may reach the server after
    this does. Then UNKNOWN is not final, and it is sent again for some time."""
    again_until: float = 0.0
    """Until when it is sent again after UNKNOWN, unix seconds. 0 before the first UNKNOWN."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    stored: tuple[float | None, float] | None = field(default=None, compare=False, repr=False)
    """What the disk knows of it that may change; None if it is not there."""

    @property
    def is_settlement(self) -> bool:
        return self.words[0] in ("GW.SETTLE", "GW.COMMIT", "GW.CANCEL")

    def ask_again(self) -> bool:
        """Called if the reply is UNKNOWN: whether it is to be sent again. A server that was frozen may read this before
        what was sent earlier on another connection, so the time counts from the first UNKNOWN."""
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
    gone: whoever finds it takes it over. If the disk does not take something, it is kept in memory, and nothing is
    raised: a request does not fail because the disk is full.
    """

    def __init__(
        self,
        count: int,
        directory: str | os.PathLike[str] | None,
        *,
        settle_within: float = 3_300.0,
        charge_within: float = 80_000.0,
        book_within: float = 600.0,
    ) -> None:
        self._most = count
        self._settle_within = settle_within
        self._charge_within = charge_within
        self._book_within = book_within
        # A generator that the garbage collector ends settles its admission in whatever thread that happens, also in
        # one that is at work here.
        self._lock = threading.RLock()
        self._kept: OrderedDict[str, Delivery] = OrderedDict()
        self._directory = Path(directory) if directory is not None else None
        self._file: int | None = None
        self._path: Path | None = None
        self._lines = 0
        self._size = 0
        self._torn = False
        self._failing = False
        self._sending = 0
        self.dropped = 0
        self.given_up = 0
        """What was too old when its file was taken over."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def directory(self) -> Path | None:
        return self._directory

    def too_old(self, delivery: Delivery) -> bool:
        """It may have arrived, and the server may have forgotten that: to send it again could charge it twice."""
        within = self._settle_within if delivery.is_settlement else self._charge_within
        return delivery.first_sent is not None and time.time() - delivery.first_sent > within

    def may_book(self, delivery: Delivery) -> bool:
        """Whether UNKNOWN certainly means that it was never settled. A busy account forgets what was settled before
        an hour has passed."""
        return delivery.first_sent is None or time.time() - delivery.first_sent <= self._book_within

    def add(self, delivery: Delivery) -> bool:
        """Whether there was room."""
        with self._lock:
            if len(self._kept) >= self._most and delivery.id not in self._kept:
                self.dropped += 1
                return False
            self._kept[delivery.id] = delivery
            self._store(delivery)
            return True

    def first(self, count: int) -> list[Delivery]:
        with self._lock:
            return list(itertools.islice(self._kept.values(), count))

    def sending(self, now: bool) -> None:
        """Whether some of them are under way: if the process ends meanwhile, they may have arrived."""
        with self._lock:
            before, self._sending = self._sending, max(0, self._sending + (1 if now else -1))
            if self._file is not None and bool(before) != bool(self._sending):
                self._write(json.dumps({"sending": now}))

    def done(self, delivery: Delivery, instead: Sequence[Delivery] = ()) -> None:
        """Takes it out. What comes instead is there before it is gone."""
        with self._lock:
            for other in instead:
                self._kept[other.id] = other
                self._store(other)
            if self._kept.pop(delivery.id, None) is not None and delivery.stored is not None:
                self._write(json.dumps({"done": delivery.id}))
            self._shrink()

    def later(self, delivery: Delivery) -> None:
        """To the end of the queue, with what is known of it now."""
        with self._lock:
            if delivery.id in self._kept:
                self._kept.move_to_end(delivery.id)
                self._store(delivery)
                self._shrink()

    def after_fork(self) -> None:
        """In the child: all of it belongs to the parent, which sends it."""
        self._lock = threading.RLock()
        self._kept = OrderedDict()
        if self._file is not None:
            # Or the child would hold the parent's lock after the parent is gone.
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file = self._path = None
        self._lines = self._size = self._sending = 0
        self._torn = False

    # The disk. All of it is called with the lock.

    def _store(self, delivery: Delivery) -> bool:
        """Whether the disk has it as it is now. Nothing is written if nothing has changed."""
        state = (delivery.first_sent, delivery.again_until)
        if self._directory is None:
            return False
        if delivery.stored != state and self._write(delivery.line()):
            delivery.stored = state
        return delivery.stored == state

    def _write(self, line: str) -> bool:
        if self._directory is None:
            return False
        try:
            if self._file is None:
                self._file, self._path = self._opened(self._directory, ())
                self._lines = self._size = 0
                self._torn = False
            data = (("\n" if self._torn else "") + line + "\n").encode()
            self._append(self._file, data)
        except OSError as error:
            if not self._failing:
                self._failing = True
                log.error("settlements and charges are kept in memory only: %s", os.strerror(error.errno or 0))
            return False
        self._failing = self._torn = False
        self._size += len(data)
        self._lines += 1
        return True

    def _append(self, file: int, data: bytes) -> None:
        try:
            write_all(file, data)
        except OSError:
            # Half a line would spoil the next one.
            self._torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._size)
                self._torn = False
            raise

    def _opened(self, directory: Path, lines: Iterable[str]) -> tuple[int, Path]:
        """A new file that is locked, and has these lines, before others can find it."""
        directory.mkdir(parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        hidden, path = directory / f"{name}.new", directory / f"{name}.jsonl"
        file = os.open(hidden, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = "".join(line + "\n" for line in lines).encode()
            if data:
                write_all(file, data)
            hidden.rename(path)
        except BaseException:
            os.close(file)
            hidden.unlink(missing_ok=True)
            raise
        return file, path

    def _shrink(self) -> None:
        if self._file is None:
            return
        try:
            if not self._kept:
                os.ftruncate(self._file, 0)
                self._lines = self._size = 0
                self._torn = False
            elif self._lines > 10_000 and self._lines > 10 * len(self._kept):
                self._rewrite()
        except OSError:
            self._lines = 0  # The old file is as good, only longer. It is tried again after as many lines.

    def _rewrite(self) -> None:
        """Written anew beside it, so that a crash in between loses nothing."""
        if self._directory is None or self._file is None:
            return
        old, old_path = self._file, self._path
        kept = list(self._kept.values())
        lines = [delivery.line() for delivery in kept]
        if self._sending:
            lines.append(json.dumps({"sending": True}))
        self._file, self._path = self._opened(self._directory, lines)
        for delivery in kept:
            delivery.stored = (delivery.first_sent, delivery.again_until)
        self._lines, self._size, self._torn = len(lines), os.fstat(self._file).st_size, False
        if old_path is not None:
            old_path.unlink(missing_ok=True)
        os.close(old)

    def adopt(self) -> int:
        """Takes over what processes that are gone have left, and returns how much it was."""
        if self._directory is None or not self._directory.is_dir():
            return 0
        found = 0
        for path in sorted(self._directory.glob("*.jsonl")):
            if path != self._path:
                with contextlib.suppress(OSError):
                    found += self._adopt(path)
        for path in self._directory.glob("*.new"):
            # A process has ended while it opened its file.
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > 600:
                    path.unlink()
        return found

    def _adopt(self, path: Path) -> int:
        with path.open("r+b") as left:
            try:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return 0  # Its process lives.
            status = os.fstat(left.fileno())
            if status.st_nlink == 0:
                return 0  # Another process has taken it over between the two lines above.
            deliveries = deliveries_of(left, status.st_mtime)
            over: list[str] = []
            found = 0
            for delivery in deliveries:
                if self.too_old(delivery):
                    self.given_up += 1
                elif not self._take_over(delivery):
                    continue
                else:
                    found += 1
                over.append(delivery.id)
            if len(over) == len(deliveries):
                path.unlink(missing_ok=True)
            elif over:
                # There was no room for the others, in memory or on the disk: they stay where they are.
                left.seek(0, os.SEEK_END)
                left.write(b"\n" + b"".join(json.dumps({"done": one}).encode() + b"\n" for one in over))
            return found

    def _take_over(self, delivery: Delivery) -> bool:
        with self._lock:
            if delivery.id in self._kept:
                return True
            if len(self._kept) >= self._most:
                return False
            self._kept[delivery.id] = delivery
            if self._store(delivery):
                return True
            del self._kept[delivery.id]
            return False

    def close(self) -> None:
        """What is left stays on the disk for the next process."""
        with self._lock:
            if self._file is not None:
                if not self._kept and self._path is not None:
                    self._path.unlink(missing_ok=True)
                os.close(self._file)
                self._file = self._path = None


def write_all(file: int, data: bytes) -> None:
    """A disk that is nearly full takes a part."""
    while data:
        data = data[os.write(file, data) :]


def deliveries_of(file: Iterable[bytes], left_at: float) -> list[Delivery]:
    """What a file has, and has not been done with. `left_at`: when it was written for the last time."""
    found: dict[str, Delivery] = {}
    sending = False
    for made in lines_of(file):
        if "done" in made:
            found.pop(made["done"], None)
        elif "sending" in made:
            sending = bool(made["sending"])
        else:
            delivery = Delivery.of(made)
            found[delivery.id] = delivery
    if sending:
        # They may have been under way when their process ended.
        for delivery in found.values():
            delivery.first_sent = delivery.first_sent or left_at
    return list(found.values())


def lines_of(file: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in file:
        try:
            made = json.loads(line)
        except ValueError:
            continue  # Half a line: the process was killed, or the disk was full. What follows is whole.
        if isinstance(made, dict) and ("done" in made or "sending" in made or ("id" in made and "words" in made)):
            yield made


def unix_ms() -> int:
    return int(time.time() * 1000)
