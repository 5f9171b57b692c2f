//! The functions of the module API that the module calls, over [`State`].
//!
//! A function that is not in [`get`] is one that this server does not have; the module then does without it, as on an old
//! server, or panics, which is a finding.

use std::ffi::{CStr, c_char, c_int, c_long, c_longlong, c_uint, c_ulong, c_void};
use std::ptr::null_mut;

use gateway_core::codec::{Reader, Writer};
use redis_module::raw::{self, *};

use super::state::{
    Answer, Blocked, CONTEXT, Command, Key, Kind, Setting, Slot, State, Stream, Timer, Woken, context, with,
};
use crate::memory;

const OK: c_int = raw::REDISMODULE_OK as c_int;
const ERR: c_int = raw::REDISMODULE_ERR as c_int;

type Ctx = *mut RedisModuleCtx;
type Text = *mut RedisModuleString;
type OnBlocked = RedisModuleCmdFunc;
type FreeData = Option<unsafe extern "C" fn(Ctx, *mut c_void)>;

// SAFETY of this file: the module passes what the API's documentation asks for: contexts and strings that live through
// the call, keys that it has opened and not closed, and values of the type that it says. AddressSanitizer finds where it
// does not.
#[allow(clippy::undocumented_unsafe_blocks)]
mod functions {
    use super::*;

    pub unsafe fn text<'a>(at: *const c_char) -> &'a [u8] {
        unsafe { CStr::from_ptr(at) }.to_bytes()
    }

    pub unsafe fn slice<'a>(at: *const c_char, len: usize) -> &'a [u8] {
        match len {
            0 => &[],
            len => unsafe { std::slice::from_raw_parts(at.cast(), len) },
        }
    }

    /// Our strings are boxes of byte vectors.
    pub fn new_string(bytes: &[u8]) -> Text {
        Box::into_raw(Box::new(bytes.to_vec())).cast()
    }

    pub unsafe fn bytes<'a>(string: Text) -> &'a [u8] {
        unsafe { &*string.cast::<Vec<u8>>() }
    }

    pub unsafe fn free(string: Text) {
        drop(unsafe { Box::from_raw(string.cast::<Vec<u8>>()) });
    }

    pub unsafe extern "C" fn create_string(_: Ctx, at: *const c_char, len: usize) -> Text {
        new_string(unsafe { slice(at, len) })
    }

    pub unsafe extern "C" fn free_string(_: Ctx, string: Text) {
        unsafe { free(string) }
    }

    pub unsafe extern "C" fn string_ptr_len(string: *const RedisModuleString, len: *mut usize) -> *const c_char {
        let bytes = unsafe { bytes(string.cast_mut()) };
        unsafe { *len = bytes.len() };
        bytes.as_ptr().cast()
    }

    // Registration.

    pub unsafe extern "C" fn set_attributes(_: Ctx, _: *const c_char, _: c_int, _: c_int) {}

    pub unsafe extern "C" fn name_busy(_: *const c_char) -> c_int {
        0
    }

    pub unsafe extern "C" fn set_options(_: Ctx, _: c_int) {}

    pub unsafe extern "C" fn create_command(
        _: Ctx,
        name: *const c_char,
        handler: RedisModuleCmdFunc,
        _: *const c_char,
        _: c_int,
        _: c_int,
        _: c_int,
    ) -> c_int {
        let (name, handler) = (unsafe { text(name) }.to_vec(), handler.expect("a command has a handler"));
        with(|state| state.commands.push(Command { name, handler, arity: 0 }));
        OK
    }

    /// The handle of a command is its number, from 1 on.
    pub unsafe extern "C" fn get_command(_: Ctx, name: *const c_char) -> *mut RedisModuleCommand {
        let name = unsafe { text(name) };
        with(|state| state.commands.iter().position(|command| command.name == name))
            .map_or(null_mut(), |index| (index + 1) as *mut RedisModuleCommand)
    }

    pub unsafe extern "C" fn set_command_info(
        command: *mut RedisModuleCommand,
        info: *const RedisModuleCommandInfo,
    ) -> c_int {
        let arity = unsafe { (*info).arity };
        with(|state| state.commands[command as usize - 1].arity = arity);
        OK
    }

    pub unsafe extern "C" fn create_data_type(
        _: Ctx,
        name: *const c_char,
        encoding: c_int,
        methods: *mut RedisModuleTypeMethods,
    ) -> *mut RedisModuleType {
        let name = String::from_utf8_lossy(unsafe { text(name) }).into_owned();
        // Registered once, for as long as the process lives.
        let kind: &'static Kind = Box::leak(Box::new(Kind { name, encoding, methods: unsafe { *methods } }));
        with(|state| state.kinds.push(kind));
        std::ptr::from_ref(kind).cast_mut().cast()
    }

    pub unsafe extern "C" fn register_number(
        _: Ctx,
        name: *const c_char,
        default: c_longlong,
        _: c_uint,
        _: c_longlong,
        _: c_longlong,
        _: RedisModuleConfigGetNumericFunc,
        set: RedisModuleConfigSetNumericFunc,
        _: RedisModuleConfigApplyFunc,
        data: *mut c_void,
    ) -> c_int {
        let name = unsafe { CStr::from_ptr(name) }.to_owned();
        with(|state| state.settings.push(Setting::Number { name, default, set, data }));
        OK
    }

    pub unsafe extern "C" fn register_text(
        _: Ctx,
        name: *const c_char,
        default: *const c_char,
        _: c_uint,
        _: RedisModuleConfigGetStringFunc,
        set: RedisModuleConfigSetStringFunc,
        _: RedisModuleConfigApplyFunc,
        data: *mut c_void,
    ) -> c_int {
        let (name, default) = (unsafe { CStr::from_ptr(name) }.to_owned(), unsafe { text(default) }.to_vec());
        with(|state| state.settings.push(Setting::Text { name, default, set, data }));
        OK
    }

    pub unsafe extern "C" fn load_configs(_: Ctx) -> c_int {
        let mut error = null_mut();
        for setting in with(|state| std::mem::take(&mut state.settings)) {
            let status = match setting {
                Setting::Number { name, default, set, data } => unsafe {
                    set.map(|set| set(name.as_ptr(), default, data, &mut error))
                },
                Setting::Text { name, default, set, data } => unsafe {
                    let default = new_string(&default);
                    let status = set.map(|set| set(name.as_ptr(), default, data, &mut error));
                    free(default);
                    status
                },
            };
            assert_eq!(status, Some(OK), "a default is refused");
        }
        OK
    }

    pub unsafe extern "C" fn subscribe_to_keys(_: Ctx, classes: c_int, listener: RedisModuleNotificationFunc) -> c_int {
        with(|state| state.key_listener = listener.map(|listener| (classes, listener)));
        OK
    }

    pub unsafe extern "C" fn subscribe_to_server(
        _: Ctx,
        event: RedisModuleEvent,
        listener: RedisModuleEventCallback,
    ) -> c_int {
        if event.id == raw::REDISMODULE_EVENT_FLUSHDB {
            with(|state| state.flush_listener = listener);
        }
        OK
    }

    pub unsafe extern "C" fn register_info(_: Ctx, _: RedisModuleInfoFunc) -> c_int {
        OK
    }

    // Contexts.

    pub unsafe extern "C" fn context_flags(_: Ctx) -> c_int {
        raw::REDISMODULE_CTX_FLAGS_MASTER as c_int
    }

    /// All contexts are the same one.
    pub unsafe extern "C" fn detached_context(context: Ctx) -> Ctx {
        context
    }

    pub unsafe extern "C" fn free_context(_: Ctx) {}

    pub unsafe extern "C" fn selected_database(_: Ctx) -> c_int {
        0
    }

    pub unsafe extern "C" fn select_database(_: Ctx, number: c_int) -> c_int {
        if number == 0 { OK } else { ERR }
    }

    pub unsafe extern "C" fn avoid_replica_traffic() -> c_int {
        0
    }

    pub unsafe extern "C" fn milliseconds() -> c_longlong {
        with(|state| state.now_ms)
    }

    pub unsafe extern "C" fn cached_microseconds() -> ustime_t {
        with(|state| state.now_ms) * 1_000
    }

    pub unsafe extern "C" fn is_keys_request(_: Ctx) -> c_int {
        0
    }

    pub unsafe extern "C" fn key_at(_: Ctx, _: c_int) {}

    pub unsafe extern "C" fn server_info(_: Ctx, _: *const c_char) -> *mut RedisModuleServerInfoData {
        std::ptr::dangling_mut()
    }

    pub unsafe extern "C" fn server_info_field(_: *mut RedisModuleServerInfoData, _: *const c_char) -> *const c_char {
        std::ptr::null()
    }

    pub unsafe extern "C" fn free_server_info(_: Ctx, _: *mut RedisModuleServerInfoData) {}

    pub unsafe extern "C" fn open_modes() -> c_int {
        c_int::MAX
    }

    // Keys.

    pub unsafe extern "C" fn open_key(_: Ctx, name: Text, mode: c_int) -> *mut RedisModuleKey {
        let name = unsafe { bytes(name) }.to_vec();
        let opened = with(|state| {
            let changes = mode & raw::REDISMODULE_WRITE as c_int != 0;
            if !changes && !state.keys.contains_key(&name) {
                return None;
            }
            state.open_keys += 1;
            Some(Key { name, changes })
        });
        opened.map_or(null_mut(), |key| Box::into_raw(Box::new(key)).cast())
    }

    pub unsafe extern "C" fn close_key(key: *mut RedisModuleKey) {
        if !key.is_null() {
            drop(unsafe { Box::from_raw(key.cast::<Key>()) });
            with(|state| state.open_keys -= 1);
        }
    }

    unsafe fn slot<T>(key: *mut RedisModuleKey, look: impl FnOnce(&Slot) -> T) -> Option<T> {
        let key = unsafe { &*key.cast::<Key>() };
        with(|state| state.keys.get(&key.name).map(look))
    }

    pub unsafe extern "C" fn key_type(key: *mut RedisModuleKey) -> c_int {
        let kind = unsafe { slot(key, |slot| slot.kind.is_some()) };
        let kind = match kind {
            None => raw::REDISMODULE_KEYTYPE_EMPTY,
            Some(true) => raw::REDISMODULE_KEYTYPE_MODULE,
            Some(false) => raw::REDISMODULE_KEYTYPE_STRING,
        };
        kind as c_int
    }

    pub unsafe extern "C" fn value_type(key: *mut RedisModuleKey) -> *mut RedisModuleType {
        let kind = unsafe { slot(key, |slot| slot.kind) }.flatten();
        kind.map_or(null_mut(), |kind| std::ptr::from_ref(kind).cast_mut().cast())
    }

    pub unsafe extern "C" fn value(key: *mut RedisModuleKey) -> *mut c_void {
        unsafe { slot(key, |slot| slot.value) }.unwrap_or(null_mut())
    }

    pub unsafe extern "C" fn set_value(
        key: *mut RedisModuleKey,
        kind: *mut RedisModuleType,
        value: *mut c_void,
    ) -> c_int {
        let key = unsafe { &*key.cast::<Key>() };
        assert!(key.changes, "a key that was opened to be read is changed");
        let kind = Some(unsafe { &*kind.cast::<Kind>() });
        let before = with(|state| state.keys.insert(key.name.clone(), Slot { kind, value, expires_at_ms: None }));
        drop(before);
        OK
    }

    pub unsafe extern "C" fn unlink_key(key: *mut RedisModuleKey) -> c_int {
        let key = unsafe { &*key.cast::<Key>() };
        assert!(key.changes, "a key that was opened to be read is deleted");
        let before = with(|state| state.keys.remove(&key.name));
        drop(before);
        OK
    }

    pub unsafe extern "C" fn expiry(key: *mut RedisModuleKey) -> mstime_t {
        unsafe { slot(key, |slot| slot.expires_at_ms) }.flatten().unwrap_or(raw::REDISMODULE_NO_EXPIRE.into())
    }

    pub unsafe extern "C" fn set_expiry(key: *mut RedisModuleKey, at_ms: mstime_t) -> c_int {
        let key = unsafe { &*key.cast::<Key>() };
        assert!(key.changes, "a key that was opened to be read is given an expiry");
        let none = at_ms == i64::from(raw::REDISMODULE_NO_EXPIRE);
        assert!(none || at_ms >= 0, "an expiry before 1970");
        with(|state| {
            let Some(slot) = state.keys.get_mut(&key.name) else { return ERR };
            slot.expires_at_ms = (!none).then_some(at_ms);
            OK
        })
    }

    pub unsafe extern "C" fn signal_modified(_: Ctx, _: Text) -> c_int {
        OK
    }

    pub unsafe extern "C" fn notified_classes() -> c_int {
        c_int::MAX
    }

    /// Subscribers are told of an event of their classes, but not of events that they cause while they are told of one.
    pub unsafe extern "C" fn notify(_: Ctx, class: c_int, event: *const c_char, key: Text) -> c_int {
        let listener = with(|state| {
            let (classes, listener) = state.key_listener?;
            (classes & class != 0 && !std::mem::replace(&mut state.is_notifying, true)).then_some(listener)
        });
        if let Some(listener) = listener {
            unsafe { listener(context(), class, event, key) };
            with(|state| state.is_notifying = false);
        }
        OK
    }

    pub unsafe extern "C" fn replicate_verbatim(_: Ctx) -> c_int {
        with(|state| {
            let argv = state.argv.clone();
            state.replicate(argv);
        });
        OK
    }

    // Replies.

    fn reply(children: u64) -> c_int {
        with(|state| state.reply.add(children));
        OK
    }

    pub unsafe extern "C" fn reply_array(_: Ctx, len: c_long) -> c_int {
        reply(u64::try_from(len).expect("the length of an array"))
    }

    pub unsafe extern "C" fn reply_map(_: Ctx, len: c_long) -> c_int {
        reply(2 * u64::try_from(len).expect("the length of a map"))
    }

    pub unsafe extern "C" fn reply_integer(_: Ctx, _: c_longlong) -> c_int {
        reply(0)
    }

    pub unsafe extern "C" fn reply_string(_: Ctx, at: *const c_char, len: usize) -> c_int {
        // Read to its end, for AddressSanitizer.
        std::hint::black_box(unsafe { slice(at, len) }.iter().fold(0u8, |sum, byte| sum ^ byte));
        reply(0)
    }

    pub unsafe extern "C" fn reply_null(_: Ctx) -> c_int {
        reply(0)
    }

    pub unsafe extern "C" fn reply_simple(_: Ctx, at: *const c_char) -> c_int {
        std::hint::black_box(unsafe { text(at) });
        reply(0)
    }

    pub unsafe extern "C" fn reply_error(_: Ctx, at: *const c_char) -> c_int {
        let error = unsafe { text(at) };
        assert!(error.iter().all(|byte| (0x20..0x7f).contains(byte)), "an error that is not printable ASCII");
        assert!(error.len() <= 512, "an error of {} bytes", error.len());
        assert!(!error.starts_with(b"ERR internal error"), "an internal error");
        with(|state| {
            if state.reply.is_empty() {
                state.reply.error = Some(String::from_utf8_lossy(error).into_owned());
            }
        });
        reply(0)
    }

    // Clients that wait.

    fn block(blocked: Blocked) -> *mut RedisModuleBlockedClient {
        with(|state| {
            assert!(state.reply.is_empty(), "a client that waits has a reply");
            state.has_blocked = true;
            let client = Box::into_raw(Box::new(Blocked { argv: state.argv.clone(), ..blocked }));
            state.blocked.push(client);
            client.cast()
        })
    }

    pub unsafe extern "C" fn block_client(
        _: Ctx,
        on_reply: OnBlocked,
        on_timeout: OnBlocked,
        free_data: FreeData,
        _: c_longlong,
    ) -> *mut RedisModuleBlockedClient {
        block(Blocked { on_reply, on_timeout, free_data, ..Blocked::default() })
    }

    pub unsafe extern "C" fn block_on_keys(
        _: Ctx,
        on_reply: OnBlocked,
        on_timeout: OnBlocked,
        free_data: FreeData,
        _: c_longlong,
        keys: *mut Text,
        count: c_int,
        _: *mut c_void,
    ) -> *mut RedisModuleBlockedClient {
        let keys = (0..count as usize).map(|index| unsafe { bytes(*keys.add(index)) }.to_vec()).collect();
        block(Blocked { on_reply, on_timeout, free_data, keys, ..Blocked::default() })
    }

    pub unsafe extern "C" fn set_disconnect(_: *mut RedisModuleBlockedClient, _: RedisModuleDisconnectFunc) {}

    pub unsafe extern "C" fn unblock_client(client: *mut RedisModuleBlockedClient, data: *mut c_void) -> c_int {
        with(|state| {
            let client = client.cast::<Blocked>();
            let place = state.blocked.iter().position(|other| *other == client).expect("a client that waits");
            state.blocked.remove(place);
            state.woken.push(Woken::Client { client, data });
        });
        OK
    }

    pub unsafe extern "C" fn signal_ready(_: Ctx, key: Text) {
        let key = unsafe { bytes(key) }.to_vec();
        with(|state| state.woken.push(Woken::Key(key)));
    }

    pub unsafe extern "C" fn blocked_data(_: Ctx) -> *mut c_void {
        with(|state| state.blocked_data)
    }

    pub unsafe extern "C" fn blocked_handle(_: Ctx) -> *mut RedisModuleBlockedClient {
        with(|state| state.blocked_handle).cast()
    }

    // Timers.

    pub unsafe extern "C" fn create_timer(
        _: Ctx,
        period_ms: mstime_t,
        ring: RedisModuleTimerProc,
        data: *mut c_void,
    ) -> RedisModuleTimerID {
        assert!(period_ms >= 0, "a timer for the past");
        with(|state| {
            state.last_timer += 1;
            let due_ms = state.now_ms.saturating_add(period_ms);
            let timer = Timer { ring: ring.expect("a timer rings"), data };
            state.timers.insert((due_ms, state.last_timer), timer);
            state.last_timer
        })
    }

    pub unsafe extern "C" fn stop_timer(_: Ctx, id: RedisModuleTimerID, data: *mut *mut c_void) -> c_int {
        with(|state| {
            let Some(&place) = state.timers.keys().find(|(_, other)| *other == id) else { return ERR };
            let timer = state.timers.remove(&place);
            if let (Some(timer), false) = (timer, data.is_null()) {
                unsafe { *data = timer.data };
            }
            OK
        })
    }

    // Scans, and commands of the server.

    pub unsafe extern "C" fn scan_cursor() -> *mut RedisModuleScanCursor {
        std::ptr::dangling_mut()
    }

    pub unsafe extern "C" fn free_scan_cursor(_: *mut RedisModuleScanCursor) {}

    /// All keys at once.
    pub unsafe extern "C" fn scan(
        _: Ctx,
        _: *mut RedisModuleScanCursor,
        visit: RedisModuleScanCB,
        data: *mut c_void,
    ) -> c_int {
        let names: Vec<Vec<u8>> = with(|state| state.keys.keys().cloned().collect());
        for name in names {
            let (string, mut key) = (new_string(&name), Key { name, changes: false });
            let at: *mut Key = &mut key;
            if let Some(visit) = visit {
                unsafe { visit(context(), string, at.cast(), data) };
            }
            unsafe { free(string) };
        }
        0
    }

    pub unsafe extern "C" fn free_reply(reply: *mut RedisModuleCallReply) {
        drop(unsafe { Box::from_raw(reply.cast::<Answer>()) });
    }

    pub unsafe extern "C" fn reply_type(reply: *mut RedisModuleCallReply) -> c_int {
        let kind = match unsafe { &*reply.cast::<Answer>() } {
            Answer::Bytes(_) => raw::REDISMODULE_REPLY_STRING,
            Answer::List(_) => raw::REDISMODULE_REPLY_ARRAY,
        };
        kind as c_int
    }

    pub unsafe extern "C" fn reply_integer_value(_: *mut RedisModuleCallReply) -> c_longlong {
        0
    }

    pub unsafe extern "C" fn reply_bytes(reply: *mut RedisModuleCallReply, len: *mut usize) -> *const c_char {
        match unsafe { &*reply.cast::<Answer>() } {
            Answer::Bytes(bytes) => {
                unsafe { *len = bytes.len() };
                bytes.as_ptr().cast()
            }
            Answer::List(_) => std::ptr::null(),
        }
    }

    pub unsafe extern "C" fn reply_element(
        reply: *mut RedisModuleCallReply,
        index: usize,
    ) -> *mut RedisModuleCallReply {
        match unsafe { &*reply.cast::<Answer>() } {
            Answer::List(list) => list.get(index).map_or(null_mut(), |at| std::ptr::from_ref(at).cast_mut().cast()),
            Answer::Bytes(_) => null_mut(),
        }
    }

    // Streams: RDB files, digests, rewritten AOFs.

    pub unsafe fn stream<'a, T>(stream: *mut T) -> &'a mut Stream<'a> {
        unsafe { &mut *stream.cast::<Stream>() }
    }

    pub unsafe extern "C" fn save_unsigned(io: *mut RedisModuleIO, value: u64) {
        unsafe { stream(io) }.written.uint(value);
    }

    pub unsafe extern "C" fn save_signed(io: *mut RedisModuleIO, value: i64) {
        unsafe { stream(io) }.written.int(value);
    }

    pub unsafe extern "C" fn save_bytes(io: *mut RedisModuleIO, at: *const c_char, len: usize) {
        unsafe { stream(io).written.bytes(slice(at, len)) };
    }

    pub unsafe extern "C" fn load_unsigned(io: *mut RedisModuleIO) -> u64 {
        let stream = unsafe { stream(io) };
        stream.read.uint().unwrap_or_else(|_| {
            stream.has_failed = true;
            0
        })
    }

    pub unsafe extern "C" fn load_signed(io: *mut RedisModuleIO) -> i64 {
        let stream = unsafe { stream(io) };
        stream.read.int().unwrap_or_else(|_| {
            stream.has_failed = true;
            0
        })
    }

    /// As the server's, without a bound: the bytes are those of the stream.
    pub unsafe extern "C" fn load_bytes(io: *mut RedisModuleIO, len: *mut usize) -> *mut c_char {
        let stream = unsafe { stream(io) };
        match stream.read.bytes(usize::MAX) {
            Ok(bytes) => unsafe {
                *len = bytes.len();
                let at = memory::alloc(bytes.len().max(1));
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), at.cast(), bytes.len());
                at.cast()
            },
            Err(_) => {
                stream.has_failed = true;
                null_mut()
            }
        }
    }

    pub unsafe extern "C" fn has_failed(io: *mut RedisModuleIO) -> c_int {
        unsafe { stream(io) }.has_failed.into()
    }

    pub unsafe extern "C" fn digest_integer(digest: *mut RedisModuleDigest, value: c_longlong) {
        unsafe { stream(digest) }.written.int(value);
    }

    pub unsafe extern "C" fn digest_bytes(digest: *mut RedisModuleDigest, at: *const c_char, len: usize) {
        unsafe { stream(digest).written.bytes(slice(at, len)) };
    }

    pub unsafe extern "C" fn digest_end(digest: *mut RedisModuleDigest) {
        unsafe { stream(digest) }.written.uint(0);
    }

    // Defragmentation: everything is moved, with a pause after each buffer.

    pub unsafe extern "C" fn defrag_alloc(_: *mut RedisModuleDefragCtx, at: *mut c_void) -> *mut c_void {
        unsafe { memory::moved(at) }
    }

    pub unsafe extern "C" fn defrag_should_stop(_: *mut RedisModuleDefragCtx) -> c_int {
        1
    }

    pub unsafe extern "C" fn set_defrag_cursor(defrag: *mut RedisModuleDefragCtx, cursor: c_ulong) -> c_int {
        unsafe { *defrag.cast::<c_ulong>() = cursor };
        OK
    }

    pub unsafe extern "C" fn defrag_cursor(defrag: *mut RedisModuleDefragCtx, cursor: *mut c_ulong) -> c_int {
        unsafe { *cursor = *defrag.cast::<c_ulong>() };
        OK
    }
}

#[repr(C)]
struct Word {
    at: *const c_char,
    len: usize,
}

/// # Safety
/// The list has `count` words, which live through the call.
unsafe fn words(list: *const Word, count: usize) -> Vec<Vec<u8>> {
    // SAFETY: the caller promises it.
    unsafe { std::slice::from_raw_parts(list, count).iter().map(|word| functions::slice(word.at, word.len).to_vec()) }
        .collect()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn gw_string(string: Text, len: *mut usize) -> *const c_char {
    // SAFETY: a string that the module has passed.
    unsafe { functions::string_ptr_len(string, len) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn gw_replicate(list: *const Word, count: usize) -> c_int {
    // SAFETY: from variadic.c.
    let argv = unsafe { words(list, count) };
    with(|state| state.replicate(argv));
    OK
}

#[unsafe(no_mangle)]
unsafe extern "C" fn gw_emit(io: *mut RedisModuleIO, list: *const Word, count: usize) {
    // SAFETY: from variadic.c; the stream is the one that a rewrite was called with.
    unsafe { functions::stream(io).emitted.push(words(list, count)) };
}

/// Only SCAN is called: all keys, and the cursor that ends it.
#[unsafe(no_mangle)]
unsafe extern "C" fn gw_call(list: *const Word, count: usize) -> *mut c_void {
    // SAFETY: from variadic.c.
    let argv = unsafe { words(list, count) };
    if argv[0] != b"SCAN" {
        return null_mut();
    }
    let names = with(|state| state.keys.keys().cloned().map(Answer::Bytes).collect());
    Box::into_raw(Box::new(Answer::List(vec![Answer::Bytes(b"0".to_vec()), Answer::List(names)]))).cast()
}

/// The module logs values that do not load and effects that it refuses; its guard logs panics that it has caught.
#[unsafe(no_mangle)]
unsafe extern "C" fn gw_log(line: *const c_char, len: usize) {
    // SAFETY: from variadic.c.
    let line = String::from_utf8_lossy(unsafe { functions::slice(line, len) });
    if line.contains("internal error") {
        eprintln!("{line}");
        eprintln!("{}", std::backtrace::Backtrace::force_capture());
        std::process::abort();
    }
}

unsafe extern "C" {
    fn gw_api_replicate();
    fn gw_api_emit_aof();
    fn gw_api_call();
    fn gw_api_log();
}

/// The server's function of a name.
unsafe extern "C" fn get(name: *const c_char, place: *mut *const c_void) -> c_int {
    use functions as f;
    // SAFETY: the module passes a name.
    let name = unsafe { functions::text(name) };
    let name = name.strip_prefix(b"RedisModule_").unwrap_or(name);
    macro_rules! table {
        ($($known:literal => $function:expr,)*) => {
            match name {
                $($known => $function as *const c_void,)*
                _ => return ERR,
            }
        };
    }
    let function = table! {
        b"Alloc" => memory::alloc,
        b"Calloc" => memory::alloc_zeroed,
        b"Realloc" => memory::resize,
        b"Free" => memory::release,
        b"CreateString" => f::create_string,
        b"FreeString" => f::free_string,
        b"StringPtrLen" => f::string_ptr_len,
        b"SetModuleAttribs" => f::set_attributes,
        b"IsModuleNameBusy" => f::name_busy,
        b"SetModuleOptions" => f::set_options,
        b"CreateCommand" => f::create_command,
        b"GetCommand" => f::get_command,
        b"SetCommandInfo" => f::set_command_info,
        b"CreateDataType" => f::create_data_type,
        b"RegisterNumericConfig" => f::register_number,
        b"RegisterStringConfig" => f::register_text,
        b"LoadConfigs" => f::load_configs,
        b"SubscribeToKeyspaceEvents" => f::subscribe_to_keys,
        b"SubscribeToServerEvent" => f::subscribe_to_server,
        b"RegisterInfoFunc" => f::register_info,
        b"GetContextFlags" => f::context_flags,
        b"GetDetachedThreadSafeContext" => f::detached_context,
        b"FreeThreadSafeContext" => f::free_context,
        b"GetSelectedDb" => f::selected_database,
        b"SelectDb" => f::select_database,
        b"AvoidReplicaTraffic" => f::avoid_replica_traffic,
        b"Milliseconds" => f::milliseconds,
        b"CachedMicroseconds" => f::cached_microseconds,
        b"IsKeysPositionRequest" => f::is_keys_request,
        b"KeyAtPos" => f::key_at,
        b"GetServerInfo" => f::server_info,
        b"ServerInfoGetFieldC" => f::server_info_field,
        b"FreeServerInfo" => f::free_server_info,
        b"GetOpenKeyModesAll" => f::open_modes,
        b"OpenKey" => f::open_key,
        b"CloseKey" => f::close_key,
        b"KeyType" => f::key_type,
        b"ModuleTypeGetType" => f::value_type,
        b"ModuleTypeGetValue" => f::value,
        b"ModuleTypeSetValue" => f::set_value,
        b"UnlinkKey" => f::unlink_key,
        b"GetAbsExpire" => f::expiry,
        b"SetAbsExpire" => f::set_expiry,
        b"SignalModifiedKey" => f::signal_modified,
        b"GetNotifyKeyspaceEvents" => f::notified_classes,
        b"NotifyKeyspaceEvent" => f::notify,
        b"Replicate" => gw_api_replicate,
        b"ReplicateVerbatim" => f::replicate_verbatim,
        b"ReplyWithArray" => f::reply_array,
        b"ReplyWithMap" => f::reply_map,
        b"ReplyWithLongLong" => f::reply_integer,
        b"ReplyWithStringBuffer" => f::reply_string,
        b"ReplyWithNull" => f::reply_null,
        b"ReplyWithSimpleString" => f::reply_simple,
        b"ReplyWithError" => f::reply_error,
        b"BlockClient" => f::block_client,
        b"BlockClientOnKeys" => f::block_on_keys,
        b"SetDisconnectCallback" => f::set_disconnect,
        b"UnblockClient" => f::unblock_client,
        b"SignalKeyAsReady" => f::signal_ready,
        b"GetBlockedClientPrivateData" => f::blocked_data,
        b"GetBlockedClientHandle" => f::blocked_handle,
        b"CreateTimer" => f::create_timer,
        b"StopTimer" => f::stop_timer,
        b"ScanCursorCreate" => f::scan_cursor,
        b"ScanCursorDestroy" => f::free_scan_cursor,
        b"Scan" => f::scan,
        b"Call" => gw_api_call,
        b"FreeCallReply" => f::free_reply,
        b"CallReplyType" => f::reply_type,
        b"CallReplyInteger" => f::reply_integer_value,
        b"CallReplyStringPtr" => f::reply_bytes,
        b"CallReplyArrayElement" => f::reply_element,
        b"SaveUnsigned" => f::save_unsigned,
        b"SaveSigned" => f::save_signed,
        b"SaveStringBuffer" => f::save_bytes,
        b"LoadUnsigned" => f::load_unsigned,
        b"LoadSigned" => f::load_signed,
        b"LoadStringBuffer" => f::load_bytes,
        b"IsIOError" => f::has_failed,
        b"EmitAOF" => gw_api_emit_aof,
        b"DigestAddLongLong" => f::digest_integer,
        b"DigestAddStringBuffer" => f::digest_bytes,
        b"DigestEndSequence" => f::digest_end,
        b"DefragAlloc" => f::defrag_alloc,
        b"DefragShouldStop" => f::defrag_should_stop,
        b"DefragCursorSet" => f::set_defrag_cursor,
        b"DefragCursorGet" => f::defrag_cursor,
        b"Log" => gw_api_log,
    };
    // SAFETY: the module passes a place for the function's address.
    unsafe { *place = function };
    OK
}

unsafe extern "C" {
    fn RedisModule_OnLoad(context: Ctx, argv: *mut Text, argc: c_int) -> c_int;
}

/// Loads the module, as a server does.
pub fn load_module() {
    // The module API finds its functions through the first field of a context.
    CONTEXT.store((get as *const c_void).cast_mut(), std::sync::atomic::Ordering::Relaxed);
    // SAFETY: the context is ours; there are no arguments.
    let status = unsafe { RedisModule_OnLoad(context(), null_mut(), 0) };
    assert_eq!(status, OK, "the module does not load");
    with(|state: &mut State| assert!(!state.commands.is_empty()));
}

pub use functions::{free, new_string};
