//! What the fake knows.

use std::any::Any;
use std::collections::HashMap;

use super::fills::FillLeases;
use super::words::{Done, Stop};
use crate::Text;

/// Each kind of key is a type of its own.
type Stored = Box<dyn Any + Send>;

pub(super) struct State {
    /// Unix milliseconds.
    pub(super) now: i64,
    /// All commands that were sent.
    pub(super) calls: Vec<Vec<Text>>,
    /// What was asked for that the fake does not have.
    pub(super) missing: Vec<String>,
    pub(super) keys: HashMap<Text, Stored>,
    pub(super) fills: FillLeases,
}

impl State {
    pub(super) fn new(now: i64) -> Self {
        Self { now, calls: Vec::new(), missing: Vec::new(), keys: HashMap::new(), fills: FillLeases::new() }
    }

    /// What a key has, of one kind; another kind ends the command.
    pub(super) fn at<T: 'static>(&mut self, key: &Text) -> Done<Option<&mut T>> {
        match self.keys.get_mut(key) {
            None => Ok(None),
            Some(stored) => stored.downcast_mut().map(Some).ok_or_else(wrong_type),
        }
    }

    /// The same, made if it is not there.
    pub(super) fn made<T: Any + Send + Default>(&mut self, key: Text) -> Done<&mut T> {
        let stored = self.keys.entry(key).or_insert_with(|| Box::new(T::default()));
        stored.downcast_mut().ok_or_else(wrong_type)
    }

    pub(super) fn put<T: Any + Send>(&mut self, key: Text, value: T) {
        self.keys.insert(key, Box::new(value));
    }
}

fn wrong_type() -> Stop {
    Stop::Refused("WRONGTYPE Operation against a key holding the wrong kind of value".to_owned())
}
