//! Arguments, read where the server keeps them: nothing is copied, nothing is required to be UTF-8.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::marker::PhantomData;
use std::ops::RangeInclusive;

use gateway_core::integer::parse_int;
use gateway_core::money::Amount;
use redis_module::raw::RedisModuleString;
use smallvec::SmallVec;

use super::api::api;
use super::error::Error;

/// One of the server's strings, valid for as long as `'a`: the call that it is an argument of.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Str<'a> {
    pub(super) raw: *mut RedisModuleString,
    call: PhantomData<&'a ()>,
}

/// A string that names a key.
pub type Key<'a> = Str<'a>;

/// A list that a command needs while it runs. Most hold at most four items, and then nothing is allocated.
pub type Short<T> = SmallVec<[T; 4]>;

impl<'a> Str<'a> {
    pub fn bytes(&self) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: the caller that made the `Str` has promised that the string lives for `'a`; its buffer lives and
        // stays unchanged as long as the string does.
        unsafe {
            let at = api!(RedisModule_StringPtrLen(self.raw, &mut len));
            std::slice::from_raw_parts(at.cast::<u8>(), len)
        }
    }

    /// # Safety
    /// The string lives for `'a`.
    pub(super) unsafe fn of(raw: *mut RedisModuleString) -> Self {
        Str { raw, call: PhantomData }
    }

    /// # Safety
    /// The array holds `argc` strings, and they live for `'a`, as it does: it is that of a call's arguments.
    pub(super) unsafe fn list(argv: *mut *mut RedisModuleString, argc: usize) -> &'a [Str<'a>] {
        // SAFETY: as the caller promises; a `Str` is its pointer and nothing else, which `repr(transparent)` guarantees.
        unsafe { std::slice::from_raw_parts(argv.cast::<Str<'a>>(), argc) }
    }
}

/// The name of a key, kept beyond a call.
#[derive(Debug)]
pub struct OwnedKey(*mut RedisModuleString);

// SAFETY: the string has one owner; it is made, used and freed on the server's main thread.
unsafe impl Send for OwnedKey {}

impl OwnedKey {
    pub fn new(bytes: &[u8]) -> Self {
        // SAFETY: the buffer lives through the call, which copies it. A string made without a context is ours to free.
        Self(unsafe { api!(RedisModule_CreateString(std::ptr::null_mut(), bytes.as_ptr().cast(), bytes.len())) })
    }

    pub fn key(&self) -> Key<'_> {
        // SAFETY: the borrow keeps the string alive.
        unsafe { Str::of(self.0) }
    }
}

impl Drop for OwnedKey {
    fn drop(&mut self) {
        // SAFETY: the string was made without a context, and nobody else owns it.
        unsafe { api!(RedisModule_FreeString(std::ptr::null_mut(), self.0)) };
    }
}

/// The arguments of one call, taken from left to right.
#[derive(Clone)]
pub struct Args<'a> {
    left: &'a [Str<'a>],
    /// The options that were given so far, a bit for each by its index in the command's list.
    seen: u32,
}

impl<'a> Args<'a> {
    pub(super) fn new(left: &'a [Str<'a>]) -> Self {
        Self { left, seen: 0 }
    }

    fn next(&mut self) -> Option<Str<'a>> {
        let (&first, rest) = self.left.split_first()?;
        self.left = rest;
        Some(first)
    }

    pub fn key(&mut self) -> Result<Key<'a>, Error> {
        self.next().ok_or(Error::ARITY)
    }

    /// The next argument. `what` is its name in errors, here and below.
    pub fn string(&mut self, what: &str) -> Result<Str<'a>, Error> {
        self.next().ok_or_else(|| Error::missing_value(what))
    }

    /// A name of 1 to `max_bytes` bytes.
    pub fn name(&mut self, what: &str, max_bytes: usize) -> Result<Str<'a>, Error> {
        let name = self.string(what)?;
        match name.bytes().len() {
            0 => Err(Error::not_a_name(max_bytes, what)),
            len if len > max_bytes => Err(Error::not_a_name(max_bytes, what)),
            _ => Ok(name),
        }
    }

    pub fn bytes(&mut self, what: &str) -> Result<&'a [u8], Error> {
        self.string(what).map(|string| string.bytes())
    }

    /// The next `count` arguments.
    pub fn list(&mut self, count: usize, what: &str) -> Result<&'a [Str<'a>], Error> {
        let (list, rest) = self.left.split_at_checked(count).ok_or_else(|| Error::missing_value(what))?;
        self.left = rest;
        Ok(list)
    }

    /// The next argument, if there is one.
    pub fn optional(&mut self) -> Option<Str<'a>> {
        self.next()
    }

    /// The next argument, without taking it.
    pub fn first(&self) -> Option<Str<'a>> {
        self.left.first().copied()
    }

    /// The bytes of [`Self::first`].
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.left.first().map(Str::bytes)
    }

    /// Checks that no argument is left.
    pub fn end(self) -> Result<(), Error> {
        if self.left.is_empty() { Ok(()) } else { Err(Error::ARITY) }
    }

    /// An integer in the server's own strict form, see [`parse_int`].
    pub fn int<T>(&mut self, what: &str, range: RangeInclusive<T>) -> Result<T, Error>
    where
        T: Copy + PartialOrd + TryFrom<i64> + std::fmt::Display,
    {
        let value = parse_int(self.bytes(what)?).and_then(|value| T::try_from(value).ok());
        value.filter(|value| range.contains(value)).ok_or_else(|| Error::not_in(range, what))
    }

    /// An amount of money or of another meter, not negative; see [`Amount::parse`].
    pub fn amount(&mut self, what: impl AsRef<[u8]>) -> Result<Amount, Error> {
        match self.signed_amount(&what)? {
            amount if amount < Amount::ZERO => Err(Error::new("negative amount", what)),
            amount => Ok(amount),
        }
    }

    /// Like [`Self::amount`], but may be negative.
    pub fn signed_amount(&mut self, what: impl AsRef<[u8]>) -> Result<Amount, Error> {
        let text = self.next().ok_or_else(|| Error::missing_value(&what))?;
        Amount::parse(text.bytes()).map_err(|error| Error::new(&error.to_string(), what))
    }

    /// The arguments that are left, without taking them.
    pub fn all(&self) -> &'a [Str<'a>] {
        self.left
    }

    /// The rest of the arguments, at least one.
    pub fn rest(&mut self, what: &str) -> Result<&'a [Str<'a>], Error> {
        if self.left.is_empty() {
            return Err(Error::missing_value(what));
        }
        Ok(std::mem::take(&mut self.left))
    }

    /// The next argument as one of the command's option words, or `None` at the end of the arguments.
    pub fn option<T: Copy>(&mut self, words: &[(&'static str, T)]) -> Result<Option<T>, Error> {
        match self.option_if_any(words)? {
            Some(option) => Ok(Some(option)),
            None if self.peek().is_none() => Ok(None),
            None => Err(Error::unknown_option(self.bytes("option")?)),
        }
    }

    /// Like [`Self::option`], but `None` also if the next argument is not an option word, which is then not taken.
    pub fn option_if_any<T: Copy>(&mut self, words: &[(&'static str, T)]) -> Result<Option<T>, Error> {
        let Some(given) = self.peek() else { return Ok(None) };
        let option = self.option_named(given, words)?;
        if option.is_some() {
            self.left = &self.left[1..];
        }
        Ok(option)
    }

    /// The option that `given` names, an argument that was just taken; `None` if it names none.
    pub fn option_named<T: Copy>(&mut self, given: &[u8], words: &[(&'static str, T)]) -> Result<Option<T>, Error> {
        // Nearly all clients write options in capitals, which are compared as a whole.
        let names = |word: &str| word.as_bytes() == given || word.as_bytes().eq_ignore_ascii_case(given);
        let Some(index) = words.iter().position(|(word, _)| word.len() == given.len() && names(word)) else {
            return Ok(None);
        };
        if self.seen & (1 << index) != 0 {
            return Err(Error::new("repeated option", words[index].0));
        }
        self.seen |= 1 << index;
        Ok(Some(words[index].1))
    }

    /// Allows an option that was given to be given once more.
    pub fn may_repeat<T>(&mut self, words: &[(&'static str, T)], option: &str) {
        if let Some(index) = words.iter().position(|(word, _)| *word == option) {
            self.seen &= !(1 << index);
        }
    }
}
