//! Timers, on the server's main thread.

use std::ffi::c_void;
use std::marker::PhantomData;

use redis_module::raw::{self, RedisModuleCtx, RedisModuleTimerID};

use super::api::api;
use super::call::{self, Call};

/// A task that waits for its time, with its data.
pub struct Timer<T> {
    id: RedisModuleTimerID,
    task: PhantomData<fn(T)>,
}

struct Scheduled<T> {
    task: fn(&mut Call, T),
    data: T,
}

impl Call<'_> {
    /// Runs `task` once, `delay_ms` from now, in the database that is selected now. Its call has no arguments, and nobody
    /// reads its replies; keys can be opened and changed in it, and changes replicated, as in any other.
    pub fn after<T: 'static>(&self, delay_ms: u64, task: fn(&mut Call, T), data: T) -> Timer<T> {
        let scheduled = Box::into_raw(Box::new(Scheduled { task, data }));
        let delay_ms = i64::try_from(delay_ms).unwrap_or(i64::MAX / 1_000).min(i64::MAX / 1_000_000);
        // SAFETY: the box is taken back once, by `fire` or by `cancel`.
        let id = unsafe { api!(RedisModule_CreateTimer(self.ctx, delay_ms, Some(fire::<T>), scheduled.cast())) };
        Timer { id, task: PhantomData }
    }

    /// Cancels a timer, and returns its data; `None` if its task has run.
    pub fn cancel<T: 'static>(&self, timer: Timer<T>) -> Option<T> {
        let mut scheduled: *mut c_void = std::ptr::null_mut();
        // SAFETY: the server knows a timer by its id, which it does not use twice, and writes the data's address.
        let stopped = unsafe { api!(RedisModule_StopTimer(self.ctx, timer.id, &mut scheduled)) };
        if stopped != raw::REDISMODULE_OK as i32 || scheduled.is_null() {
            return None;
        }
        // SAFETY: a `Timer<T>` was made with a box of this type, and one that was stopped does not fire.
        Some(unsafe { Box::from_raw(scheduled.cast::<Scheduled<T>>()) }.data)
    }
}

unsafe extern "C" fn fire<T>(ctx: *mut RedisModuleCtx, scheduled: *mut c_void) {
    // SAFETY: the context is the one that the server called with.
    unsafe {
        call::run_alone(ctx, |call| {
            // SAFETY: the box is the one that `after` made; a timer fires once.
            let scheduled = Box::from_raw(scheduled.cast::<Scheduled<T>>());
            (scheduled.task)(call, scheduled.data);
        });
    }
}
