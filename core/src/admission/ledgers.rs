//! What an account spent: a ledger of money, and one for each other meter of its budgets.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::amounts::USD;
use super::bounds::{Exceeded, LEDGERS_MAX};
use super::policy::{ShortName, load_name};
use crate::codec::{Corrupt, Reader, Writer};
use crate::ledger::Ledger;
use crate::memory::{allocated_bytes, spilled_bytes};
use crate::stored::{Stored, load_nested, save_nested};

/// A ledger, and the meter that it counts.
#[derive(Debug, Clone)]
pub(super) struct MeterLedger {
    pub meter: ShortName,
    pub ledger: Ledger,
}

/// The ledgers of an account. Ledgers are never removed, because admissions identify them by their order.
#[derive(Debug, Clone)]
pub(super) struct Ledgers {
    money: MeterLedger,
    /// In the order in which budgets or credits first named their meters.
    others: Vec<MeterLedger>,
}

impl Ledgers {
    pub fn new(ledger: Ledger) -> Self {
        Self { money: MeterLedger { meter: ShortName::from_slice(USD), ledger }, others: Vec::new() }
    }

    /// The account's own ledger.
    pub fn money(&self) -> &MeterLedger {
        &self.money
    }

    pub fn money_mut(&mut self) -> &mut MeterLedger {
        &mut self.money
    }

    /// The ledger of a meter.
    pub fn meter(&self, meter: &[u8]) -> Option<&Ledger> {
        self.iter().find(|entry| *entry.meter == *meter).map(|entry| &entry.ledger)
    }

    /// All ledgers with their meters, money first.
    pub fn iter(&self) -> impl Iterator<Item = &MeterLedger> {
        std::iter::once(&self.money).chain(&self.others)
    }

    /// Like [`Self::iter`], to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut MeterLedger> {
        std::iter::once(&mut self.money).chain(&mut self.others)
    }

    pub fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// Creates a ledger for a meter, unless there is one.
    pub fn open(&mut self, meter: &[u8]) -> Result<(), Exceeded> {
        if self.iter().any(|entry| *entry.meter == *meter) {
            return Ok(());
        }
        if self.len() >= LEDGERS_MAX {
            return Err(Exceeded::Ledgers);
        }
        self.others.push(MeterLedger { meter: ShortName::from_slice(meter), ledger: Ledger::default() });
        Ok(())
    }

    pub fn memory_bytes(&self) -> usize {
        let bytes = |entry: &MeterLedger| spilled_bytes(&entry.meter) + entry.ledger.memory_bytes();
        allocated_bytes(self.others.capacity() * size_of::<MeterLedger>()) + self.iter().map(bytes).sum::<usize>()
    }

    pub fn allocations(&self) -> usize {
        1 + self.iter().map(|entry| 1 + entry.ledger.allocations()).sum::<usize>()
    }

    pub fn save(&self, out: &mut dyn Writer) {
        save_nested(&self.money.ledger, out);
        out.uint(self.others.len() as u64);
        for entry in &self.others {
            out.bytes(&entry.meter);
            save_nested(&entry.ledger, out);
        }
    }

    pub fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let mut ledgers = Self::new(load_nested(from)?);
        for _ in 0..from.uint_max(LEDGERS_MAX as u64 - 1, "more ledgers than an account has")? {
            let meter = load_name(from)?;
            if ledgers.iter().any(|entry| entry.meter == meter) {
                return Err(Corrupt("a meter twice"));
            }
            ledgers.others.push(MeterLedger { meter, ledger: load_nested(from)? });
        }
        Ok(ledgers)
    }
}
