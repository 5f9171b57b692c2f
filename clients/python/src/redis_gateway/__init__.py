"""Rate limits, budgets, admissions, response cache and log queue of LLM gateways, over redis-py.

`Gateway` and `AsyncGateway` make the right use of the module's commands; `Commands` and `AsyncCommands` are the
commands alone.
"""

from ._async.admission import AsyncAdmission
from ._async.batches import AsyncLogBatch
from ._async.cache import AsyncCache, AsyncStreamCache
from ._async.gateway import AsyncGateway
from ._async.limits import AsyncHold
from ._async.locks import AsyncSlot
from ._async.logs import AsyncLogs
from ._async.routing import AsyncAttempt, AsyncRoutedRequest
from ._commands import AsyncCommands, Commands, NotCanonical, cache_key
from ._errors import (
    Busy,
    ClusterDown,
    CrossSlot,
    GatewayError,
    InvalidArgument,
    LeaseEnded,
    ModuleMissing,
    NoAccount,
    NoHold,
    NoPermission,
    NotAuthenticated,
    QueueFull,
    WrongType,
)
from ._sync.admission import Admission
from ._sync.batches import LogBatch
from ._sync.cache import Cache, StreamCache
from ._sync.gateway import Gateway
from ._sync.limits import Hold
from ._sync.locks import Slot
from ._sync.logs import Logs
from ._sync.routing import Attempt, RoutedRequest
from .decisions import BudgetDecision, CallFailed, Denied, Health, LimitDecision, LockLost, Settlement
from .failures import Unavailable
from .settings import Away, Kept, Local, Settings
from .telemetry import Telemetry

__version__ = "0.1.0"

__all__ = [
    "Admission",
    "AsyncAdmission",
    "AsyncAttempt",
    "AsyncCache",
    "AsyncCommands",
    "AsyncGateway",
    "AsyncHold",
    "AsyncLogBatch",
    "AsyncLogs",
    "AsyncRoutedRequest",
    "AsyncSlot",
    "AsyncStreamCache",
    "Attempt",
    "Away",
    "BudgetDecision",
    "Busy",
    "Cache",
    "CallFailed",
    "ClusterDown",
    "Commands",
    "CrossSlot",
    "Denied",
    "Gateway",
    "GatewayError",
    "Health",
    "Hold",
    "InvalidArgument",
    "Kept",
    "LeaseEnded",
    "LimitDecision",
    "Local",
    "LockLost",
    "LogBatch",
    "Logs",
    "ModuleMissing",
    "NoAccount",
    "NoHold",
    "NoPermission",
    "NotAuthenticated",
    "NotCanonical",
    "QueueFull",
    "RoutedRequest",
    "Settings",
    "Settlement",
    "Slot",
    "StreamCache",
    "Telemetry",
    "Unavailable",
    "WrongType",
    "cache_key",
]
