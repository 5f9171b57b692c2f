//! A module for measurements only: each of its commands makes the calls to the server that one of the gateway's commands
//! makes (reads the clock and the arguments, opens the key, replicates an effect, writes a reply of the same size), and
//! does nothing in between. A benchmark against it shows which part of a command's time the module API takes, and so how
//! fast the command could be at most.
//!
//! Only `benches/compare` loads it, beside the real module.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::ptr::null_mut;
use std::slice::from_raw_parts;
use std::sync::atomic::{AtomicPtr, Ordering};

use redis_module::raw::{
    self, RedisModuleCtx, RedisModuleKey, RedisModuleString, RedisModuleType, RedisModuleTypeMethods,
};

/// As in the real module's server layer.
macro_rules! api {
    ($name:ident($($argument:expr_2021),* $(,)?)) => {
        raw::$name.unwrap()($($argument),*)
    };
}

/// What a command does with the server.
struct Shape {
    name: &'static CStr,
    /// The text of its effect, and how many of its last arguments are replicated with it. `None` replicates nothing.
    effect: Option<(&'static [u8], usize)>,
    key: Key,
    reply: Reply,
}

#[derive(Clone, Copy, PartialEq)]
enum Key {
    /// Never expires.
    Lasting,
    /// Like [`Key::Lasting`], with two more keys after `WITH 2`.
    Three,
    /// Has an expiry, which the command does not change.
    Expiring,
    /// Has an expiry, and is only read.
    Read,
    /// Gets the first argument as its value, and an expiry.
    Overwritten,
}

enum Reply {
    Ok,
    Text(&'static [u8]),
    /// The key's value.
    Value,
    Ints(usize),
    /// One integer, texts, one integer.
    Budget(usize),
    /// Like GW.ADMIT with this many policies.
    Policies(usize),
}

const LIMIT: &[u8] = b"W 1700000000000 1 1000000 60000 0";
const CHARGE: &[u8] = b"C 1700000000000 20409 0.0013755 62 1700000000000000";
const ACCOUNT: &[u8] = b"A 1700000000000 86400000 20409 600000";
const ENTRY: &[u8] = b"S 1700000000000 3600000 0";

const SHAPES: [Shape; 12] = [
    Shape { name: c"bare.allow", effect: Some((LIMIT, 0)), key: Key::Expiring, reply: Reply::Ints(5) },
    Shape { name: c"bare.denied", effect: None, key: Key::Expiring, reply: Reply::Ints(5) },
    Shape { name: c"bare.addcost", effect: Some((CHARGE, 0)), key: Key::Lasting, reply: Reply::Text(b"12.5013755") },
    Shape { name: c"bare.withinbudget", effect: None, key: Key::Lasting, reply: Reply::Budget(5) },
    Shape { name: c"bare.reserve", effect: Some((CHARGE, 1)), key: Key::Lasting, reply: Reply::Budget(6) },
    Shape { name: c"bare.commit", effect: Some((CHARGE, 1)), key: Key::Lasting, reply: Reply::Budget(4) },
    Shape { name: c"bare.cacheget", effect: None, key: Key::Read, reply: Reply::Value },
    Shape { name: c"bare.cacheset", effect: Some((ENTRY, 1)), key: Key::Overwritten, reply: Reply::Ok },
    Shape { name: c"bare.admit", effect: Some((ACCOUNT, 3)), key: Key::Lasting, reply: Reply::Policies(3) },
    Shape { name: c"bare.admitnone", effect: Some((ACCOUNT, 3)), key: Key::Lasting, reply: Reply::Policies(0) },
    Shape { name: c"bare.admit12", effect: Some((ACCOUNT, 5)), key: Key::Three, reply: Reply::Policies(12) },
    Shape { name: c"bare.settle", effect: Some((ACCOUNT, 3)), key: Key::Lasting, reply: Reply::Text(b"SETTLED") },
];

/// A value that is not an argument: a cache line.
const VALUE: &[u8] = &[0; 64];

const DAY_MS: i64 = 86_400_000;

static TYPE: AtomicPtr<RedisModuleType> = AtomicPtr::new(null_mut());

// All unsafe blocks here rely on this: the server calls with a live context and live arguments; after
// `RedisModule_OnLoad` has begun, all functions of its API are filled in; and keys of this module's type hold a
// `Box<Vec<u8>>` that [`insert`] made.

/// A command of [`SHAPES`].
///
/// # Safety
/// Only the server may call it, with `argc` arguments at `argv`.
unsafe extern "C" fn run<const SHAPE: usize>(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: see above; the arguments live as long as the call.
    unsafe {
        let shape = &SHAPES[SHAPE];
        let [_, name, rest @ ..] = from_raw_parts(argv, argc as usize) else {
            return api!(RedisModule_WrongArity(ctx));
        };
        let first = rest.iter().map(|&argument| bytes(argument)).reduce(|first, _| first).unwrap_or(VALUE);
        let now_ms = api!(RedisModule_Milliseconds());

        let others = if shape.key == Key::Three { &rest[2..4] } else { &[] };
        for &other in others {
            api!(RedisModule_CloseKey(open(ctx, other, shape.key, first, now_ms).0));
        }
        let (key, value) = open(ctx, *name, shape.key, first, now_ms);
        if key.is_null() {
            return api!(RedisModule_ReplyWithNull(ctx));
        }
        reply(ctx, &shape.reply, bytes(*name), value);
        api!(RedisModule_CloseKey(key));

        if let Some((words, last)) = shape.effect {
            let with = &rest[rest.len().saturating_sub(last)..];
            api!(RedisModule_Replicate(
                ctx,
                c"bare.effect".as_ptr(),
                c"sbv".as_ptr(),
                *name,
                words.as_ptr().cast::<c_char>(),
                words.len(),
                with.as_ptr(),
                with.len()
            ));
            for &name in others.iter().chain([name]) {
                api!(RedisModule_SignalModifiedKey(ctx, name));
                api!(RedisModule_NotifyKeyspaceEvent(ctx, raw::REDISMODULE_NOTIFY_MODULE, shape.name.as_ptr(), name));
            }
        }
        raw::REDISMODULE_OK as c_int
    }
}

/// Opens a key, and does the least that a command does with its value.
///
/// # Safety
/// `ctx` and `name` belong to the current call. The value may be used only until the key is closed.
unsafe fn open<'a>(
    ctx: *mut RedisModuleCtx,
    name: *mut RedisModuleString,
    lives: Key,
    first: &[u8],
    now_ms: i64,
) -> (*mut RedisModuleKey, &'a [u8]) {
    // SAFETY: the key is open, so its value stays where it is; only this command uses it.
    unsafe {
        let write = if lives == Key::Read { 0 } else { raw::REDISMODULE_WRITE };
        let key = api!(RedisModule_OpenKey(ctx, name, (raw::REDISMODULE_READ | write) as c_int));
        if key.is_null() {
            return (key, &[]);
        }
        let value = if api!(RedisModule_ModuleTypeGetType(key)) == TYPE.load(Ordering::Relaxed) {
            &mut *api!(RedisModule_ModuleTypeGetValue(key)).cast::<Vec<u8>>()
        } else {
            insert(key, if lives == Key::Overwritten { first } else { VALUE }, lives, now_ms)
        };
        match lives {
            Key::Overwritten => {
                value.clear();
                value.extend_from_slice(first);
                api!(RedisModule_SetAbsExpire(key, now_ms + DAY_MS));
            }
            Key::Lasting | Key::Three | Key::Expiring => value[0] = value[0].wrapping_add(1),
            Key::Read => {}
        }
        (key, value)
    }
}

/// Gives an open key a value.
///
/// # Safety
/// `key` is open for writing. The value may be used only until the key is closed.
unsafe fn insert<'a>(key: *mut RedisModuleKey, value: &[u8], lives: Key, now_ms: i64) -> &'a mut Vec<u8> {
    // SAFETY: the key owns the value from now on, and `free` gives it back.
    unsafe {
        let value = Box::into_raw(Box::new(value.to_vec()));
        api!(RedisModule_ModuleTypeSetValue(key, TYPE.load(Ordering::Relaxed), value.cast()));
        if !matches!(lives, Key::Lasting | Key::Three) {
            api!(RedisModule_SetAbsExpire(key, now_ms + DAY_MS));
        }
        &mut *value
    }
}

/// # Safety
/// `string` is an argument of the current call, and the bytes are used only during that call.
unsafe fn bytes<'a>(string: *mut RedisModuleString) -> &'a [u8] {
    // SAFETY: the server keeps the string and its bytes unchanged during the call.
    unsafe {
        let mut len = 0;
        let at = api!(RedisModule_StringPtrLen(string, &mut len));
        from_raw_parts(at.cast::<u8>(), len)
    }
}

/// # Safety
/// `ctx` belongs to the current call, which has no reply yet.
unsafe fn reply(ctx: *mut RedisModuleCtx, shape: &Reply, name: &[u8], value: &[u8]) {
    // SAFETY: the server copies its arguments.
    unsafe {
        let array = |len: usize| _ = api!(RedisModule_ReplyWithArray(ctx, len as c_long));
        let int = |value: i64| _ = api!(RedisModule_ReplyWithLongLong(ctx, value));
        let text = |text: &[u8]| {
            api!(RedisModule_ReplyWithStringBuffer(ctx, text.as_ptr().cast::<c_char>(), text.len()));
        };
        match *shape {
            Reply::Ok => _ = api!(RedisModule_ReplyWithSimpleString(ctx, c"OK".as_ptr())),
            Reply::Text(word) => text(word),
            Reply::Value => text(value),
            Reply::Ints(count) => {
                array(count);
                (0..count).for_each(|_| int(1_000_000));
            }
            Reply::Budget(texts) => {
                array(texts + 2);
                int(1);
                (0..texts).for_each(|_| text(b"12.5013755"));
                int(DAY_MS);
            }
            Reply::Policies(count) => {
                array(3);
                int(1);
                int(0);
                array(count);
                for _ in 0..count {
                    array(7);
                    text(name);
                    text(b"inflight");
                    [1, 1_000_000, 999_950, 0, DAY_MS].into_iter().for_each(int);
                }
            }
        }
    }
}

/// The effect for replicas and the append-only file. It changes nothing.
unsafe extern "C" fn effect(ctx: *mut RedisModuleCtx, _: *mut *mut RedisModuleString, _: c_int) -> c_int {
    // SAFETY: the server calls with a live context.
    unsafe { api!(RedisModule_ReplyWithNull(ctx)) }
}

unsafe extern "C" fn free(value: *mut c_void) {
    // SAFETY: `insert` made the value, and the key that owned it no longer exists.
    drop(unsafe { Box::from_raw(value.cast::<Vec<u8>>()) });
}

/// Registers the type and the commands.
///
/// # Safety
/// Only the server may call it.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn RedisModule_OnLoad(
    ctx: *mut RedisModuleCtx,
    _: *mut *mut RedisModuleString,
    _: c_int,
) -> c_int {
    // SAFETY: the server loads the module with a live context, and fills in its functions at the first call.
    unsafe {
        if raw::Export_RedisModule_Init(ctx, c"bare".as_ptr(), 1, raw::REDISMODULE_APIVER_1 as c_int) != 0 {
            return raw::REDISMODULE_ERR as c_int;
        }
        api!(RedisModule_SetModuleOptions(ctx, raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED as c_int));
        let mut methods: RedisModuleTypeMethods = std::mem::zeroed();
        methods.version = 1;
        methods.free = Some(free);
        TYPE.store(api!(RedisModule_CreateDataType(ctx, c"gw-bareun".as_ptr(), 0, &mut methods)), Ordering::Relaxed);
        let shapes = [
            run::<0>, run::<1>, run::<2>, run::<3>, run::<4>, run::<5>, run::<6>, run::<7>, run::<8>, run::<9>,
            run::<10>, run::<11>,
        ];
        let commands = SHAPES.iter().map(|shape| shape.name).zip(shapes).chain([(c"bare.effect", effect as _)]);
        for (name, handler) in commands {
            let flags = c"write deny-oom fast".as_ptr();
            if api!(RedisModule_CreateCommand(ctx, name.as_ptr(), Some(handler), flags, 1, 1, 1)) != 0 {
                return raw::REDISMODULE_ERR as c_int;
            }
        }
        raw::REDISMODULE_OK as c_int
    }
}
