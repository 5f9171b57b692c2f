//! Keyspace and server events, for code that keeps indexes outside the keyspace.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::time::Instant;

use redis_module::raw::{
    self, RedisModuleCtx, RedisModuleEvent, RedisModuleFlushInfo, RedisModuleString, RedisModuleSwapDbInfo,
};

use super::api::api;
use super::args::{Key, Str};
use super::call::{self, Call};
use super::clock::Clocks;
use super::shared::MainThread;

/// An event that concerns the server as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The module has been loaded, with the server's settings as they are.
    ModuleLoaded,
    /// A database, or with `None` every database, is about to lose all its keys.
    Flush { database: Option<i32> },
    /// Two databases have been swapped.
    SwapDatabases(i32, i32),
    /// All keys are about to be replaced by those of a file or of a primary.
    LoadingStarted,
    /// Loading has ended, or has failed.
    LoadingEnded,
    /// A replica loads its primary's keys beside its own, and goes on reading those ([`Loading`]).
    LoadingBeside(Loading),
    /// In a cluster, this node has become the owner of slots whose keys it has received before, all at once.
    SlotsImported,
    /// This node has become a primary, or a replica.
    RoleChanged { primary: bool },
    /// A setting of the server or of a module has changed.
    ConfigChanged,
    /// The server's clock has been set back: timers ring later than they were to.
    ClockSetBack,
}

/// What becomes of the keys that a replica loads beside its own (`repl-diskless-load swapdb`). [`Event::LoadingStarted`]
/// and [`Event::LoadingEnded`] come in between, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// From now on keys are loaded that no client sees.
    Started,
    /// The loaded keys are now this node's. The others are about to be freed, perhaps in the background.
    Completed,
    /// The loaded keys are about to be freed, perhaps in the background.
    Aborted,
}

/// Called, once [`follow_keys`] was, for each keyspace event of any type of key, whatever `notify-keyspace-events` says:
/// `del`, `rename_from`, `rename_to`, `copy_to`, `move_from`, `move_to`, `restore`, `expire`, `expired`, `evicted`,
/// `loaded`, …; and for `gw.load` (see [`tell_of_key`]). The listener must not change keys.
pub type KeyListener = fn(&mut Call, event: &CStr, key: Key);

/// Called for each [`Event`].
pub type ServerListener = fn(&mut Call, Event);

/// All listeners, as the module declares them.
#[derive(Clone, Copy)]
pub struct Listeners {
    pub keys: &'static [KeyListener],
    pub server: &'static [ServerListener],
}

/// The classes of keyspace events that reach [`KeyListener`]s: those of any type of key, and those of keys read from an RDB.
const KEY_CLASSES: c_int = raw::REDISMODULE_NOTIFY_GENERIC
    | raw::REDISMODULE_NOTIFY_EXPIRED
    | raw::REDISMODULE_NOTIFY_EVICTED
    | raw::REDISMODULE_NOTIFY_LOADED;

/// The version of the events' structures that this module reads. Those for flushes and swaps have never changed.
const EVENT_VERSION: u64 = 1;

/// Valkey's event for slots that move atomically, and its last step on the new owner. The module API's own header does not
/// know them.
const SLOT_MIGRATION: u64 = 19;
const IMPORT_COMPLETED: u64 = 4;

/// What the module has declared. Set once, while it loads.
static LISTENERS: OnceLock<Listeners> = OnceLock::new();

/// # Safety
/// Only while the module loads, with its context.
pub(super) unsafe fn subscribe(ctx: *mut RedisModuleCtx, listeners: Listeners) -> bool {
    const OK: c_int = raw::REDISMODULE_OK as c_int;
    LISTENERS.get_or_init(|| listeners);
    let server = [
        raw::REDISMODULE_EVENT_FLUSHDB,
        raw::REDISMODULE_EVENT_SWAPDB,
        raw::REDISMODULE_EVENT_LOADING,
        raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED,
        raw::REDISMODULE_EVENT_CONFIG,
        raw::REDISMODULE_EVENT_CRON_LOOP,
        raw::REDISMODULE_EVENT_REPL_ASYNC_LOAD,
    ];
    let subscribe = |id| {
        let event = RedisModuleEvent { id, dataver: EVENT_VERSION };
        // SAFETY: the context is that of the load, and the callback lives for ever.
        unsafe { api!(RedisModule_SubscribeToServerEvent(ctx, event, Some(server_changed))) == OK }
    };
    // Servers that do not move slots in this way refuse the subscription.
    subscribe(SLOT_MIGRATION);
    // SAFETY: the context is that of the load, and the callback lives for ever.
    unsafe {
        ASKING.store(api!(RedisModule_GetDetachedThreadSafeContext(ctx)), Ordering::Relaxed);
    }
    server.into_iter().all(subscribe)
}

/// A context to ask for keyspace events with; null before the module is loaded, and once they are asked for.
static ASKING: AtomicPtr<RedisModuleCtx> = AtomicPtr::new(ptr::null_mut());

/// From now on tells the [`KeyListener`]s of keyspace events. To be called before there is anything to follow: a client that
/// waits, an index, an entry that was cleared.
///
/// An event costs the command that causes it some 700 to 1,000 instructions, more than a tenth of EXPIRE or DEL, whoever's key
/// it is. Where nobody uses what must follow keys, nobody pays for that. Not every server can be asked to stop, so the first
/// need decides for the life of the process.
pub fn follow_keys() {
    let ctx = ASKING.swap(ptr::null_mut(), Ordering::Relaxed);
    if !ctx.is_null() {
        // SAFETY: the context is the module's own, and is not used again. The callback lives for ever.
        unsafe {
            api!(RedisModule_SubscribeToKeyspaceEvents(ctx, KEY_CLASSES, Some(key_changed)));
            api!(RedisModule_FreeThreadSafeContext(ctx));
        }
    }
}

/// Tells the listeners of the server's events that the module has been loaded.
///
/// # Safety
/// Once the module is loaded, with a context of the server's.
pub(super) unsafe fn announce_load(ctx: *mut RedisModuleCtx) {
    // SAFETY: the caller's promise is the same.
    unsafe { tell_of_server(ctx, Event::ModuleLoaded) };
}

/// # Safety
/// The context is one that the server called with.
unsafe fn tell_of_server(ctx: *mut RedisModuleCtx, event: Event) {
    let Some(listeners) = LISTENERS.get() else { return };
    // SAFETY: the caller's promise is the same.
    unsafe { call::run_alone(ctx, |call| listeners.server.iter().for_each(|listener| listener(call, event))) };
}

/// Tells the [`KeyListener`]s that a value was stored in `key` as a whole, by an AOF or by a node that hands its slot over.
pub fn tell_of_key(call: &mut Call, event: &CStr, key: Key) {
    if let Some(listeners) = LISTENERS.get() {
        listeners.keys.iter().for_each(|listener| listener(call, event, key));
    }
}

/// The database of the key that was moved last.
static MOVED_FROM: AtomicI32 = AtomicI32::new(0);

unsafe extern "C" fn key_changed(
    ctx: *mut RedisModuleCtx,
    _class: c_int,
    event: *const c_char,
    key: *mut RedisModuleString,
) -> c_int {
    if let Some(listeners) = LISTENERS.get() {
        // SAFETY: the server passes a context, a key's name and an event's name that ends in NUL; they live through the call.
        unsafe {
            call::run_alone(ctx, |call| {
                let (event, key) = (CStr::from_ptr(event), Str::of(key));
                listeners.keys.iter().for_each(|listener| listener(call, event, key));
                keep_database_of_move(call, event);
            });
        }
    }
    raw::REDISMODULE_OK as c_int
}

/// Valkey 8.1 announces the second half of a MOVE, in the other database, with the client itself, and leaves the client in
/// that database, where its next commands would go (valkey-io/valkey pull request 4024). The first half was announced just
/// before, in the client's own database.
fn keep_database_of_move(call: &mut Call, event: &CStr) {
    if event == c"move_from" {
        MOVED_FROM.store(call.database(), Ordering::Relaxed);
    } else if event == c"move_to" {
        call.select_database(MOVED_FROM.load(Ordering::Relaxed));
    }
}

static CLOCKS: MainThread<Clocks> = MainThread::new(Clocks::new());

/// The server asks some ten times a second, by a clock that nobody sets.
fn clock_was_set_back() -> bool {
    // SAFETY: the call takes no arguments.
    let server_ms = unsafe { api!(RedisModule_Milliseconds()) };
    CLOCKS.borrow().read(server_ms, Instant::now())
}

unsafe extern "C" fn server_changed(ctx: *mut RedisModuleCtx, event: RedisModuleEvent, which: u64, data: *mut c_void) {
    // SAFETY: the server passes the event with its own data, which lives through the call, and a context.
    unsafe {
        if let Some(event) = read(event.id, which, data) {
            tell_of_server(ctx, event);
        }
    }
}

/// # Safety
/// `data` is null or the structure that belongs to the event `id`.
unsafe fn read(id: u64, which: u64, data: *mut c_void) -> Option<Event> {
    match id {
        raw::REDISMODULE_EVENT_FLUSHDB if which == raw::REDISMODULE_SUBEVENT_FLUSHDB_START => {
            // SAFETY: as the caller promises.
            let database = unsafe { data.cast::<RedisModuleFlushInfo>().as_ref() }?.dbnum;
            Some(Event::Flush { database: (database >= 0).then_some(database) })
        }
        raw::REDISMODULE_EVENT_SWAPDB => {
            // SAFETY: as the caller promises.
            let swapped = unsafe { data.cast::<RedisModuleSwapDbInfo>().as_ref() }?;
            Some(Event::SwapDatabases(swapped.dbnum_first, swapped.dbnum_second))
        }
        raw::REDISMODULE_EVENT_LOADING => match which {
            raw::REDISMODULE_SUBEVENT_LOADING_ENDED | raw::REDISMODULE_SUBEVENT_LOADING_FAILED => {
                Some(Event::LoadingEnded)
            }
            _ => Some(Event::LoadingStarted),
        },
        raw::REDISMODULE_EVENT_REPL_ASYNC_LOAD => Some(Event::LoadingBeside(match which {
            raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_STARTED => Loading::Started,
            raw::REDISMODULE_SUBEVENT_REPL_ASYNC_LOAD_COMPLETED => Loading::Completed,
            _ => Loading::Aborted,
        })),
        SLOT_MIGRATION => (which == IMPORT_COMPLETED).then_some(Event::SlotsImported),
        raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED => {
            Some(Event::RoleChanged { primary: which == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_MASTER })
        }
        raw::REDISMODULE_EVENT_CONFIG => Some(Event::ConfigChanged),
        raw::REDISMODULE_EVENT_CRON_LOOP => clock_was_set_back().then_some(Event::ClockSetBack),
        _ => None,
    }
}
