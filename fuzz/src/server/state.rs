//! What a server holds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int, c_longlong, c_void};
use std::sync::atomic::AtomicPtr;

use redis_module::raw::*;

use crate::fields::{Fields, Written};

pub type Argv = Vec<Vec<u8>>;

type Handler = unsafe extern "C" fn(*mut RedisModuleCtx, *mut *mut RedisModuleString, c_int) -> c_int;

pub struct Command {
    /// In lower case.
    pub name: Vec<u8>,
    pub handler: Handler,
    /// As the server's: the number of arguments with the name, or at least that many if it is negative.
    pub arity: c_int,
}

/// A data type of the module's.
pub struct Kind {
    pub name: String,
    pub encoding: c_int,
    pub methods: RedisModuleTypeMethods,
}

/// A key's value.
pub struct Slot {
    /// `None`: a string, which is of no type of the module's.
    pub kind: Option<&'static Kind>,
    pub value: *mut c_void,
    pub expires_at_ms: Option<i64>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(free) = self.kind.and_then(|kind| kind.methods.free) {
            // SAFETY: the value is of this type, and nobody else has it.
            unsafe { free(self.value) };
        }
    }
}

/// An open key.
pub struct Key {
    pub name: Vec<u8>,
    pub changes: bool,
}

/// A reply while it is written.
#[derive(Default)]
pub struct Reply {
    /// How many parts each open list still needs.
    open: Vec<u64>,
    complete: u32,
    /// The error, if the reply is one.
    pub error: Option<String>,
}

impl Reply {
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.complete == 0
    }

    /// A part with this many parts of its own.
    pub fn add(&mut self, children: u64) {
        assert!(self.complete == 0, "a second reply");
        if children > 0 {
            self.open.push(children);
            return;
        }
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
        self.complete += 1;
    }

    pub fn is_complete(&self) -> bool {
        self.complete == 1
    }
}

/// A client that waits.
#[derive(Default)]
pub struct Blocked {
    pub argv: Argv,
    pub on_reply: Option<Handler>,
    pub on_timeout: Option<Handler>,
    pub free_data: Option<unsafe extern "C" fn(*mut RedisModuleCtx, *mut c_void)>,
    /// Empty if it waits to be called back.
    pub keys: Vec<Vec<u8>>,
    /// It has a reply, and only its handle is left.
    pub has_ended: bool,
}

/// What is to be done after the current command.
pub enum Woken {
    /// Clients that wait for this key try again.
    Key(Vec<u8>),
    /// A client is called back.
    Client { client: *mut Blocked, data: *mut c_void },
}

pub struct Timer {
    pub ring: unsafe extern "C" fn(*mut RedisModuleCtx, *mut c_void),
    pub data: *mut c_void,
}

pub enum Setting {
    Number { name: CString, default: c_longlong, set: RedisModuleConfigSetNumericFunc, data: *mut c_void },
    Text { name: CString, default: Vec<u8>, set: RedisModuleConfigSetStringFunc, data: *mut c_void },
}

/// A reply of one of the server's own commands.
pub enum Answer {
    Bytes(Vec<u8>),
    List(Vec<Answer>),
}

/// An RDB stream, a digest, or an AOF that is being rewritten.
pub struct Stream<'a> {
    pub read: Fields<'a>,
    pub has_failed: bool,
    pub written: Written,
    pub emitted: Vec<Argv>,
}

impl<'a> Stream<'a> {
    pub fn reading(bytes: &'a [u8]) -> Self {
        Self { read: Fields::new(bytes), has_failed: false, written: Written::default(), emitted: Vec::new() }
    }
}

/// The handle of a timer or another thing that the server numbers.
pub type Number = u64;

pub type KeyListener = unsafe extern "C" fn(*mut RedisModuleCtx, c_int, *const c_char, *mut RedisModuleString) -> c_int;

pub struct State {
    pub now_ms: i64,
    pub keys: BTreeMap<Vec<u8>, Slot>,
    pub open_keys: u64,
    pub commands: Vec<Command>,
    pub kinds: Vec<&'static Kind>,
    pub settings: Vec<Setting>,
    pub key_listener: Option<(c_int, KeyListener)>,
    pub is_notifying: bool,
    pub flush_listener: RedisModuleEventCallback,
    /// The command that runs, its reply, and whether its client waits.
    pub argv: Argv,
    pub reply: Reply,
    pub has_blocked: bool,
    /// What replicas and the AOF got, each with its time.
    pub replicated: Vec<(i64, Argv)>,
    pub blocked: Vec<*mut Blocked>,
    pub blocked_data: *mut c_void,
    pub blocked_handle: *mut Blocked,
    pub woken: Vec<Woken>,
    pub timers: BTreeMap<(i64, Number), Timer>,
    pub last_timer: Number,
}

impl State {
    const fn new() -> Self {
        Self {
            now_ms: 0,
            keys: BTreeMap::new(),
            open_keys: 0,
            commands: Vec::new(),
            kinds: Vec::new(),
            settings: Vec::new(),
            key_listener: None,
            is_notifying: false,
            flush_listener: None,
            argv: Vec::new(),
            reply: Reply { open: Vec::new(), complete: 0, error: None },
            has_blocked: false,
            replicated: Vec::new(),
            blocked: Vec::new(),
            blocked_data: std::ptr::null_mut(),
            blocked_handle: std::ptr::null_mut(),
            woken: Vec::new(),
            timers: BTreeMap::new(),
            last_timer: 0,
        }
    }

    pub fn replicate(&mut self, argv: Argv) {
        self.replicated.push((self.now_ms, argv));
    }
}

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State::new()) };
}

/// Uses the state. The module is not called meanwhile: it would use it, too.
pub fn with<T>(body: impl FnOnce(&mut State) -> T) -> T {
    STATE.with(|state| body(&mut state.borrow_mut()))
}

pub static CONTEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// The one context: what it leads to is all in [`State`].
pub fn context() -> *mut RedisModuleCtx {
    CONTEXT.as_ptr().cast()
}
