//! Commands: how the module declares them, and how they are registered. Arity, flags, key positions and documentation come
//! from one declaration, so that COMMAND DOCS, redis-cli's hints, cluster routing and ACLs agree with the code.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::null_mut;

use gateway_core::integer::parse_int;
use redis_module::raw::{
    self, RedisModuleCommandArg, RedisModuleCommandInfo, RedisModuleCommandInfoVersion, RedisModuleCommandKeySpec,
    RedisModuleCtx,
};

use super::api::api;
use super::args::Str;
use super::call::RawHandler;

/// The module's own ACL category, on servers that let modules have one (Redis 7.4, Valkey 8).
const ACL_CATEGORY: &str = "gw";

/// A command's declaration.
pub struct Command {
    pub name: &'static str,
    pub handler: RawHandler,
    /// The server's command flags, separated by spaces: `write` or `readonly`; `fast` if it takes microseconds whatever the
    /// size of the data; `deny-oom` if it grows memory; `blocking` if it may wait; `admin` if its ACL categories shall be
    /// `admin` and `dangerous`.
    pub flags: &'static str,
    /// The number of arguments, counting the command's name; `-n` means at least n.
    pub arity: i32,
    pub keys: Keys,
    pub summary: &'static str,
    pub complexity: &'static str,
    pub since: &'static str,
    /// The server's command tips for clients and proxies, separated by spaces.
    pub tips: &'static str,
    pub args: &'static [Arg],
}

/// The name of a command that the module also calls by a C string, as it does effects.
pub const fn name(name: &'static CStr) -> &'static str {
    match name.to_str() {
        Ok(name) => name,
        Err(_) => panic!("a command's name is ASCII"),
    }
}

/// A command's keys: which arguments they are, and what it does with them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    None,
    /// Argument 1.
    One(Access),
    /// Argument 1 and all that follow.
    All(Access),
    /// Argument 1 and every second argument after it.
    Pairs(Access),
    /// Argument 1, plus the keys that follow `WITH <count>`; see [`keys_with`].
    With(Access),
    /// Argument 2 is a count; that many keys follow. See [`keys_counted`].
    Counted(Access),
}

/// The places of the keys of a [`Keys::With`].
pub fn keys_with(argv: &[Str]) -> Vec<usize> {
    let is_with = argv.get(2).is_some_and(|word| word.bytes().eq_ignore_ascii_case(b"WITH"));
    let more = if is_with { counted_places(argv, 3) } else { Vec::new() };
    std::iter::once(1).chain(more).collect()
}

/// The places of the keys of a [`Keys::Counted`].
pub fn keys_counted(argv: &[Str]) -> Vec<usize> {
    counted_places(argv, 2)
}

/// The argument at `at` is a count; the places of that many arguments after it. None if there are fewer.
fn counted_places(argv: &[Str], at: usize) -> Vec<usize> {
    let count = argv.get(at).and_then(|number| parse_int(number.bytes())).and_then(|count| usize::try_from(count).ok());
    let end = count.and_then(|count| (at + 1).checked_add(count)).filter(|&end| end <= argv.len());
    end.map_or_else(Vec::new, |end| (at + 1..end).collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Returns part of the value.
    Read,
    /// Changes the value, and returns part of it.
    ReadUpdate,
    /// Adds to the value, and returns no part of it.
    Insert,
    /// Replaces the value, whatever it was.
    Overwrite,
    Delete,
}

impl Access {
    fn flags(self) -> u32 {
        match self {
            Access::Read => raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS,
            Access::ReadUpdate => {
                raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE
            }
            Access::Insert => raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_INSERT,
            Access::Overwrite => raw::REDISMODULE_CMD_KEY_OW | raw::REDISMODULE_CMD_KEY_UPDATE,
            Access::Delete => raw::REDISMODULE_CMD_KEY_RM | raw::REDISMODULE_CMD_KEY_DELETE,
        }
    }
}

/// An argument, as COMMAND DOCS describes it.
#[derive(Clone, Copy)]
pub struct Arg {
    name: &'static str,
    kind: Kind,
    token: Option<&'static str>,
    flags: u32,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A key; the index is that of its key spec.
    Key(c_int),
    Text,
    Integer,
    UnixTime,
    Token,
    OneOf(&'static [Arg]),
    Block(&'static [Arg]),
}

impl Arg {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, token: None, flags: raw::REDISMODULE_CMD_ARG_NONE }
    }

    pub const fn key() -> Self {
        Self::new("key", Kind::Key(0))
    }

    /// The key that is argument 1, under another name.
    pub const fn key_as(name: &'static str) -> Self {
        Self::new(name, Kind::Key(0))
    }

    /// The keys that follow the count of a [`Keys::With`].
    pub const fn more_keys(name: &'static str) -> Self {
        Self::new(name, Kind::Key(1)).multiple()
    }

    pub const fn text(name: &'static str) -> Self {
        Self::new(name, Kind::Text)
    }

    pub const fn integer(name: &'static str) -> Self {
        Self::new(name, Kind::Integer)
    }

    pub const fn unix_time(name: &'static str) -> Self {
        Self::new(name, Kind::UnixTime)
    }

    /// A word that stands for itself.
    pub const fn word(name: &'static str, word: &'static str) -> Self {
        Self::new(name, Kind::Token).after(word)
    }

    pub const fn one_of(name: &'static str, choices: &'static [Arg]) -> Self {
        Self::new(name, Kind::OneOf(choices))
    }

    pub const fn block(name: &'static str, parts: &'static [Arg]) -> Self {
        Self::new(name, Kind::Block(parts))
    }

    /// Preceded by a keyword.
    pub const fn after(self, token: &'static str) -> Self {
        Self { token: Some(token), ..self }
    }

    pub const fn optional(self) -> Self {
        Self { flags: self.flags | raw::REDISMODULE_CMD_ARG_OPTIONAL, ..self }
    }

    /// May be given several times, each time with its keyword.
    pub const fn repeated(self) -> Self {
        Self { flags: self.flags | raw::REDISMODULE_CMD_ARG_MULTIPLE_TOKEN, ..self }.multiple()
    }

    pub const fn multiple(self) -> Self {
        Self { flags: self.flags | raw::REDISMODULE_CMD_ARG_MULTIPLE, ..self }
    }
}

/// Keeps what a declaration points to alive while the server copies it.
#[derive(Default)]
struct Arena {
    strings: Vec<CString>,
    lists: Vec<Vec<RedisModuleCommandArg>>,
}

impl Arena {
    fn string(&mut self, text: &str) -> *const c_char {
        self.strings.push(CString::new(text).unwrap_or_default());
        self.strings.last().map_or(std::ptr::null(), |string| string.as_ptr())
    }

    /// The arguments as the server's array, which ends in an argument without a name.
    fn list(&mut self, args: &[Arg]) -> *mut RedisModuleCommandArg {
        let mut list: Vec<_> = args.iter().map(|arg| self.arg(arg)).collect();
        list.push(EMPTY_ARG);
        self.lists.push(list);
        self.lists.last_mut().map_or(null_mut(), |list| list.as_mut_ptr())
    }

    fn arg(&mut self, arg: &Arg) -> RedisModuleCommandArg {
        let (kind, subargs) = match arg.kind {
            Kind::Key(_) => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY, null_mut()),
            Kind::Text => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING, null_mut()),
            Kind::Integer => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER, null_mut()),
            Kind::UnixTime => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_UNIX_TIME, null_mut()),
            Kind::Token => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN, null_mut()),
            Kind::OneOf(args) => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF, self.list(args)),
            Kind::Block(args) => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK, self.list(args)),
        };
        RedisModuleCommandArg {
            name: self.string(arg.name),
            type_: kind,
            key_spec_index: if let Kind::Key(spec) = arg.kind { spec } else { -1 },
            token: arg.token.map_or(std::ptr::null(), |token| self.string(token)),
            flags: arg.flags as c_int,
            subargs,
            ..EMPTY_ARG
        }
    }
}

const EMPTY_ARG: RedisModuleCommandArg = RedisModuleCommandArg {
    name: std::ptr::null(),
    type_: raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING,
    key_spec_index: -1,
    token: std::ptr::null(),
    summary: std::ptr::null(),
    since: std::ptr::null(),
    flags: 0,
    deprecated_since: std::ptr::null(),
    subargs: null_mut(),
    display_text: std::ptr::null(),
};

/// The layout of the structures above that this module was built with. The header's own constant is visible to C only.
static INFO_VERSION: RedisModuleCommandInfoVersion = RedisModuleCommandInfoVersion {
    version: 1,
    sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
    sizeof_keyspec: size_of::<RedisModuleCommandKeySpec>(),
    sizeof_arg: size_of::<RedisModuleCommandArg>(),
};

impl Command {
    /// # Safety
    /// Only while the module loads, with its context.
    pub(super) unsafe fn register(&self, ctx: *mut RedisModuleCtx) -> Result<(), &'static str> {
        const OK: c_int = raw::REDISMODULE_OK as c_int;
        let mut arena = Arena::default();
        // In lower case, as the server shows its own in INFO commandstats, ACL LIST and error texts.
        let asks_for_keys = if let Keys::With(_) | Keys::Counted(_) = self.keys { " getkeys-api" } else { "" };
        let name = arena.string(&self.name.to_ascii_lowercase());
        let flags = arena.string(&format!("{}{asks_for_keys}", self.flags));
        let (first, last, step) = match self.keys {
            Keys::None | Keys::Counted(_) => (0, 0, 0),
            Keys::One(_) | Keys::With(_) => (1, 1, 1),
            Keys::All(_) => (1, -1, 1),
            Keys::Pairs(_) => (1, -1, 2),
        };
        // SAFETY: the context is that of the load. The arena keeps the texts alive through the call, which copies them.
        let created =
            unsafe { api!(RedisModule_CreateCommand(ctx, name, Some(self.handler), flags, first, last, step)) };
        if created != OK {
            return Err("the server refuses the command; is another module with this name loaded?");
        }
        // SAFETY: as above.
        let command = unsafe { api!(RedisModule_GetCommand(ctx, name)) };
        let mut key_specs = self.key_specs();
        let info = RedisModuleCommandInfo {
            version: &INFO_VERSION,
            summary: arena.string(self.summary),
            complexity: arena.string(self.complexity),
            since: arena.string(self.since),
            history: null_mut(),
            tips: arena.string(self.tips),
            arity: self.arity,
            key_specs: key_specs.as_mut_ptr(),
            args: arena.list(self.args),
        };
        // SAFETY: the command was just made. Texts and lists live through the call, which copies them; the lists end in an
        // empty element each, and the version says how large their elements are.
        if unsafe { api!(RedisModule_SetCommandInfo(command, &info)) } != OK {
            return Err("the server refuses the command's description");
        }
        // SAFETY: the pointer is written once, at load.
        if let Some(set_categories) = unsafe { raw::RedisModule_SetCommandACLCategories } {
            // SAFETY: as above.
            if unsafe { set_categories(command, arena.string(&self.acl_categories())) } != OK {
                return Err("the server refuses the command's ACL category");
            }
        }
        Ok(())
    }

    /// The ACL categories, which the server does not derive from the flags of a module's command. Public commands are in the
    /// module's own category and in the usual ones, internal commands in those that are rarely granted.
    fn acl_categories(&self) -> String {
        let has = |flag| self.flags.split(' ').any(|given| given == flag);
        if has("admin") {
            return "admin dangerous".to_owned();
        }
        let access = if has("write") { "write" } else { "read" };
        let speed = if has("fast") { "fast" } else { "slow" };
        format!("{ACL_CATEGORY} {access} {speed}")
    }

    /// The server's array of key specs, which ends in an empty one.
    fn key_specs(&self) -> Vec<RedisModuleCommandKeySpec> {
        // SAFETY: all fields are integers, pointers and unions of integers; zero is the documented empty entry.
        let empty: RedisModuleCommandKeySpec = unsafe { std::mem::zeroed() };
        let range = |access: Access, last_key, step| {
            let mut spec = at_argument(empty, access, 1);
            spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
            spec.fk.range.lastkey = last_key;
            spec.fk.range.keystep = step;
            spec
        };
        match self.keys {
            Keys::None => vec![empty],
            Keys::One(access) => vec![range(access, 0, 1), empty],
            Keys::All(access) => vec![range(access, -1, 1), empty],
            Keys::Pairs(access) => vec![range(access, -1, 2), empty],
            Keys::With(access) => {
                let mut more = counted(at_argument(empty, access, 1));
                more.begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_KEYWORD;
                more.bs.keyword.keyword = c"WITH".as_ptr();
                more.bs.keyword.startfrom = 2;
                vec![range(access, 0, 1), more, empty]
            }
            Keys::Counted(access) => vec![counted(at_argument(empty, access, 2)), empty],
        }
    }
}

/// A key spec that begins at an argument.
fn at_argument(empty: RedisModuleCommandKeySpec, access: Access, argument: c_int) -> RedisModuleCommandKeySpec {
    let mut spec = empty;
    spec.flags = u64::from(access.flags());
    spec.begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
    spec.bs.index.pos = argument;
    spec
}

/// A key spec of a count and that many keys after it.
fn counted(mut spec: RedisModuleCommandKeySpec) -> RedisModuleCommandKeySpec {
    spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_KEYNUM;
    spec.fk.keynum.keynumidx = 0;
    spec.fk.keynum.firstkey = 1;
    spec.fk.keynum.keystep = 1;
    spec
}

/// Makes the module's ACL category known. Servers without such categories grant commands by name.
///
/// # Safety
/// Only while the module loads, with its context.
pub(super) unsafe fn register_acl_category(ctx: *mut RedisModuleCtx) -> bool {
    // SAFETY: the pointer is written once, at load.
    match (unsafe { raw::RedisModule_AddACLCategory }, CString::new(ACL_CATEGORY)) {
        // SAFETY: the context is that of the load, as the caller promises; the server copies the name.
        (Some(add), Ok(name)) => unsafe { add(ctx, name.as_ptr()) == raw::REDISMODULE_OK as c_int },
        _ => true,
    }
}
