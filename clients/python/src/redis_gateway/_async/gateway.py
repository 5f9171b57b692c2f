"""The gateway's client."""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from .. import lifetime
from .._commands import Amount, AsyncCommands, Pick, Request, Rows, requests
from .._errors import GatewayError, NoPermission
from ..decisions import Health, LimitDecision
from ..failures import Unavailable
from ..settings import Settings
from ..telemetry import Telemetry
from . import _runtime as runtime
from .admission import AsyncAdmission, AsyncAdmitter, Plan
from .batches import AsyncBatches, AsyncLogBatch
from .cache import AsyncCache, AsyncStreamCache
from .core import AsyncCore
from .keeper import AsyncKeeper
from .limits import AsyncBudgets, AsyncLimits
from .locks import AsyncLocks, AsyncSlot
from .logs import AsyncLogs
from .routing import AsyncAttempt, AsyncRoutedRequest, AsyncRouter, Failures, requested

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncGateway"]

T = TypeVar("T")


def json_bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class GatewayCommands(AsyncCommands):
    """Each command of the module, typed. They raise Unavailable if the server is away."""

    __slots__ = ("_core",)

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def run(self, request: Request[T]) -> T:
        if "BLOCK" in request.args or "WAIT" in request.args:
            return await self._core.transport.wait(request)
        return await self._core.run(request)


class AsyncGateway:
    """Limits, budgets, admissions, cache and logs over the application's own client of redis-py.

    It takes the client's address, credentials, TLS and protocol, and opens connections of its own with its own
    time-outs: at most `Settings.connections` and `Settings.waiting_connections` to each server, and 3 for what no
    request waits for. The client itself is not used and not closed. It may be a Redis, a RedisCluster, or what
    Sentinel's `master_for` returns, with any decode setting.

    Use it as a context, or call `aclose`: then log records and kept charges are sent before the program ends.
    """

    def __init__(
        self,
        client: Any,
        settings: Settings | None = None,
        *,
        plans: Plan | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.telemetry = telemetry or Telemetry()
        self._core = AsyncCore(client, self.settings, self.telemetry)
        self._keeper = AsyncKeeper(self._core)
        self._admitter = AsyncAdmitter(self._core, self._keeper, plans)
        self._router = AsyncRouter(self._core, self._keeper)
        self._limits = AsyncLimits(self._core)
        self._locks = AsyncLocks(self._core, self._keeper)
        self._batches = AsyncBatches(self._core, self._keeper)
        self._logs: list[AsyncLogs] = []
        self._caches: weakref.WeakSet[AsyncCache[Any]] = weakref.WeakSet()
        self.commands = GatewayCommands(self._core)
        """Each command of the module, typed, within the time-outs of the request path. In a cluster, one that names no
        key is sent to one of the primaries."""
        self.budgets = AsyncBudgets(self._core)
        lifetime.watch(self)

    # Admissions.

    async def admit(
        self,
        accounts: str | bytes | Sequence[str | bytes],
        estimates: Mapping[str, Amount] | None = None,
        *,
        ttl: float | None = None,
        lease_id: str | None = None,
        rows: Rows = "DETAIL",
        require: bool = False,
        keep_alive: bool = True,
        attributes: Mapping[str, str] | None = None,
        away: str | None = None,
    ) -> AsyncAdmission:
        """Asks whether a request may go on, and charges its estimates to all accounts, or to none.

            async with await gateway.admit(["{ml}:key:7", "{ml}"], {"tokens": 1500, "usd": "0.02"}) as admission:
                if not admission.ok:
                    return Response(status=admission.status_code, headers=admission.headers())
                answer = await call_model()
                admission.use(tokens=answer.tokens, usd=answer.price)

        Args:
            accounts: The keys of the accounts, such as the API key's and its team's. In a cluster they may be in
            several slots.
            estimates: What the request will probably use, by meter. Estimate high: the settlement gives back the rest.
            ttl: For how many seconds the admission lives without a sign of life. It is kept alive until it ends.
            lease_id: The name of this attempt, new for each. Made here if it is not given.
            rows: Which policies' rows to reply. `DETAIL` has what `headers()` needs; `REFUSED` is cheaper.
            require: Deny if one of the accounts does not exist. If `plans` of the gateway knows a plan for it, it is
            made.
            attributes: Attributes for OpenTelemetry's token metrics, such as `gen_ai.request.model`.
            away: The server was away, for this reason, when this request asked it something else: decides as then,
            without asking, so that a request waits for a server that does not answer once.
        """
        admission = self._admitter.prepare(accounts, estimates or {}, ttl, lease_id, attributes)
        await self._admitter.admit(admission, rows, require, keep_alive, away)
        return admission

    async def route(
        self,
        targets: Sequence[str | bytes],
        estimates: Mapping[str, Amount] | None = None,
        *,
        pick: Pick = "FIRST",
        ttl: float | None = None,
        lease_id: str | None = None,
        keep_alive: bool = True,
        failures: Failures = (),
        away: str | None = None,
    ) -> AsyncAttempt:
        """Picks one of several targets that has room for a request, and charges the estimates to it. `failures`: which
        exceptions say that the target has failed, besides CallFailed: their types, or a function. `away`: as in
        `admit`, such as the reason of a degraded admission."""
        return await self._router.route(
            targets,
            estimates or {},
            pick=pick,
            ttl=ttl,
            lease_id=lease_id,
            keep_alive=keep_alive,
            failures=failures,
            attributes={},
            away=away,
        )

    async def request(
        self,
        accounts: str | bytes | Sequence[str | bytes],
        targets: Sequence[str | bytes],
        estimates: Mapping[str, Amount] | None = None,
        *,
        pick: Pick = "FAST",
        attempts: int = 3,
        ttl: float | None = None,
        attributes: Mapping[str, str] | None = None,
        failures: Failures = (),
    ) -> AsyncRoutedRequest:
        """Admits a request for its accounts; `attempts()` of the result then goes from target to target until one
        serves it.

        Args:
            failures: After which exceptions the next target is tried, besides CallFailed: their types, such as
            `(openai.APIConnectionError, openai.InternalServerError)`, or a function of the exception, which returns
            whether, or a CallFailed with its `retry_after`.
        """
        admission = self._admitter.prepare(accounts, estimates or {}, ttl, None, attributes)
        return await requested(self._admitter, self._router, admission, targets, pick, attempts, failures)

    # Limits, slots, locks.

    async def allow(
        self, key: str, limit: int, *, window: float = 60.0, cost: int = 1, peek: bool = False
    ) -> LimitDecision:
        """Whether `cost` units fit into the last `window` seconds."""
        return await self._limits.allow(key, limit, window=window, cost=cost, peek=peek)

    async def tokens(
        self, key: str, rate: int, burst: int, *, per: float = 60.0, cost: int = 1, peek: bool = False
    ) -> LimitDecision:
        """Whether a bucket has `cost` tokens: it holds `burst`, and gets `rate` tokens every `per` seconds."""
        return await self._limits.tokens(key, rate, burst, per=per, cost=cost, peek=peek)

    async def slot(
        self, key: str, slots: int, *, ttl: float = 30.0, wait: float = 0.0, renew: bool = True
    ) -> AsyncSlot:
        """Takes one of `slots` slots, waiting up to `wait` seconds for one, first come, first served."""
        return await self._locks.acquire(key, slots, ttl=ttl, wait=wait, renew=renew, lock=False)

    async def lock(self, key: str, *, ttl: float = 30.0, wait: float = 0.0, renew: bool = True) -> AsyncSlot:
        """Takes a lock, waiting up to `wait` seconds for it. While the server is away nobody gets it.

        async with await gateway.lock("lock:export", wait=10) as lock:
            if lock.ok:
                for part in parts:
                    lock.check()  # raises LockLost
                    store(part, lock.fencing_token)
        """
        return await self._locks.acquire(key, 1, ttl=ttl, wait=wait, renew=renew, lock=True)

    # Cache and logs.

    def cache(
        self,
        category: str,
        *,
        tenant: str | None = None,
        ttl: float | None = None,
        stale: float | None = None,
        lease: float = 120.0,
        wait: float = 60.0,
        ignore: Iterable[str] = (),
        computing: int = 64,
        encode: Callable[[Any], bytes] = json_bytes,
        decode: Callable[[bytes], Any] = json.loads,
    ) -> AsyncCache[Any]:
        """A cache of answers.

        Args:
            category: The kind of request, by which statistics and expiry go. The beginning of the keys.
            tenant: Who may see the answers: a team, a customer. Two tenants never share one.
            ttl: For how many seconds an answer is fresh. None: what the server's `gw.cache-ttl` says of the category,
            else 3600.
            stale: For how many seconds after that it is served while it is refreshed. None: what the server's
            `gw.cache-stale` says of the category, else 0.
            lease: Longer than a computation may take.
            wait: The longest wait for the computation of another. Then it computes by itself.
            ignore: Members of requests that do not change the answer, such as `stream` and `user`.
            computing: So many are computed at a time while the cache is away.
            encode: Makes the bytes of a value. JSON by default.
            decode: Makes a value of bytes.
        """
        made: AsyncCache[Any] = AsyncCache(
            self._core,
            category,
            tenant=tenant,
            ttl=ttl,
            stale=stale,
            lease=lease,
            wait=wait,
            ignore=ignore,
            computing=computing,
            encode=encode,
            decode=decode,
        )
        self._caches.add(made)
        return made

    def stream_cache(self, category: str, **options: Any) -> AsyncStreamCache[Any]:
        """A cache of answers that come in pieces. The options are those of `cache`; it encodes and decodes lists of
        pieces."""
        return AsyncStreamCache(self.cache(category, **options))

    async def clear_tag(self, tag: str) -> int:
        """Clears all cache entries with the tag, of all categories, on every primary of a cluster. Returns how many
        there were. A server has 2 seconds: if one is away, Unavailable is raised, and the others are cleared."""
        return sum(await self._core.background.everywhere(requests.cache_clear_tag(tag)))

    async def clear_pattern(self, pattern: str) -> int:
        """Clears all cache entries whose keys match, as in `SCAN ... MATCH`, such as `chat:acme:*`, in the selected
        database, on every primary of a cluster. Returns how many there were.

        It takes as long as a scan of all keys; a server has 60 seconds. If one is away, Unavailable is raised, and the
        others are cleared. With the reason `timeout`, the scan goes on in that server.
        Prefer tags and categories.
        """
        return sum(await self._core.background.everywhere(requests.cache_clear_pattern(pattern), waiting=True))

    def logs(
        self,
        key: str,
        *,
        records: int = 10_000,
        size: int = 16 * 1024 * 1024,
        batch: int = 500,
        every: float = 1.0,
        as_json: bool = True,
        reject: bool = False,
    ) -> AsyncLogs:
        """A buffer in front of a log queue.

        Args:
            key: The queue.
            records: The most records in the buffer.
            size: The most bytes in the buffer.
            batch: So many records are pushed together.
            every: The longest time that a record waits, in seconds, unless the server is away.
            as_json: The server checks that each record is valid JSON.
            reject: If the server's queue is full, keep the records here, instead of dropping the queue's oldest ones.
        """
        made = AsyncLogs(
            self._core, key, records=records, size=size, batch=batch, every=every, as_json=as_json, reject=reject
        )
        self._logs.append(made)
        return made

    async def lease(
        self,
        key: str,
        *,
        count: int = 1,
        ttl: float = 30.0,
        wait: float = 0.0,
        retry_after: float = 1.0,
        max_deliveries: int | None = None,
    ) -> AsyncLogBatch:
        """Leases the oldest records of a log queue, waiting up to `wait` seconds for one. At the end of the block they
        are acknowledged; if it raises, they are given back, and delivered again.

            async with await gateway.lease("log:jobs", wait=10, max_deliveries=3) as batch:
                for record in batch.records:  # none, if there was none in time
                    work(json.loads(record))

        The lease is renewed in the background while the block runs. If the program dies, the records are delivered
        again. They may be delivered twice: make the work harmless to repeat. Raises Unavailable if the server is away.

        Args:
            key: The queue.
            count: The most records of the batch.
            ttl: For how many seconds the lease lives without a sign of life.
            retry_after: So many seconds after they were given back they can be delivered again.
            max_deliveries: Records that are not acknowledged after so many deliveries become a dead letter. None: they
            never do.
        """
        return await self._batches.lease(
            key, count=count, ttl=ttl, wait=wait, retry_after=retry_after, max_deliveries=max_deliveries
        )

    # The whole.

    async def health(self) -> Health:
        """Whether the server answers, and has the module; how long that took, and what waits to be sent."""
        started = time.monotonic()
        reason = ""
        try:
            await self._core.transport.everywhere(requests.stats())
        except Unavailable as error:
            reason = error.reason
        except NoPermission:
            pass  # It answers, and has the module; this user may not ask for its figures.
        except GatewayError as error:
            reason = type(error).__name__
        return Health(
            ok=not reason,
            reason=reason,
            took=time.monotonic() - started,
            circuits_open=sum(server.circuit.is_open for server in self._core.transport.servers()),
            kept=len(self._core.kept),
            log_records=sum(len(logs) for logs in self._logs),
            log_dropped=sum(logs.dropped for logs in self._logs),
        )

    def figures(self) -> dict[str, int]:
        """What was decided and how it went, since the gateway was made."""
        return self.telemetry.figures()

    async def send_kept(self) -> int:
        """Tries now to send what is kept, and returns how much the server has taken. It is sent in the background,
        too."""
        return await self._core.send_kept()

    @property
    def kept(self) -> int:
        """How many settlements and charges the server has not taken yet."""
        return len(self._core.kept)

    def after_fork(self) -> None:
        """The process has been forked, and this is the child. It is called without your doing."""
        self._core.after_fork()
        self._keeper.after_fork()
        for logs in self._logs:
            logs.after_fork()
        for cache in list(self._caches):
            cache.after_fork()

    def at_exit(self) -> None:
        """The program ends without `aclose`. It is called without your doing, and tries once to send what there is."""
        if self._core.closed:
            return
        self._core.settle_leaked()
        if len(self._core.living) or len(self._core.kept) or any(len(logs) for logs in self._logs):
            runtime.at_exit(self._close_at_exit)

    async def _close_at_exit(self) -> None:
        self._core.anew()
        await self.aclose(1.0)

    async def aclose(self, seconds: float = 5.0) -> None:
        """Sends what there is to send, waits for what runs, and closes the connections. All of that takes so many
        seconds at most, and what a call that is under way then takes: 2 seconds, if the server does not answer."""
        if self._core.closed:
            return
        for logs in self._logs:
            try:
                self._core.tasks.start(logs.aclose)
            except RuntimeError:
                await logs.aclose()  # The program ends: no thread can be started any more.
        await self._core.aclose(seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
