//! Clients that wait.
//!
//! Two ways, as the server has them. [`Call::wait_for_key`] is that of BLPOP: clients wait at a key, and each change that is
//! announced with [`Call::wake`] lets them try again, the first to come first. [`Call::park`] sets a client aside under a
//! [`Parked`] handle until the module itself calls it back, whether any key exists or not.
//!
//! Both end by themselves when the client's time is up, when it disconnects, and with `UNBLOCKED` when the server becomes
//! a replica or somebody calls CLIENT UNBLOCK.

use std::collections::HashMap;
use std::ffi::{c_int, c_longlong, c_void};

use lazy_static::lazy_static;
use redis_module::raw::{self, RedisModuleBlockedClient, RedisModuleCtx, RedisModuleString};

use super::args::Key;
use super::call::{self, Call, RawHandler};
use super::error::{Error, Outcome};
use super::guard::guarded;
use super::shared::MainThread;
use super::timer::Timer;

/// Turns a `fn(&mut Call) -> Result<bool, Error>` into what the server calls when a key that a client waits for may be
/// ready. It has the arguments of the command that waits. True: it has replied. False: it goes on waiting.
macro_rules! retry {
    ($handler:path) => {{
        unsafe extern "C" fn retry(
            ctx: *mut redis_module::raw::RedisModuleCtx,
            argv: *mut *mut redis_module::raw::RedisModuleString,
            argc: std::ffi::c_int,
        ) -> std::ffi::c_int {
            unsafe {
                let mut served = true;
                $crate::server::call::run(ctx, argv, argc, |call| {
                    served = $handler(call)?;
                    Ok(())
                });
                $crate::server::blocked::served(served)
            }
        }
        retry
    }};
}
pub(crate) use retry;

pub const fn served(served: bool) -> c_int {
    (if served { raw::REDISMODULE_OK } else { raw::REDISMODULE_ERR }) as c_int
}

/// A client set aside by [`Call::park`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parked {
    address: usize,
    number: u64,
}

/// What a parked client gets.
#[derive(Clone, Copy)]
pub struct Parking {
    /// Replies when [`Call::call_back`] called; the message is that call's.
    pub called_back: fn(&mut Call, message: u64) -> Outcome,
    /// Replies when the time is up.
    pub timed_out: fn(&mut Call) -> Outcome,
    /// Hears that the client is no longer there to be called: its time was up, it disconnected or was unblocked.
    pub gone: fn(Parked),
}

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

/// What travels from the end of the wait to the client's reply.
struct Message {
    parking: Parking,
    /// `None` where the time was up.
    message: Option<u64>,
}

impl Call<'_> {
    /// Whether this client can wait: not in a transaction, not in a script, and not where the server says that it must not.
    pub fn may_wait(&self) -> bool {
        // SAFETY: the context is the one of this call.
        let flags = unsafe { api!(RedisModule_GetContextFlags(self.ctx)) } as u32;
        let denied = raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING
            | raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_LUA;
        flags & denied == 0
    }

    /// Lets the client wait for `key`, at most `timeout_ms` (0: for ever). After each [`Call::wake`] of the key, while it
    /// exists, `retry` is run; when the time is up, `timed_out` replies. Nothing may have been replied before.
    pub fn wait_for_key(&mut self, key: Key, timeout_ms: u64, retry: RawHandler, timed_out: RawHandler) {
        let mut keys = [key.raw];
        let timeout_ms = c_longlong::try_from(timeout_ms).unwrap_or(c_longlong::MAX);
        // SAFETY: the server retains the key's name, and there is no data to free.
        unsafe {
            api!(RedisModule_BlockClientOnKeys(
                self.ctx,
                Some(retry),
                Some(timed_out),
                None,
                timeout_ms,
                keys.as_mut_ptr(),
                1,
                std::ptr::null_mut()
            ));
        }
    }

    /// Lets those who wait for `key` try again, after this command.
    pub fn wake(&self, key: Key) {
        // SAFETY: the context and the key's name live through the call.
        unsafe { api!(RedisModule_SignalKeyAsReady(self.ctx, key.raw)) };
    }

    /// Sets the client aside, at most for `timeout_ms` (0: for ever). Nothing may have been replied before.
    pub fn park(&mut self, timeout_ms: u64, parking: Parking) -> Parked {
        // The time is kept with a timer of ours: Redis 7.0 leaves a client without a reply when the time that it keeps
        // itself is up in the very moment in which the client is called back.
        // SAFETY: the callbacks live for ever; `free_message` frees what `release` hands over.
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

    /// Lets a parked client go on, with a message, after the current command. Returns whether it was still there.
    pub fn call_back(&self, parked: Parked, message: u64) -> bool {
        let Some(lot) = parked.take() else { return false };
        if let Some(timer) = lot.timer {
            self.cancel(timer);
        }
        parked.release(Some(Message { parking: lot.parking, message: Some(message) }));
        true
    }
}

impl Parked {
    fn of(client: *mut RedisModuleBlockedClient) -> Option<Self> {
        let address = client as usize;
        LOTS.borrow().by_address.get(&address).map(|lot| Self { address, number: lot.number })
    }

    fn take(self) -> Option<Lot> {
        let mut lots = LOTS.borrow();
        // An address may be in use again, a number never.
        if lots.by_address.get(&self.address)?.number != self.number {
            return None;
        }
        lots.by_address.remove(&self.address)
    }

    /// Gives the client back to the server, which must happen exactly once, also when the client has gone.
    fn release(self, message: Option<Message>) {
        let message = message.map_or(std::ptr::null_mut(), |message| Box::into_raw(Box::new(message)));
        let client = self.address as *mut RedisModuleBlockedClient;
        // SAFETY: the client has just been taken out of the table, where it is once from `park` on.
        unsafe { api!(RedisModule_UnblockClient(client, message.cast())) };
    }
}

fn time_is_up(_call: &mut Call, parked: Parked) {
    if let Some(lot) = parked.take() {
        (lot.parking.gone)(parked);
        parked.release(Some(Message { parking: lot.parking, message: None }));
    }
}

// SAFETY of the callbacks: the server passes the context, arguments and data of the parked client's own command.

unsafe extern "C" fn called_back(ctx: *mut RedisModuleCtx, argv: *mut *mut RedisModuleString, argc: c_int) -> c_int {
    unsafe {
        let message = api!(RedisModule_GetBlockedClientPrivateData(ctx)).cast::<Message>();
        call::run(ctx, argv, argc, |call| match message.as_ref() {
            Some(Message { parking, message: Some(message) }) => (parking.called_back)(call, *message),
            Some(Message { parking, message: None }) => (parking.timed_out)(call),
            None => Err(Error::coded("UNBLOCKED the wait was ended")),
        })
    }
}

/// CLIENT UNBLOCK: as if the time were up.
unsafe extern "C" fn unblocked(ctx: *mut RedisModuleCtx, argv: *mut *mut RedisModuleString, argc: c_int) -> c_int {
    unsafe {
        let client = api!(RedisModule_GetBlockedClientHandle(ctx));
        call::run(ctx, argv, argc, |call| match forget(call, client) {
            Some(parking) => (parking.timed_out)(call),
            None => Err(Error::coded("UNBLOCKED the wait was ended")),
        })
    }
}

unsafe extern "C" fn disconnected(ctx: *mut RedisModuleCtx, client: *mut RedisModuleBlockedClient) {
    unsafe {
        call::run_alone(ctx, |call| {
            forget(call, client);
        });
    }
}

unsafe extern "C" fn free_message(_: *mut RedisModuleCtx, message: *mut c_void) {
    unsafe {
        guarded(|| drop(Box::from_raw(message.cast::<Message>())));
    }
}

/// Takes a client that can no longer be called back out of the table.
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
