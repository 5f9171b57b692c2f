//! Calls of the server's own commands, and their replies.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::NonNull;

use redis_module::raw::{self, RedisModuleCallReply};

use super::api::api;
use super::args::Str;
use super::call::Call;

/// A reply, or part of one.
#[derive(Clone, Copy)]
pub(super) struct Reply<'a> {
    at: NonNull<RedisModuleCallReply>,
    whole: PhantomData<&'a Answer>,
}

/// Owns a whole reply.
pub(super) struct Answer(NonNull<RedisModuleCallReply>);

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the reply is ours, and every `Reply` into it borrows from it.
        unsafe { api!(RedisModule_FreeCallReply(self.0.as_ptr())) };
    }
}

impl Answer {
    pub fn reply(&self) -> Reply<'_> {
        Reply { at: self.0, whole: PhantomData }
    }
}

impl<'a> Reply<'a> {
    /// `None` if the reply is not an integer.
    pub fn integer(self) -> Option<i64> {
        // SAFETY: the borrow keeps the reply alive.
        unsafe {
            let is_integer = api!(RedisModule_CallReplyType(self.at.as_ptr())) == raw::REDISMODULE_REPLY_INTEGER as i32;
            is_integer.then(|| api!(RedisModule_CallReplyInteger(self.at.as_ptr())))
        }
    }

    /// `None` if the reply is not a string.
    pub fn bytes(self) -> Option<&'a [u8]> {
        let mut len = 0;
        // SAFETY: the borrow keeps the reply alive, and with it the text; the server returns null if it is not a
        // string.
        unsafe {
            let at = api!(RedisModule_CallReplyStringPtr(self.at.as_ptr(), &mut len));
            (!at.is_null()).then(|| std::slice::from_raw_parts(at.cast::<u8>(), len))
        }
    }

    /// `None` if the reply is not an array, or has no such element.
    pub fn element(self, index: usize) -> Option<Reply<'a>> {
        // SAFETY: the borrow keeps the reply alive, and with it its elements.
        let at = unsafe { api!(RedisModule_CallReplyArrayElement(self.at.as_ptr(), index)) };
        NonNull::new(at).map(|at| Reply { at, whole: PhantomData })
    }

    /// The elements of an array.
    pub fn elements(self) -> impl Iterator<Item = Reply<'a>> {
        (0..).map_while(move |index| self.element(index))
    }
}

impl Call<'_> {
    /// Calls one of the server's commands. `None` if the server does not run it: an operator has renamed it, or in a
    /// cluster the server would redirect a client for one of its keys.
    pub(super) fn ask(&self, command: &CStr, arguments: &[Str]) -> Option<Answer> {
        // SAFETY: the context is the one of this call; the format takes a vector of string objects with its length, which
        // live through the call. A `Str` is a pointer to such an object.
        let reply = unsafe {
            let (command, format) = (command.as_ptr(), c"v".as_ptr());
            api!(RedisModule_Call(self.ctx, command, format, arguments.as_ptr(), arguments.len()))
        };
        NonNull::new(reply).map(Answer)
    }
}
