//! Loading: the server calls `RedisModule_OnLoad`, and everything the module declares is registered, or nothing.

use std::ffi::c_int;

use redis_module::raw::{self, RedisModuleCtx};

use super::args::Key;
use super::call::Call;
use super::command::{self, Command};
use super::config::Setting;
use super::error::{Error, Outcome};
use super::events::{self, KeyListener, Listener};
use super::key::{RawKey, learn_open_modes, quiet_read_mode};
use super::value::Type;
use super::{effect, guard, log, stats};

/// Everything that the module declares.
pub struct Module {
    pub commands: &'static [&'static Command],
    pub types: &'static [Type],
    pub settings: &'static [Setting],
    pub key_listeners: &'static [KeyListener],
    pub listeners: &'static [Listener],
}

/// The module API version that all supported servers have.
const API_VERSION: c_int = raw::REDISMODULE_APIVER_1 as c_int;

impl Module {
    /// # Safety
    /// Called by the server with its own arguments, once.
    pub unsafe fn load(&self, ctx: *mut RedisModuleCtx, argc: c_int, version: c_int) -> c_int {
        unsafe {
            // Nothing allocates before this: it is what fills in the allocator.
            if raw::Export_RedisModule_Init(ctx, c"gw".as_ptr(), version, API_VERSION) != raw::REDISMODULE_OK as c_int {
                return raw::REDISMODULE_ERR as c_int;
            }
            guard::install();
            let loaded = guard::guarded(|| self.register(ctx, argc));
            match loaded.unwrap_or_else(|| Err("internal error".to_owned())) {
                Ok(()) => raw::REDISMODULE_OK as c_int,
                Err(reason) => {
                    log::warning(&format!("not loaded: {reason}"));
                    raw::REDISMODULE_ERR as c_int
                }
            }
        }
    }

    unsafe fn register(&self, ctx: *mut RedisModuleCtx, argc: c_int) -> Result<(), String> {
        unsafe {
            if argc > 0 {
                // They would bypass the bounds that the server checks for gw.* settings.
                return Err(
                    "module arguments are not taken; write settings as gw.<name> <value> lines in redis.conf, or \
                        use MODULE LOADEX ... CONFIG gw.<name> <value>"
                        .to_owned(),
                );
            }
            if let (None, _) | (_, None) = (raw::RedisModule_SetCommandInfo, raw::RedisModule_LoadConfigs) {
                return Err("this server is too old; Redis 7.0 or Valkey is needed".to_owned());
            }
            let options =
                raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS | raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED;
            api!(RedisModule_SetModuleOptions(ctx, options as c_int));
            learn_open_modes();
            for kind in self.types {
                if !kind.register(ctx) {
                    return Err(format!("the server refuses the type {}", kind.name));
                }
            }
            if !command::register_acl_category(ctx) {
                return Err("the server refuses the ACL category".to_owned());
            }
            for command in self.commands {
                command.register(ctx).map_err(|reason| format!("{}: {reason}", command.name))?;
            }
            for setting in self.settings {
                if !setting.register(ctx) {
                    return Err("the server refuses a setting".to_owned());
                }
            }
            if api!(RedisModule_LoadConfigs(ctx)) != raw::REDISMODULE_OK as c_int {
                return Err("a gw.* setting has a wrong value, or no such setting exists".to_owned());
            }
            if !events::subscribe(ctx) {
                return Err("the server refuses to announce its events".to_owned());
            }
            api!(RedisModule_RegisterInfoFunc(ctx, Some(stats::info)));
            events::announce_load(ctx);
            Ok(())
        }
    }

    fn type_of(&self, key: &RawKey) -> Option<&Type> {
        let found = key.module_type();
        self.types.iter().find(|kind| !found.is_null() && kind.raw() == found)
    }

    /// GW.DESCRIBE key: the state of a key of any of the module's types, nil where there is none.
    pub fn describe(&self, call: &Call) -> Outcome {
        let mut args = call.args();
        let key = args.key()?;
        args.end()?;
        let Some(raw) = RawKey::open(call, key, quiet_read_mode()) else {
            call.reply().null();
            return Ok(());
        };
        let kind = self.type_of(&raw).ok_or(Error::WRONG_TYPE)?;
        // SAFETY: the key is open and holds a value of this type.
        unsafe {
            let value = api!(RedisModule_ModuleTypeGetValue(raw.0.as_ptr()));
            kind.describe(value, call.now_ms(), &call.reply());
        }
        Ok(())
    }

    /// GW._LOAD key type encoding payload: stores a whole value as [`super::value::Rewrite::whole`] wrote it.
    pub fn load_value(&self, call: &Call) -> Outcome {
        let mut args = call.args();
        let key: Key = args.key()?;
        let name = args.bytes("type")?;
        let encoding = args.int("encoding", 0..=1_023)?;
        let payload = args.bytes("payload")?;
        args.end()?;
        let kind = self.types.iter().find(|kind| kind.name.as_bytes() == name).ok_or_else(effect::malformed)?;
        let value = kind.decode(payload, encoding).map_err(|_| effect::malformed())?;
        let mode = (raw::REDISMODULE_READ | raw::REDISMODULE_WRITE) as c_int;
        let raw = RawKey::open(call, key, mode).ok_or_else(effect::malformed)?;
        // SAFETY: the key is open for writing, and the server takes the box.
        unsafe { api!(RedisModule_ModuleTypeSetValue(raw.0.as_ptr(), kind.raw(), value)) };
        drop(raw);
        call.applied(key, c"gw.load");
        call.reply().ok();
        Ok(())
    }
}

/// Declares the module's entry point.
macro_rules! module {
    ($module:expr_2021) => {
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)]
        unsafe extern "C" fn RedisModule_OnLoad(
            ctx: *mut redis_module::raw::RedisModuleCtx,
            _argv: *mut *mut redis_module::raw::RedisModuleString,
            argc: std::ffi::c_int,
        ) -> std::ffi::c_int {
            unsafe { $module.load(ctx, argc, $crate::VERSION) }
        }

        #[cfg(not(test))]
        #[global_allocator]
        static ALLOCATOR: $crate::server::alloc::ServerAlloc = $crate::server::alloc::ServerAlloc;
    };
}
pub(crate) use module;
