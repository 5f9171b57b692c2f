//! Typed keys.

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

use redis_module::raw::{self, RedisModuleKey, RedisModuleType};

use super::api::api;
use super::args::{Key, Short};
use super::call::Call;
use super::error::Error;
use super::value::Value;

/// Owns an open key of the server's, which lives until this is dropped and closes it.
pub(super) struct RawKey(NonNull<RedisModuleKey>);

/// Opens a key for reading and writing: it then exists, empty if it did not.
const CHANGE_MODE: c_int = (raw::REDISMODULE_READ | raw::REDISMODULE_WRITE) as c_int;

#[cfg(target_arch = "x86_64")]
const CACHE_LINE_BYTES: usize = 64;

impl RawKey {
    /// `None` if a key opened for reading does not exist.
    pub(super) fn open(call: &Call, key: Key, mode: c_int) -> Option<Self> {
        // SAFETY: the context is the one of the call, and the name lives through it.
        NonNull::new(unsafe { api!(RedisModule_OpenKey(call.ctx, key.raw, mode)) }.cast()).map(Self)
    }

    pub(super) fn open_to_change(call: &Call, key: Key) -> Result<Self, Error> {
        // The server always returns a key that is opened for writing. If it ever does not, nothing is changed.
        Self::open(call, key, CHANGE_MODE).ok_or(Error::coded("ERR internal error: the key cannot be opened"))
    }

    fn expires_at_ms(&self) -> Option<i64> {
        // SAFETY: the key is open.
        let at_ms = unsafe { api!(RedisModule_GetAbsExpire(self.0.as_ptr())) };
        (at_ms != i64::from(raw::REDISMODULE_NO_EXPIRE)).then_some(at_ms)
    }

    fn is_empty(&self) -> bool {
        // SAFETY: the key is open.
        unsafe { api!(RedisModule_KeyType(self.0.as_ptr())) == raw::REDISMODULE_KEYTYPE_EMPTY as c_int }
    }

    /// The module type of the value; null if there is no value or it is of one of the server's own types.
    pub(super) fn module_type(&self) -> *mut RedisModuleType {
        // SAFETY: the key is open.
        unsafe { api!(RedisModule_ModuleTypeGetType(self.0.as_ptr())) }
    }

    /// The value, of any module type.
    pub(super) fn module_value(&self) -> *mut c_void {
        // SAFETY: the key is open.
        unsafe { api!(RedisModule_ModuleTypeGetValue(self.0.as_ptr())) }
    }

    /// Puts a value into a key that is open for writing, in place of whatever it holds.
    ///
    /// # Safety
    /// `value` is a box of the type's own, and from now on the server's.
    pub(super) unsafe fn set_module_value(&self, value_type: *mut RedisModuleType, value: *mut c_void) {
        // SAFETY: the key is open; the server takes the box, and passes it to the free callback one day.
        unsafe { api!(RedisModule_ModuleTypeSetValue(self.0.as_ptr(), value_type, value)) };
    }

    fn value<T: Value>(&self) -> Result<Option<NonNull<T>>, Error> {
        let found = self.module_type();
        if !found.is_null() && found == T::registration().raw() {
            // A value of our type is a box of it: see the callbacks of `Value`.
            return Ok(NonNull::new(self.module_value().cast::<T>()));
        }
        if self.is_empty() { Ok(None) } else { Err(Error::WRONG_TYPE) }
    }

    fn either<A: Value, B: Value>(&self) -> Result<ValueEither<A, B>, Error> {
        match self.value::<A>() {
            Ok(value) => Ok(Either::One(value)),
            Err(_) => self.value::<B>().map(Either::Other),
        }
    }
}

/// A key that a scan has come to. The scan owns it.
pub struct Glimpse<'a> {
    raw: ManuallyDrop<RawKey>,
    scan: PhantomData<&'a ()>,
}

impl Glimpse<'_> {
    /// # Safety
    /// The key is open for as long as this is used, and closed by its owner.
    pub(super) unsafe fn new(raw: NonNull<RedisModuleKey>) -> Self {
        Self { raw: ManuallyDrop::new(RawKey(raw)), scan: PhantomData }
    }

    /// The value, if it is a `T`.
    pub fn value<T: Value>(&self) -> Option<&T> {
        // SAFETY: a scan's callback may not change keys, so nothing changes the value as long as this is borrowed.
        self.raw.value::<T>().ok().flatten().map(|value| unsafe { value.as_ref() })
    }
}

impl Drop for RawKey {
    fn drop(&mut self) {
        // SAFETY: the key is open, and nobody uses it afterwards.
        unsafe { api!(RedisModule_CloseKey(self.0.as_ptr())) };
    }
}

/// Asks for the cache lines of a value without waiting for them. Of many keys, most of one lies in no cache.
fn prefetch<T>(value: NonNull<T>) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of::<T>()).step_by(CACHE_LINE_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; the address is inside the value.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(value.as_ptr().cast::<i8>().add(offset)) };
    }
    // Elsewhere the first read waits; stable Rust has no such hint for other processors.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

static QUIET_READ_MODE: AtomicI32 = AtomicI32::new(raw::REDISMODULE_READ as c_int);

pub(super) fn quiet_read_mode() -> c_int {
    QUIET_READ_MODE.load(Ordering::Relaxed)
}

/// Opens a key without a trace: it counts neither as used nor as a hit or miss.
fn traceless_mode() -> c_int {
    let quiet = quiet_read_mode();
    // A server without the quiet mode counts hits and misses of keys that are opened for reading alone.
    let mode = if quiet == raw::REDISMODULE_READ as c_int { CHANGE_MODE } else { quiet };
    mode | raw::REDISMODULE_OPEN_KEY_NOTOUCH as c_int
}

/// Finds out, once, at load, whether this server can open a key without counting a hit or miss (Redis 7.2 and later can).
pub(super) fn learn_open_modes() {
    // SAFETY: takes no arguments; the pointer is written once, at load.
    let known = unsafe { raw::RedisModule_GetOpenKeyModesAll.map_or(0, |all| all()) };
    let quiet = (raw::REDISMODULE_READ | raw::REDISMODULE_OPEN_KEY_NOSTATS) as c_int;
    if known & quiet == quiet {
        QUIET_READ_MODE.store(quiet, Ordering::Relaxed);
    }
}

/// A key that may be changed, holding a `T` or nothing.
///
/// Opening changes nothing and touches no WATCH: the module runs with NO_IMPLICIT_SIGNAL_MODIFIED, and
/// [`Call::replicate`] signals.
pub struct Opened<'a, T> {
    raw: RawKey,
    value: Option<NonNull<T>>,
    call: PhantomData<&'a ()>,
}

/// One of two types that a key may hold.
pub enum Either<A, B> {
    One(A),
    Other(B),
}

pub type OpenedEither<'a, A, B> = Either<Opened<'a, A>, Opened<'a, B>>;
pub type FoundEither<'a, A, B> = Either<Found<'a, A>, Found<'a, B>>;
type ValueEither<A, B> = Either<Option<NonNull<A>>, Option<NonNull<B>>>;

/// A key that is only read.
pub struct Found<'a, T> {
    raw: RawKey,
    value: NonNull<T>,
    call: PhantomData<&'a ()>,
}

impl Call<'_> {
    /// The key, to be changed. It borrows the call, so that no key is open twice, and none while a change is replicated and
    /// other modules are notified.
    pub fn open<T: Value>(&mut self, key: Key) -> Result<Opened<'_, T>, Error> {
        let raw = RawKey::open_to_change(self, key)?;
        let value = raw.value()?;
        Ok(Opened { raw, value, call: PhantomData })
    }

    /// Like [`Self::open`], for a key that may hold an `A` or a `B`. An empty key is opened as one for an `A`.
    pub fn open_either<A: Value, B: Value>(&mut self, key: Key) -> Result<OpenedEither<'_, A, B>, Error> {
        let raw = RawKey::open_to_change(self, key)?;
        Ok(match raw.either::<A, B>()? {
            Either::One(value) => Either::One(Opened { raw, value, call: PhantomData }),
            Either::Other(value) => Either::Other(Opened { raw, value, call: PhantomData }),
        })
    }

    /// Several keys, to be changed. The caller names each once, so that none is open twice. A key that holds a `B` is
    /// treated as empty.
    ///
    /// The values are on their way from memory when this returns, so it is worth calling it before work that does not
    /// need them, such as reading the arguments.
    pub fn open_all<T: Value, B: Value>(&mut self, keys: &[Key]) -> Result<Short<Opened<'_, T>>, Error> {
        for (place, key) in keys.iter().enumerate() {
            if keys.iter().take(place).any(|other| other.bytes() == key.bytes()) {
                return Err(Error::new("repeated key", key.bytes()));
            }
        }
        let open = |&key: &Key| {
            let raw = RawKey::open_to_change(self, key)?;
            let value = match raw.either::<T, B>()? {
                Either::One(value) => value,
                Either::Other(_) => None,
            };
            value.into_iter().for_each(prefetch);
            Ok(Opened { raw, value, call: PhantomData })
        };
        keys.iter().map(open).collect()
    }

    /// The value, to be read. It counts neither in keyspace_hits nor in keyspace_misses, if the server has such a mode.
    pub fn find<T: Value>(&self, key: Key) -> Result<Option<Found<'_, T>>, Error> {
        self.find_in_mode(key, quiet_read_mode())
    }

    /// Like [`Self::find`], but counts in keyspace_hits or keyspace_misses, which show a cache's hit rate.
    pub fn look_up<T: Value>(&self, key: Key) -> Result<Option<Found<'_, T>>, Error> {
        self.find_in_mode(key, raw::REDISMODULE_READ as c_int)
    }

    /// Like [`Self::find`], but leaves no trace, for keys that may be others' and that no client has asked for: the server
    /// counts neither a use nor a hit or miss.
    pub fn glance<T: Value>(&self, key: Key) -> Result<Option<Found<'_, T>>, Error> {
        self.find_in_mode(key, traceless_mode())
    }

    /// Like [`Self::find`], for a key that may hold an `A` or a `B`.
    pub fn find_either<A: Value, B: Value>(&self, key: Key) -> Result<Option<FoundEither<'_, A, B>>, Error> {
        self.find_either_in_mode(key, quiet_read_mode())
    }

    /// Like [`Self::glance`], for a key that may hold an `A` or a `B`.
    pub fn glance_either<A: Value, B: Value>(&self, key: Key) -> Result<Option<FoundEither<'_, A, B>>, Error> {
        self.find_either_in_mode(key, traceless_mode())
    }

    fn find_either_in_mode<A: Value, B: Value>(
        &self,
        key: Key,
        mode: c_int,
    ) -> Result<Option<FoundEither<'_, A, B>>, Error> {
        let Some(raw) = RawKey::open(self, key, mode) else { return Ok(None) };
        let call = PhantomData;
        Ok(match raw.either::<A, B>()? {
            Either::One(value) => value.map(|value| Either::One(Found { raw, value, call })),
            Either::Other(value) => value.map(|value| Either::Other(Found { raw, value, call })),
        })
    }

    fn find_in_mode<T: Value>(&self, key: Key, mode: c_int) -> Result<Option<Found<'_, T>>, Error> {
        let Some(raw) = RawKey::open(self, key, mode) else { return Ok(None) };
        Ok(raw.value()?.map(|value| Found { raw, value, call: PhantomData }))
    }
}

impl<'a, T: Value> Opened<'a, T> {
    /// The same key, in which a value of another type is to be stored; it then has no expiry. Until then it holds this one.
    pub fn emptied<U: Value>(self) -> Opened<'a, U> {
        Opened { raw: self.raw, value: None, call: PhantomData }
    }

    pub fn get(&mut self) -> Option<&mut T> {
        // SAFETY: the key is open and `self` is borrowed. The server runs one command at a time, which opens a key once, so
        // nothing else uses the value meanwhile.
        self.value.map(|mut value| unsafe { value.as_mut() })
    }

    /// Stores `value`. An existing `T` keeps its slot and expiry; any other value is deleted with its expiry.
    pub fn insert(&mut self, value: T) -> &mut T {
        let place = match self.value {
            // Without the server (docs/src/internals/decisions.md, "Values are overwritten in place").
            Some(place) => {
                // SAFETY: as in `get`.
                unsafe { *place.as_ptr() = value };
                place
            }
            None => {
                let place = NonNull::from(Box::leak(Box::new(value)));
                // SAFETY: the key is open for writing, and the box is of the type `T`.
                unsafe { self.raw.set_module_value(T::registration().raw(), place.as_ptr().cast()) };
                self.value = Some(place);
                place
            }
        };
        // SAFETY: as in `get`.
        unsafe { &mut *place.as_ptr() }
    }

    /// The value, made by `new` if there is none.
    pub fn get_or_insert_with(&mut self, new: impl FnOnce() -> T) -> &mut T {
        match self.value {
            // SAFETY: as in `get`.
            Some(mut value) => unsafe { value.as_mut() },
            None => self.insert(new()),
        }
    }

    /// Deletes the key; the server frees a large value in the background.
    pub fn delete(&mut self) {
        self.value = None;
        // SAFETY: the key is open for writing, and its value is no longer handed out.
        unsafe { api!(RedisModule_UnlinkKey(self.raw.0.as_ptr())) };
    }

    /// When the key expires, if ever.
    pub fn expires_at_ms(&self) -> Option<i64> {
        self.raw.expires_at_ms()
    }

    /// Takes the key's expiry away. As [`Self::expire_at`], it is not propagated.
    pub fn persist(&mut self) {
        self.expire_at(raw::REDISMODULE_NO_EXPIRE.into());
    }

    /// Sets the key's expiry. It is not propagated: the effect carries what the replica needs to do the same.
    pub fn expire_at(&mut self, at_ms: i64) {
        // SAFETY: the key is open for writing.
        unsafe { api!(RedisModule_SetAbsExpire(self.raw.0.as_ptr(), at_ms)) };
    }
}

impl<T: Value> Found<'_, T> {
    pub fn get(&self) -> &T {
        // SAFETY: as in `Opened::get`; the call is borrowed, so that the key cannot be opened to be changed meanwhile.
        unsafe { self.value.as_ref() }
    }

    /// When the key expires, if ever.
    pub fn expires_at_ms(&self) -> Option<i64> {
        self.raw.expires_at_ms()
    }
}
