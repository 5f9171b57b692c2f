//! The module's data types as a whole: registered at load, and found again by the commands that work on any of them.

use std::sync::OnceLock;

use redis_module::raw::RedisModuleCtx;

use super::args::Key;
use super::call::Call;
use super::effect;
use super::error::{Error, Outcome};
use super::events;
use super::key::{RawKey, quiet_read_mode};
use super::value::{LOAD_EVENT, Type};

/// What the module has declared. Set once, while it loads.
static TYPES: OnceLock<&'static [Type]> = OnceLock::new();

/// Registers all types. The error names the first that the server refuses.
///
/// # Safety
/// Only while the module loads, with its context.
pub(super) unsafe fn register(ctx: *mut RedisModuleCtx, types: &'static [Type]) -> Result<(), String> {
    for kind in TYPES.get_or_init(|| types).iter() {
        // SAFETY: the caller's promise is the same.
        if !unsafe { kind.register(ctx) } {
            return Err(format!("the server refuses the type {}", kind.name));
        }
    }
    Ok(())
}

fn find(is_meant: impl Fn(&Type) -> bool) -> Option<&'static Type> {
    TYPES.get()?.iter().find(|kind| is_meant(kind))
}

/// GW.DESCRIBE key: the state of a key of any of the module's types, nil if it does not exist.
pub fn describe(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    args.end()?;
    let Some(raw) = RawKey::open(call, key, quiet_read_mode()) else {
        call.reply().null();
        return Ok(());
    };
    let found = raw.module_type();
    let kind = find(|kind| !found.is_null() && kind.raw() == found).ok_or(Error::WRONG_TYPE)?;
    // SAFETY: the key is open, holds a value of this type, and is opened once.
    unsafe { kind.describe(raw.module_value(), call.now_ms(), &call.reply()) };
    Ok(())
}

/// GW._LOAD key type encoding payload: stores a whole value as [`super::value::Rewrite::whole`] wrote it.
pub fn load_value(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key: Key = args.key()?;
    let name = args.bytes("type")?;
    let encoding = args.int("encoding", 0..=1_023)?;
    let payload = args.bytes("payload")?;
    args.end()?;
    let kind = find(|kind| kind.name.as_bytes() == name).ok_or_else(effect::malformed)?;
    let raw = RawKey::open_to_change(call, key)?;
    let value = kind.decode(payload, encoding).map_err(|_| effect::malformed())?;
    // SAFETY: the key is open for writing, and the box was just made for this type.
    unsafe { raw.set_module_value(kind.raw(), value) };
    drop(raw);
    call.pass_on(key, LOAD_EVENT);
    events::tell_of_key(call, LOAD_EVENT, key);
    call.reply().ok();
    Ok(())
}
