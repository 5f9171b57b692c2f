//! Loading: the server calls `RedisModule_OnLoad`, and everything that the module declares is registered, or nothing.

use std::ffi::c_int;

use redis_module::raw::{self, RedisModuleCtx};

use super::api::api;
use super::command::{self, Command};
use super::config::Setting;
use super::events::{self, Listeners};
use super::info::{self, Counters, Gauges};
use super::key::learn_open_modes;
use super::value::Type;
use super::{guard, log, types};

/// Everything that the module declares.
pub struct Module {
    pub commands: &'static [&'static Command],
    pub types: &'static [Type],
    pub settings: &'static [Setting],
    pub listeners: Listeners,
    pub counters: Counters,
    pub gauges: Gauges,
}

/// The module API version that all supported servers have.
const API_VERSION: c_int = raw::REDISMODULE_APIVER_1 as c_int;

/// The version in `MODULE LIST`: 100 for 0.1.0, 10_203 for 1.2.3.
const VERSION: c_int = version_number(env!("CARGO_PKG_VERSION"));

/// Valkey's option for modules whose keys may move with their slots atomically. The module API's own header does not know
/// it, and other servers may use the bit for something else.
const HANDLE_ATOMIC_SLOT_MIGRATION: u32 = 1 << 5;

/// Whether a Valkey of this version sends along effects that come from timers while a slot moves. That was read in the
/// source of 9.0.4 and is tested on 9.1; of earlier versions it is not known (docs/src/internals/decisions.md, "Slots that
/// move atomically").
fn moves_effects(valkey_version: &str) -> bool {
    let mut numbers = valkey_version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (9, 1)
}

/// Two decimal digits for each of the three numbers of `text`.
const fn version_number(text: &str) -> c_int {
    let (bytes, mut at) = (text.as_bytes(), 0);
    let (mut version, mut number) = (0, 0);
    while at < bytes.len() && bytes[at] != b'-' && bytes[at] != b'+' {
        match bytes[at] {
            b'.' => (version, number) = (100 * (version + number), 0),
            digit => number = 10 * number + (digit - b'0') as c_int,
        }
        assert!(number < 100, "a part of the version does not fit two digits");
        at += 1;
    }
    version + number
}

impl Module {
    /// # Safety
    /// Called by the server with its own context, once.
    pub unsafe fn load(&self, ctx: *mut RedisModuleCtx, argc: c_int) -> c_int {
        // SAFETY: the context is the server's. This comes first: it fills in the function pointers of the module API, the
        // allocator's among them, and nothing allocates before.
        let status = unsafe { raw::Export_RedisModule_Init(ctx, c"gw".as_ptr(), VERSION, API_VERSION) };
        if status != raw::REDISMODULE_OK as c_int {
            return raw::REDISMODULE_ERR as c_int;
        }
        guard::install();
        // SAFETY: the module is being loaded, with this context.
        let loaded = guard::guarded(|| unsafe { self.register(ctx, argc) });
        match loaded.unwrap_or_else(|| Err("internal error".to_owned())) {
            Ok(()) => raw::REDISMODULE_OK as c_int,
            Err(reason) => {
                log::warning(&format!("not loaded: {reason}"));
                raw::REDISMODULE_ERR as c_int
            }
        }
    }

    /// # Safety
    /// Only while the module loads, with its context.
    unsafe fn register(&self, ctx: *mut RedisModuleCtx, argc: c_int) -> Result<(), String> {
        if argc > 0 {
            // They would bypass the bounds that the server checks for gw.* settings.
            return Err(
                "module arguments are not supported; write settings as gw.<name> <value> lines in redis.conf, or \
                        use MODULE LOADEX ... CONFIG gw.<name> <value>"
                    .to_owned(),
            );
        }
        // SAFETY: the pointers were filled in just before, and are not written any more.
        if let (None, _) | (_, None) = unsafe { (raw::RedisModule_SetCommandInfo, raw::RedisModule_LoadConfigs) } {
            return Err("this server is too old; Redis 7.0 or Valkey is needed".to_owned());
        }
        let mut options = raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS
            | raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED
            | raw::REDISMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD;
        learn_open_modes();
        // SAFETY: the module is being loaded, with this context, as the caller promises.
        unsafe {
            if info::server_info(ctx, c"server", c"valkey_version").is_some_and(|version| moves_effects(&version)) {
                options |= HANDLE_ATOMIC_SLOT_MIGRATION;
            }
            api!(RedisModule_SetModuleOptions(ctx, options as c_int));
            types::register(ctx, self.types)?;
            if !command::register_acl_category(ctx) {
                return Err("the server refuses the ACL category".to_owned());
            }
        }
        for command in self.commands {
            // SAFETY: as above.
            unsafe { command.register(ctx) }.map_err(|reason| format!("{}: {reason}", command.name))?;
        }
        for setting in self.settings {
            // SAFETY: as above.
            if !unsafe { setting.register(ctx) } {
                return Err("the server refuses a setting".to_owned());
            }
        }
        // SAFETY: as above.
        unsafe {
            if api!(RedisModule_LoadConfigs(ctx)) != raw::REDISMODULE_OK as c_int {
                return Err("a gw.* setting has a wrong value, or no such setting exists".to_owned());
            }
            if !events::subscribe(ctx, self.listeners) {
                return Err("the server refuses to announce its events".to_owned());
            }
            if !info::show(ctx, self.counters, self.gauges) {
                return Err("the server refuses the INFO section".to_owned());
            }
            events::announce_load(ctx);
        }
        Ok(())
    }
}

/// Declares the module's entry point and, outside of unit tests, its allocator.
macro_rules! module {
    ($module:expr) => {
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)]
        unsafe extern "C" fn RedisModule_OnLoad(
            ctx: *mut redis_module::raw::RedisModuleCtx,
            _argv: *mut *mut redis_module::raw::RedisModuleString,
            argc: std::ffi::c_int,
        ) -> std::ffi::c_int {
            // SAFETY: the server calls this once, with its own context.
            unsafe { $module.load(ctx, argc) }
        }

        #[cfg(not(test))]
        #[global_allocator]
        static ALLOCATOR: $crate::server::alloc::ServerAlloc = $crate::server::alloc::ServerAlloc;
    };
}
pub(crate) use module;

#[cfg(test)]
mod tests {
    use super::{moves_effects, version_number};

    #[test]
    fn slots_move_atomically_from_valkey_9_1_on() {
        for version in ["9.1.0", "9.1.2", "9.10.0", "10.0.0", "255.255.255"] {
            assert!(moves_effects(version), "{version}");
        }
        for version in ["", "9", "9.0.4", "8.1.8", "7.2.4", "x"] {
            assert!(!moves_effects(version), "{version}");
        }
    }

    #[test]
    fn versions_are_numbers_with_two_digits_for_each_part() {
        for (text, number) in [("0.1.0", 100), ("1.2.3", 10_203), ("12.34.56", 123_456), ("1.0.0-rc.1", 10_000)] {
            assert_eq!(version_number(text), number, "{text}");
        }
    }
}
