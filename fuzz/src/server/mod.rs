//! A server in a few hundred lines: it offers the module API, loads the module as a server does, and runs its commands in
//! this process, hundreds of thousands a second. It has one database, a clock that it is told, no network and no files.
//!
//! It also watches: a command replies once, and an error is one line of printable ASCII; a key that was opened to be read
//! is not changed; every key is closed; a caught panic ends the process.

mod api;
mod state;

use std::collections::BTreeMap;
use std::ffi::{CStr, c_int, c_ulong, c_void};

use redis_module::raw::{self, RedisModuleEvent, RedisModuleFlushInfo};

pub use self::state::{Argv, Kind, Slot};
use self::state::{Blocked, Stream, Woken, context, with};

/// The clock at the start of each input: that of the golden files, whose times the seeds have.
pub const START_MS: i64 = 1_796_014_500_000;

/// The most timers that ring, or clients that are woken, one after the other. More mean that it never ends.
const ROUNDS_MAX: usize = 20_000;

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Replied,
    Error(String),
    /// Its client waits.
    Waits,
    /// The server refuses it before the module sees it: there is no such command, or it has too few or too many arguments.
    Refused,
}

/// What `DEBUG DIGEST-VALUE` and PEXPIRETIME tell of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: String,
    pub digest: Vec<u8>,
    pub expires_at_ms: Option<i64>,
}

pub type Snapshot = BTreeMap<Vec<u8>, Seen>;

/// Loads the module if it is not yet loaded. A target leaves the server empty, with [`flush`].
pub fn start() {
    if with(|state| state.commands.is_empty()) {
        with(|state| state.now_ms = START_MS);
        api::load_module();
        flush();
    }
}

/// The names of the module's commands that are meant, in lower case.
pub fn commands(is_meant: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    with(|state| state.commands.iter().map(|command| &command.name).filter(|name| is_meant(name)).cloned().collect())
}

pub fn now_ms() -> i64 {
    with(|state| state.now_ms)
}

/// Sets the clock without letting anything happen.
pub fn set_clock(now_ms: i64) {
    with(|state| state.now_ms = now_ms);
}

type Handler = unsafe extern "C" fn(*mut raw::RedisModuleCtx, *mut *mut raw::RedisModuleString, c_int) -> c_int;

/// Runs one of the module's functions with arguments.
fn run(handler: Handler, argv: &Argv) -> c_int {
    with(|state| {
        state.argv.clone_from(argv);
        state.reply = Default::default();
        state.has_blocked = false;
    });
    let mut strings: Vec<_> = argv.iter().map(|argument| api::new_string(argument)).collect();
    // SAFETY: the strings live through the call; the module leaves them to their owner.
    let status = unsafe { handler(context(), strings.as_mut_ptr(), strings.len() as c_int) };
    // SAFETY: as above.
    strings.into_iter().for_each(|string| unsafe { api::free(string) });
    with(|state| assert_eq!(state.open_keys, 0, "a key is left open"));
    status
}

/// Runs a command of the module's. What it wakes waits for [`settle`].
pub fn call(argv: &Argv) -> Outcome {
    let Some((name, _)) = argv.split_first() else { return Outcome::Refused };
    let name = name.to_ascii_lowercase();
    let found = with(|state| {
        let command = state.commands.iter().find(|command| command.name == name)?;
        let count = argv.len() as c_int;
        let fits = if command.arity < 0 { count >= -command.arity } else { count == command.arity };
        fits.then_some(command.handler)
    });
    let Some(handler) = found else { return Outcome::Refused };
    run(handler, argv);
    with(|state| {
        if state.has_blocked {
            assert!(state.reply.is_empty(), "a client that waits has a reply");
            return Outcome::Waits;
        }
        assert!(state.reply.is_complete(), "no reply, or a part of one, to {}", String::from_utf8_lossy(&name));
        state.reply.error.take().map_or(Outcome::Replied, Outcome::Error)
    })
}

/// Does what the last command has left: clients that wait try again, or are called back.
pub fn settle() {
    for _ in 0..ROUNDS_MAX {
        let woken = with(|state| std::mem::take(&mut state.woken));
        if woken.is_empty() {
            return;
        }
        for woken in woken {
            match woken {
                Woken::Key(name) => try_again(&name),
                Woken::Client { client, data } => call_back(client, data),
            }
        }
    }
    panic!("clients wake each other for ever");
}

fn try_again(name: &[u8]) {
    let waiting: Vec<*mut Blocked> = with(|state| state.blocked.clone());
    for client in waiting {
        if !with(|state| state.keys.contains_key(name) && state.blocked.contains(&client)) {
            continue;
        }
        // SAFETY: the client is one of those that wait.
        let (argv, on_reply, waits) =
            unsafe { ((*client).argv.clone(), (*client).on_reply, (*client).keys.iter().any(|key| key == name)) };
        if let (true, Some(on_reply)) = (waits, on_reply) {
            let is_served = run(on_reply, &argv) == raw::REDISMODULE_OK as c_int;
            with(|state| assert!(if is_served { state.reply.is_complete() } else { state.reply.is_empty() }));
            if is_served {
                remove(client);
            }
        }
    }
}

fn remove(client: *mut Blocked) {
    with(|state| state.blocked.retain(|other| *other != client));
    // SAFETY: clients are boxes, and this one is in no list any more.
    drop(unsafe { Box::from_raw(client) });
}

fn call_back(client: *mut Blocked, data: *mut c_void) {
    // SAFETY: the client was taken off the list when it was given back, and is freed here alone.
    let client = unsafe { Box::from_raw(client) };
    if let (false, Some(on_reply)) = (client.has_ended, client.on_reply) {
        with(|state| state.blocked_data = data);
        run(on_reply, &client.argv);
        with(|state| assert!(state.reply.is_complete(), "a client that was called back has no reply"));
    }
    if let (Some(free), false) = (client.free_data, data.is_null()) {
        // SAFETY: the data was passed with this client.
        unsafe { free(context(), data) };
    }
}

/// Ends the wait of all clients, as if their time were up.
pub fn time_out() {
    while let Some(client) = with(|state| state.blocked.last().copied()) {
        // SAFETY: the client is one of those that wait.
        let (argv, on_timeout, is_parked) = unsafe {
            (*client).has_ended = true;
            ((*client).argv.clone(), (*client).on_timeout, (*client).keys.is_empty())
        };
        with(|state| state.blocked_handle = client);
        if let Some(on_timeout) = on_timeout {
            run(on_timeout, &argv);
            with(|state| assert!(state.reply.is_complete(), "a client whose time is up has no reply"));
        }
        match is_parked {
            true => assert!(with(|state| !state.blocked.contains(&client)), "a client is not given back"),
            false => remove(client),
        }
    }
    settle();
}

/// Rings the timers that are due by then, one after the other, with the clock as they ring, and expires keys.
pub fn go_to(now_ms: i64) {
    for _ in 0..ROUNDS_MAX {
        let due = with(|state| {
            let place = *state.timers.first_key_value()?.0;
            (place.0 <= now_ms).then(|| (place.0, state.timers.remove(&place)))
        });
        let Some((due_ms, Some(timer))) = due else { break };
        set_clock(due_ms.max(self::now_ms()).min(now_ms.max(self::now_ms())));
        expire_due();
        // SAFETY: the timer rings once, with its own data.
        unsafe { (timer.ring)(context(), timer.data) };
        settle();
    }
    set_clock(now_ms);
    expire_due();
    settle();
}

/// Deletes the keys whose time has come, as the server's own cycle does.
pub fn expire_due() {
    let due: Vec<Vec<u8>> = with(|state| {
        let is_due = |slot: &Slot| slot.expires_at_ms.is_some_and(|at_ms| at_ms <= state.now_ms);
        state.keys.iter().filter(|(_, slot)| is_due(slot)).map(|(name, _)| name.clone()).collect()
    });
    for name in due {
        with(|state| state.replicate(vec![b"DEL".to_vec(), name.clone()]));
        delete(&name, raw::REDISMODULE_NOTIFY_EXPIRED, c"expired");
    }
}

fn delete(name: &[u8], class: c_int, event: &CStr) {
    let slot = with(|state| state.keys.remove(name));
    if slot.is_some() {
        drop(slot);
        notify(name, class, event);
    }
}

fn notify(name: &[u8], class: c_int, event: &CStr) {
    let listener = with(|state| state.key_listener.filter(|(classes, _)| classes & class != 0));
    if let Some((_, listener)) = listener {
        let key = api::new_string(name);
        // SAFETY: the key's name and the event's live through the call.
        unsafe {
            listener(context(), class, event.as_ptr(), key);
            api::free(key);
        }
    }
}

/// The server's own commands, as far as there are any. Returns false if it has no such command.
pub fn call_own(argv: &Argv) -> bool {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<i64>().ok();
    match argv.iter().map(Vec::as_slice).collect::<Vec<_>>().as_slice() {
        [b"DEL" | b"UNLINK", names @ ..] => {
            names.iter().for_each(|name| delete(name, raw::REDISMODULE_NOTIFY_GENERIC, c"del"));
        }
        // A string: every command finds the wrong type.
        [b"SET", name, ..] => {
            delete(name, raw::REDISMODULE_NOTIFY_GENERIC, c"del");
            let slot = Slot { kind: None, value: std::ptr::null_mut(), expires_at_ms: None };
            with(|state| state.keys.insert(name.to_vec(), slot));
        }
        [b"PEXPIREAT", name, at_ms] => {
            let at_ms = number(at_ms).filter(|at_ms| *at_ms >= 0);
            let is_there = with(|state| match (state.keys.get_mut(*name), at_ms) {
                (Some(slot), Some(at_ms)) => {
                    slot.expires_at_ms = Some(at_ms);
                    true
                }
                _ => false,
            });
            if is_there {
                notify(name, raw::REDISMODULE_NOTIFY_GENERIC, c"expire");
            }
        }
        [b"PERSIST", name] => {
            with(|state| state.keys.get_mut(*name).map(|slot| slot.expires_at_ms = None));
        }
        _ => return false,
    }
    true
}

/// Notes a command of the server's own as replicated.
pub fn replicate(argv: Argv) {
    with(|state| state.replicate(argv));
}

/// What was replicated from the command of this number on, each with its time.
pub fn replicated_from(first: usize) -> Vec<(i64, Argv)> {
    with(|state| state.replicated[first..].to_vec())
}

pub fn replicated_count() -> usize {
    with(|state| state.replicated.len())
}

/// Deletes all keys at once, without a notice to anybody.
pub fn clear() {
    drop(with(|state| std::mem::take(&mut state.keys)));
}

/// Empties the server, as FLUSHALL does, and sets the clock back. Timers ring, and clients that wait are told that their time is up.
pub fn flush() {
    if let Some(listener) = with(|state| state.flush_listener) {
        let event = RedisModuleEvent { id: raw::REDISMODULE_EVENT_FLUSHDB, dataver: 1 };
        let mut info = RedisModuleFlushInfo { version: 1, sync: 1, dbnum: -1 };
        let data: *mut RedisModuleFlushInfo = &mut info;
        // SAFETY: the data is that of the event.
        unsafe { listener(context(), event, raw::REDISMODULE_SUBEVENT_FLUSHDB_START, data.cast()) };
    }
    clear();
    time_out();
    for _ in 0..ROUNDS_MAX {
        let Some((_, timer)) = with(|state| state.timers.pop_first()) else { break };
        // SAFETY: the timer rings once, with its own data.
        unsafe { (timer.ring)(context(), timer.data) };
        settle();
    }
    with(|state| {
        assert!(state.timers.is_empty(), "timers that set each other for ever");
        assert!(state.blocked.is_empty() && state.keys.is_empty());
        state.replicated.clear();
        state.now_ms = START_MS;
    });
}

/// What all keys hold.
pub fn snapshot() -> Snapshot {
    let keys: Vec<_> = with(|state| {
        let seen = |(name, slot): (&Vec<u8>, &Slot)| (name.clone(), slot.kind, slot.value, slot.expires_at_ms);
        state.keys.iter().map(seen).collect()
    });
    let seen = |(name, kind, value, expires_at_ms): (Vec<u8>, Option<&Kind>, *mut c_void, _)| {
        let digest = kind.map_or_else(Vec::new, |kind| digest(kind, value));
        let kind = kind.map_or_else(String::new, |kind| kind.name.clone());
        (name, Seen { kind, digest, expires_at_ms })
    };
    keys.into_iter().map(seen).collect()
}

fn digest(kind: &Kind, value: *mut c_void) -> Vec<u8> {
    let mut stream = Stream::reading(b"");
    let at: *mut Stream = &mut stream;
    // SAFETY: the value is of this type.
    unsafe { kind.methods.digest.expect("types have digests")(at.cast(), value) };
    stream.written.0
}

/// The module's types, by name.
pub fn kinds() -> Vec<&'static Kind> {
    with(|state| state.kinds.clone())
}

/// Loads a value, as RESTORE does. `None` if the module refuses it.
pub fn load(kind: &'static Kind, bytes: &[u8]) -> Option<Slot> {
    let mut stream = Stream::reading(bytes);
    let at: *mut Stream = &mut stream;
    // SAFETY: the stream lives through the call.
    let value = unsafe { kind.methods.rdb_load.expect("types load")(at.cast(), kind.encoding) };
    (!value.is_null()).then(|| Slot { kind: Some(kind), value, expires_at_ms: None })
}

/// Stores a value under a name.
pub fn put(name: &[u8], slot: Slot) {
    drop(with(|state| state.keys.insert(name.to_vec(), slot)));
}

/// Saves the value of a key, as DUMP does. `None` if it is a string.
pub fn save(name: &[u8]) -> Option<(&'static Kind, Vec<u8>)> {
    let (kind, value) = with(|state| state.keys.get(name).and_then(|slot| Some((slot.kind?, slot.value))))?;
    let mut stream = Stream::reading(b"");
    let at: *mut Stream = &mut stream;
    // SAFETY: the value is of this type.
    unsafe { kind.methods.rdb_save.expect("types are saved")(at.cast(), value) };
    Some((kind, stream.written.0))
}

/// Checks that a key's value is the same saved and loaded, copied, and moved by defragmentation, and returns the commands
/// that a rewritten AOF has for it.
pub fn check_value(name: &[u8]) -> Vec<Argv> {
    let Some((kind, bytes)) = save(name) else { return vec![vec![b"SET".to_vec(), name.to_vec(), Vec::new()]] };
    let value = with(|state| state.keys.get(name).map(|slot| slot.value)).expect("the key is there");
    let same = digest(kind, value);

    let again = load(kind, &bytes).expect("what was saved does not load");
    assert!(digest(kind, again.value) == same, "what was saved loads as another {}", kind.name);
    drop(again);

    let methods = &kind.methods;
    let (key, mut cursor) = (api::new_string(name), 0 as c_ulong);
    // SAFETY: the value is of this type and the key's, and the key's name lives until it is freed below.
    unsafe {
        let copy = methods.copy.expect("types are copied")(key, key, value);
        assert!(!copy.is_null(), "a {} cannot be copied", kind.name);
        let copy = Slot { kind: Some(kind), value: copy, expires_at_ms: None };
        assert!(digest(kind, copy.value) == same, "a copy is another {}", kind.name);
        drop(copy);
        let bytes = methods.mem_usage2.expect("types tell their size")(std::ptr::null_mut(), value, 5);
        assert!(bytes > 0 && bytes < 1 << 32, "a {} of {bytes} bytes", kind.name);
        methods.free_effort.expect("types tell their effort")(key, value);

        let mut moved = value;
        let at: *mut c_ulong = &mut cursor;
        let mut rounds = 0;
        while methods.defrag.expect("types are moved")(at.cast(), key, &mut moved) != 0 {
            with(|state| state.keys.get_mut(name).map(|slot| slot.value = moved));
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "defragmentation does not end");
        }
        with(|state| state.keys.get_mut(name).map(|slot| slot.value = moved));
        assert!(digest(kind, moved) == same, "a {} that was moved is another one", kind.name);

        let mut stream = Stream::reading(b"");
        let at: *mut Stream = &mut stream;
        methods.aof_rewrite.expect("types are rewritten")(at.cast(), key, moved);
        api::free(key);
        stream.emitted
    }
}
