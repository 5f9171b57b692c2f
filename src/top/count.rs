//! Counts refusals and amounts. Commands call this on each of them, so it has to be cheap: see
//! docs/src/internals/decisions.md, "Heavy hitters".

use std::hash::{BuildHasher, RandomState};

use gateway_core::money::Amount;
use gateway_core::top::{By, Charged, Label, Meter, Name, Row, Top};

use super::settings::KEYS;
use crate::server::events::Event;
use crate::server::shared::MainThread;
use crate::server::{Call, Key};
use crate::stats::STATS;

const PICOS_PER_UNIT: u128 = Amount::ONE.picos().unsigned_abs();

/// The lists, once something is counted, and the setting that they were made with.
static TOP: MainThread<Option<(i64, Top)>> = MainThread::new(None);

/// Counts a refusal of `key` by `by`: a policy, or a command with a limit of its own.
pub fn denied(now_ms: i64, key: Key, by: Label) {
    with(|top| top.deny(now_ms, &top.name(key.bytes()).labelled(by)));
}

/// Like [`denied`], for all policies that refuse a request.
pub fn all_denied<'a>(now_ms: i64, refusals: impl Iterator<Item = (Key<'a>, Label<'a>)>) {
    with(|top| {
        for (key, by) in refusals {
            top.deny(now_ms, &top.name(key.bytes()).labelled(by));
        }
    });
}

/// Counts what `key` has used of a meter. Amounts that are given back are not subtracted.
pub fn used(now_ms: i64, key: Key, meter: Meter, amount: Amount) {
    if amount > Amount::ZERO {
        let weight = amount.picos().unsigned_abs();
        with(|top| charge(top, now_ms, meter, &top.name(key.bytes()), weight));
    }
}

/// Like [`used`], for whole units.
pub fn units_used(now_ms: i64, key: Key, meter: Meter, units: i64) {
    if units > 0 {
        let weight = u128::from(units.unsigned_abs()) * PICOS_PER_UNIT;
        with(|top| charge(top, now_ms, meter, &top.name(key.bytes()), weight));
    }
}

/// Like [`used`], for the same amounts of several keys.
pub fn all_used<'a>(now_ms: i64, keys: &[Key], amounts: impl Iterator<Item = (Meter<'a>, Amount)> + Clone) {
    with(|top| {
        for key in keys {
            let name = top.name(key.bytes());
            for (meter, amount) in amounts.clone().filter(|&(_, amount)| amount > Amount::ZERO) {
                charge(top, now_ms, meter, &name, amount.picos().unsigned_abs());
            }
        }
    });
}

/// Calls `count` with the lists, unless they are switched off.
#[inline]
fn with(count: impl FnOnce(&mut Top)) {
    let keys = KEYS.get();
    if keys > 0 {
        let top = &mut *TOP.borrow();
        count(&mut top.get_or_insert_with(|| (keys, Top::new(keys as usize, seed()))).1);
    }
}

/// Charges an amount, or notes that there is no list for it.
#[inline]
fn charge(top: &mut Top, now_ms: i64, meter: Meter, name: &Name, weight: u128) {
    if top.charge(now_ms, meter, name, weight) == Charged::NoRoom {
        STATS.top_ignored.add(1);
    }
}

/// The hash tables of the standard library get their random keys from the operating system.
#[cold]
fn seed() -> u64 {
    RandomState::new().hash_one("top")
}

/// A list.
#[derive(Clone, Copy)]
pub enum List<'a> {
    Denied,
    Meter(&'a [u8]),
}

/// The `count` heaviest rows of a list; `None` if nothing is counted.
pub fn heaviest(now_ms: i64, list: List, by: By, count: usize) -> Option<Vec<Row>> {
    if KEYS.get() == 0 {
        return None;
    }
    let top = &mut *TOP.borrow();
    let Some((_, top)) = top else { return Some(Vec::new()) };
    let rows = match list {
        List::Denied => top.denied(now_ms, by, count),
        List::Meter(meter) => top.of_meter(now_ms, Meter::of(meter), by, count),
    };
    Some(rows)
}

/// The memory of the lists.
pub fn memory_bytes() -> u64 {
    TOP.borrow().as_ref().map_or(0, |(_, top)| top.memory_bytes() as u64)
}

/// Forgets everything, and frees its memory.
pub fn reset() {
    *TOP.borrow() = None;
}

/// Begins anew with another number of keys, or with none.
pub fn on_server_event(_call: &mut Call, event: Event) {
    if matches!(event, Event::ConfigChanged) && TOP.borrow().as_ref().is_some_and(|&(keys, _)| keys != KEYS.get()) {
        reset();
    }
}
