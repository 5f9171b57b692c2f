//! Clients that wait.
//!
//! The server offers two ways. With [`Call::wait_for_key`] clients wait for a key, as with BLPOP: each [`Call::wake`] of the
//! key lets them try again, first come, first served. With [`Call::park`] a client waits under a [`Parked`] handle, until
//! the module calls it back; no key has to exist.
//!
//! Both waits end when the client's time is up, when it disconnects, and with `UNBLOCKED` when the server becomes a
//! replica. CLIENT UNBLOCK ends them as if the time were up.

use std::collections::HashMap;
use std::ffi::{c_int, c_longlong, c_void};

use lazy_static::lazy_static;
use redis_module::raw::{self, RedisModuleBlockedClient, RedisModuleCtx, RedisModuleString};

use super::api::api;
use super::args::Key;
use super::call::{self, Call, RawHandler};
use super::cluster::UNBLOCKED;
use super::counter::Counter;
use super::error::Outcome;
use super::guard::guarded;
use super::shared::MainThread;
use super::timer::Timer;

/// Turns a `fn(&mut Call) -> Result<bool, Error>` into the function that the server calls when a key that a client waits
/// for may be ready. It gets the arguments of the command that waits, and returns whether it has replied; if not, the
/// client goes on waiting.
macro_rules! retry {
    ($handler:path) => {{
        unsafe extern "C" fn retry(
            ctx: *mut redis_module::raw::RedisModuleCtx,
            argv: *mut *mut redis_module::raw::RedisModuleString,
            argc: std::ffi::c_int,
        ) -> std::ffi::c_int {
            let mut served = true;
            let handler = |call: &mut $crate::server::call::Call| {
                served = $handler(call)?;
                Ok(())
            };
            // SAFETY: the server calls this with a context and arguments of the command that waits.
            unsafe { $crate::server::call::run(ctx, argv, argc, handler) };
            $crate::server::blocked::status(served)
        }
        retry
    }};
}
pub(crate) use retry;

/// The status that a function of [`retry`] returns to the server.
pub const fn status(served: bool) -> c_int {
    (if served { raw::REDISMODULE_OK } else { raw::REDISMODULE_ERR }) as c_int
}

/// A client that [`Call::park`] lets wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parked {
    address: usize,
    number: u64,
}

/// How the wait of a parked client ends.
#[derive(Clone, Copy)]
pub struct Parking {
    /// Replies after [`Call::call_back`]; the message is that call's.
    pub called_back: fn(&mut Call, message: u64) -> Outcome,
    /// Replies when the time is up.
    pub timed_out: fn(&mut Call) -> Outcome,
    /// Called when the client can no longer be called back: its time was up, it disconnected or was unblocked.
    pub gone: fn(Parked),
}

/// The module's state of a parked client.
struct Lot {
    number: u64,
    parking: Parking,
    timer: Option<Timer<Parked>>,
}

/// All parked clients, by their handles' addresses.
#[derive(Default)]
struct Lots {
    last: u64,
    by_address: HashMap<usize, Lot>,
}

lazy_static! {
    static ref LOTS: MainThread<Lots> = MainThread::new(Lots::default());
}

/// Passed from the end of the wait to the client's reply.
struct Message {
    parking: Parking,
    /// `None` if the time was up.
    message: Option<u64>,
}

impl Call<'_> {
    /// Whether this client can wait: not in a transaction, not in a script, and not if the server forbids it.
    pub fn may_wait(&self) -> bool {
        // SAFETY: the context is the one of this call.
        let flags = unsafe { api!(RedisModule_GetContextFlags(self.ctx)) } as u32;
        let denied = raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING
            | raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_LUA;
        flags & denied == 0
    }

    /// Lets the client wait for `key`, at most `timeout_ms` (0: for ever). After each [`Call::wake`] of the key, while it
    /// exists, `retry` is run; when the time is up, `timed_out` replies. Nothing may have been replied before. `waiting`
    /// counts the client for as long as it waits.
    pub fn wait_for_key(
        &mut self,
        key: Key,
        timeout_ms: u64,
        retry: RawHandler,
        timed_out: RawHandler,
        waiting: &'static Counter,
    ) {
        waiting.add(1);
        let mut keys = [key.raw];
        let timeout_ms = c_longlong::try_from(timeout_ms).unwrap_or(c_longlong::MAX);
        // SAFETY: the context and the key's name live through the call, which retains the name. The data is the counter,
        // which lives for ever and is only read.
        unsafe {
            api!(RedisModule_BlockClientOnKeys(
                self.ctx,
                Some(retry),
                Some(timed_out),
                Some(stopped_waiting),
                timeout_ms,
                keys.as_mut_ptr(),
                1,
                std::ptr::from_ref(waiting).cast_mut().cast()
            ));
        }
    }

    /// Lets the clients that wait for `key` try again, after this command.
    pub fn wake(&self, key: Key) {
        // SAFETY: the context and the key's name live through the call.
        unsafe { api!(RedisModule_SignalKeyAsReady(self.ctx, key.raw)) };
    }

    /// Lets the client wait to be called back, at most `timeout_ms` (0: for ever). Nothing may have been replied before.
    pub fn park(&mut self, timeout_ms: u64, parking: Parking) -> Parked {
        // The time-out is a timer of ours: with its own, Redis 7.0 leaves a client without a reply if the time is up in
        // the same moment in which the client is called back.
        // SAFETY: the context is the one of this call. The callbacks live for ever; `free_message` frees what `release`
        // hands over.
        let client = unsafe {
            let (reply, timeout) = (Some(called_back as _), Some(unblocked as _));
            let client = api!(RedisModule_BlockClient(self.ctx, reply, timeout, Some(free_message), 0));
            api!(RedisModule_SetDisconnectCallback(client, Some(disconnected)));
            client
        };
        let mut lots = LOTS.borrow();
        lots.last += 1;
        let parked = Parked { address: client as usize, number: lots.last };
        let timer = (timeout_ms > 0).then(|| self.after(timeout_ms, time_is_up, parked));
        lots.by_address.insert(parked.address, Lot { number: parked.number, parking, timer });
        parked
    }

    /// Ends the wait of a parked client, with a message, after the current command. Returns whether it was still waiting.
    pub fn call_back(&self, parked: Parked, message: u64) -> bool {
        let Some(lot) = parked.take() else { return false };
        if let Some(timer) = lot.timer {
            self.cancel(timer);
        }
        parked.release(Some(Message { parking: lot.parking, message: Some(message) }));
        true
    }
}

/// The server is done with a client that has waited for a key, however its wait has ended.
unsafe extern "C" fn stopped_waiting(_: *mut RedisModuleCtx, waiting: *mut c_void) {
    // SAFETY: the data is the counter that `wait_for_key` passed, which lives for ever.
    unsafe { &*waiting.cast_const().cast::<Counter>() }.sub(1);
}

impl Parked {
    fn of(client: *mut RedisModuleBlockedClient) -> Option<Self> {
        let address = client as usize;
        LOTS.borrow().by_address.get(&address).map(|lot| Self { address, number: lot.number })
    }

    fn take(self) -> Option<Lot> {
        let mut lots = LOTS.borrow();
        // An address may be reused for another client, a number never.
        if lots.by_address.get(&self.address)?.number != self.number {
            return None;
        }
        lots.by_address.remove(&self.address)
    }

    /// Gives the client back to the server, which must happen exactly once, also when the client has gone.
    fn release(self, message: Option<Message>) {
        let message = message.map_or(std::ptr::null_mut(), |message| Box::into_raw(Box::new(message)));
        let client = self.address as *mut RedisModuleBlockedClient;
        // SAFETY: the client has just been taken out of the table, which has it once, from `park` on; so this is the first
        // and only time. The server frees the message with `free_message`.
        unsafe { api!(RedisModule_UnblockClient(client, message.cast())) };
    }
}

fn time_is_up(_call: &mut Call, parked: Parked) {
    if let Some(lot) = parked.take() {
        (lot.parking.gone)(parked);
        parked.release(Some(Message { parking: lot.parking, message: None }));
    }
}

unsafe extern "C" fn called_back(ctx: *mut RedisModuleCtx, argv: *mut *mut RedisModuleString, argc: c_int) -> c_int {
    let reply = |call: &mut Call| {
        // SAFETY: the data is what `release` handed over: a box that the server frees after this, or null.
        let message = unsafe { api!(RedisModule_GetBlockedClientPrivateData(ctx)).cast::<Message>().as_ref() };
        match message {
            Some(Message { parking, message: Some(message) }) => (parking.called_back)(call, *message),
            Some(Message { parking, message: None }) => (parking.timed_out)(call),
            None => Err(UNBLOCKED),
        }
    };
    // SAFETY: the server calls this with a context and arguments of the parked client's command.
    unsafe { call::run(ctx, argv, argc, reply) }
}

/// CLIENT UNBLOCK: as if the time were up.
unsafe extern "C" fn unblocked(ctx: *mut RedisModuleCtx, argv: *mut *mut RedisModuleString, argc: c_int) -> c_int {
    let reply = |call: &mut Call| {
        // SAFETY: the server calls this with a context of the parked client.
        let client = unsafe { api!(RedisModule_GetBlockedClientHandle(ctx)) };
        match forget(call, client) {
            Some(parking) => (parking.timed_out)(call),
            None => Err(UNBLOCKED),
        }
    };
    // SAFETY: the server calls this with a context and arguments of the parked client's command.
    unsafe { call::run(ctx, argv, argc, reply) }
}

unsafe extern "C" fn disconnected(ctx: *mut RedisModuleCtx, client: *mut RedisModuleBlockedClient) {
    let forget = |call: &mut Call| {
        forget(call, client);
    };
    // SAFETY: the context is the one that the server called with.
    unsafe { call::run_alone(ctx, forget) };
}

unsafe extern "C" fn free_message(_: *mut RedisModuleCtx, message: *mut c_void) {
    // SAFETY: the server passes the box that `release` handed over, once, when nothing reads it any more.
    guarded(|| drop(unsafe { Box::from_raw(message.cast::<Message>()) }));
}

/// Removes a client that can no longer be called back from the table.
fn forget(call: &Call, client: *mut RedisModuleBlockedClient) -> Option<Parking> {
    let parked = Parked::of(client)?;
    let lot = parked.take()?;
    if let Some(timer) = lot.timer {
        call.cancel(timer);
    }
    parked.release(None);
    (lot.parking.gone)(parked);
    Some(lot.parking)
}
