//! Timers, on the server's main thread.

use std::ffi::c_void;
use std::marker::PhantomData;

use redis_module::raw::{self, RedisModuleCtx, RedisModuleTimerID};

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
    /// reads its replies; keys can be opened, changed and announced in it as in any other.
    pub fn after<T: 'static>(&self, delay_ms: u64, task: fn(&mut Call, T), data: T) -> Timer<T> {
        let scheduled = Box::into_raw(Box::new(Scheduled { task, data }));
        let delay_ms = i64::try_from(delay_ms).unwrap_or(i64::MAX / 1_000).min(i64::MAX / 1_000_000);
        // SAFETY: `fire` takes the box, or `cancel` does.
        let id = unsafe { api!(RedisModule_CreateTimer(self.ctx, delay_ms, Some(fire::<T>), scheduled.cast())) };
        Timer { id, task: PhantomData }
    }

    /// Ends a timer that has not run. `None` where it has.
    pub fn cancel<T: 'static>(&self, timer: Timer<T>) -> Option<T> {
        let mut scheduled: *mut c_void = std::ptr::null_mut();
        // SAFETY: a timer of this type was made with a box of this type; ids are not used twice.
        unsafe {
            let stopped = api!(RedisModule_StopTimer(self.ctx, timer.id, &mut scheduled));
            (stopped == raw::REDISMODULE_OK as i32 && !scheduled.is_null())
                .then(|| Box::from_raw(scheduled.cast::<Scheduled<T>>()).data)
        }
    }
}

unsafe extern "C" fn fire<T>(ctx: *mut RedisModuleCtx, scheduled: *mut c_void) {
    unsafe {
        call::run_alone(ctx, |call| {
            // SAFETY: the box is the one that `after` made; a timer fires once.
            let scheduled = unsafe { Box::from_raw(scheduled.cast::<Scheduled<T>>()) };
            (scheduled.task)(call, scheduled.data);
        });
    }
}
