//! What happens to keys and to the server, for those who keep something about keys outside of them.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

use redis_module::raw::{
    self, RedisModuleCtx, RedisModuleEvent, RedisModuleFlushInfo, RedisModuleString, RedisModuleSwapDbInfo,
};

use super::args::{Key, Str};
use super::call::{self, Call};

/// Something that concerns the server as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The module has been loaded, with the server's settings as they are.
    ModuleLoaded,
    /// A database, or with `None` all of them, is about to lose all of its keys.
    Flush { database: Option<i32> },
    /// Two databases have changed places.
    SwapDatabases(i32, i32),
    /// All keys are about to be replaced by those of a file or of a primary.
    LoadingStarted,
    /// They have been, or that has failed.
    LoadingEnded,
    /// This node has become a primary, or a replica.
    RoleChanged { primary: bool },
    /// A setting of the server or of a module has changed.
    ConfigChanged,
}

/// A change of a key as the server announces it in keyspace notifications, whatever `notify-keyspace-events` says: `del`,
/// `rename_from`, `rename_to`, `copy_to`, `move_from`, `move_to`, `restore`, `expire`, `expired`, `evicted`, `loaded`, ….
/// The listener must not change keys.
pub type KeyListener = fn(&mut Call, event: &CStr, key: Key);

pub type Listener = fn(&mut Call, Event);

/// Which announcements reach [`KeyListener`]s: those of any type of key, and of keys read from an RDB.
const KEY_CLASSES: c_int = raw::REDISMODULE_NOTIFY_GENERIC
    | raw::REDISMODULE_NOTIFY_EXPIRED
    | raw::REDISMODULE_NOTIFY_EVICTED
    | raw::REDISMODULE_NOTIFY_LOADED;

/// The structures' versions that this module reads; the flush and database ones have not changed since they exist.
const EVENT_VERSION: u64 = 1;

/// # Safety
/// Only while the module loads, with its context.
pub(super) unsafe fn subscribe(ctx: *mut RedisModuleCtx) -> bool {
    unsafe {
        const OK: c_int = raw::REDISMODULE_OK as c_int;
        let server = [
            raw::REDISMODULE_EVENT_FLUSHDB,
            raw::REDISMODULE_EVENT_SWAPDB,
            raw::REDISMODULE_EVENT_LOADING,
            raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED,
            raw::REDISMODULE_EVENT_CONFIG,
        ];
        api!(RedisModule_SubscribeToKeyspaceEvents(ctx, KEY_CLASSES, Some(key_changed))) == OK
            && server.into_iter().all(|id| {
                let event = RedisModuleEvent { id, dataver: EVENT_VERSION };
                api!(RedisModule_SubscribeToServerEvent(ctx, event, Some(server_changed))) == OK
            })
    }
}

/// The database of the last key that was moved.
static MOVED_FROM: AtomicI32 = AtomicI32::new(0);

// SAFETY of both: the server passes a context, names and structures that live through the call.

unsafe extern "C" fn key_changed(
    ctx: *mut RedisModuleCtx,
    _class: c_int,
    event: *const c_char,
    key: *mut RedisModuleString,
) -> c_int {
    unsafe {
        call::run_alone(ctx, |call| {
            let (event, key) = (CStr::from_ptr(event), Str::of(key));
            crate::MODULE.key_listeners.iter().for_each(|hear| hear(call, event, key));
            // Valkey 8.1 announces a MOVE's other database with the client itself, and leaves it there, where what it sends
            // next would go (valkey-io/valkey pull request 4024). The announcement of the first one came just before.
            if event == c"move_from" {
                MOVED_FROM.store(call.database(), Ordering::Relaxed);
            } else if event == c"move_to" {
                call.select_database(MOVED_FROM.load(Ordering::Relaxed));
            }
        });
        raw::REDISMODULE_OK as c_int
    }
}

/// # Safety
/// Once the module is loaded, with a context of the server's.
pub(super) unsafe fn announce_load(ctx: *mut RedisModuleCtx) {
    unsafe {
        call::run_alone(ctx, |call| crate::MODULE.listeners.iter().for_each(|hear| hear(call, Event::ModuleLoaded)));
    }
}

unsafe extern "C" fn server_changed(ctx: *mut RedisModuleCtx, event: RedisModuleEvent, which: u64, data: *mut c_void) {
    unsafe {
        let Some(event) = read(event.id, which, data) else { return };
        call::run_alone(ctx, |call| crate::MODULE.listeners.iter().for_each(|hear| hear(call, event)));
    }
}

unsafe fn read(id: u64, which: u64, data: *mut c_void) -> Option<Event> {
    unsafe {
        match id {
            raw::REDISMODULE_EVENT_FLUSHDB if which == raw::REDISMODULE_SUBEVENT_FLUSHDB_START => {
                let database = data.cast::<RedisModuleFlushInfo>().as_ref()?.dbnum;
                Some(Event::Flush { database: (database >= 0).then_some(database) })
            }
            raw::REDISMODULE_EVENT_SWAPDB => {
                let swapped = data.cast::<RedisModuleSwapDbInfo>().as_ref()?;
                Some(Event::SwapDatabases(swapped.dbnum_first, swapped.dbnum_second))
            }
            raw::REDISMODULE_EVENT_LOADING => match which {
                raw::REDISMODULE_SUBEVENT_LOADING_ENDED | raw::REDISMODULE_SUBEVENT_LOADING_FAILED => {
                    Some(Event::LoadingEnded)
                }
                _ => Some(Event::LoadingStarted),
            },
            raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED => {
                Some(Event::RoleChanged { primary: which == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_MASTER })
            }
            raw::REDISMODULE_EVENT_CONFIG => Some(Event::ConfigChanged),
            _ => None,
        }
    }
}
