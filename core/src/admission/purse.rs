//! What an account spent: a ledger of money, and one for every other meter that a budget counts.

use super::Full;
use super::policy::{Name, USD, load_name};
use crate::codec::{Corrupt, Reader, Writer};
use crate::ledger::Ledger;
use crate::memory::{allocated_bytes, spilled_bytes};
use crate::stored::Stored;

/// The most meters of an account's budgets beside the money in its own ledger.
pub const LEDGERS_MAX: usize = 8;

#[derive(Debug, Clone)]
pub(super) struct Purse {
    pub meter: Name,
    pub ledger: Ledger,
}

#[derive(Debug, Clone)]
pub(super) struct Purses {
    money: Purse,
    /// In the order in which budgets first counted them.
    others: Vec<Purse>,
}

impl Purses {
    pub fn new(ledger: Ledger) -> Self {
        Self { money: Purse { meter: Name::from_slice(USD), ledger }, others: Vec::new() }
    }

    pub fn money(&self) -> &Purse {
        &self.money
    }

    pub fn money_mut(&mut self) -> &mut Purse {
        &mut self.money
    }

    /// Money first.
    pub fn iter(&self) -> impl Iterator<Item = &Purse> {
        std::iter::once(&self.money).chain(&self.others)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Purse> {
        std::iter::once(&mut self.money).chain(&mut self.others)
    }

    /// Makes a ledger for a meter, unless it has one.
    pub fn open(&mut self, meter: &[u8]) -> Result<(), Full> {
        if self.iter().any(|purse| *purse.meter == *meter) {
            return Ok(());
        }
        if self.others.len() >= LEDGERS_MAX {
            return Err(Full::Meters);
        }
        self.others.push(Purse { meter: Name::from_slice(meter), ledger: Ledger::default() });
        Ok(())
    }

    pub fn memory_bytes(&self) -> usize {
        let bytes = |purse: &Purse| spilled_bytes(&purse.meter) + purse.ledger.memory_bytes();
        allocated_bytes(self.others.capacity() * size_of::<Purse>()) + self.iter().map(bytes).sum::<usize>()
    }

    pub fn allocations(&self) -> usize {
        1 + self.iter().map(|purse| 1 + purse.ledger.allocations()).sum::<usize>()
    }

    pub fn save(&self, out: &mut dyn Writer) {
        self.money.ledger.save(out);
        out.uint(self.others.len() as u64);
        for purse in &self.others {
            out.bytes(&purse.meter);
            purse.ledger.save(out);
        }
    }

    pub fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let mut purses = Self::new(Ledger::load(from, Ledger::ENCODING)?);
        for _ in 0..from.uint_max(LEDGERS_MAX as u64, "more ledgers than an account has")? {
            let meter = load_name(from)?;
            if purses.iter().any(|purse| purse.meter == meter) {
                return Err(Corrupt("a meter twice"));
            }
            purses.others.push(Purse { meter, ledger: Ledger::load(from, Ledger::ENCODING)? });
        }
        Ok(purses)
    }
}
