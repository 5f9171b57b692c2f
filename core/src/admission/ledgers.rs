//! What an account spent: a ledger of money, and one for each other meter of its budgets.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::amounts::USD;
use super::bounds::{Exceeded, LEDGERS_MAX};
use super::name::ShortName;
use super::policy::load_name;
use crate::codec::{Corrupt, Reader, Writer};
use crate::ledger::Ledger;
use crate::memory::allocated_bytes;
use crate::stored::{Stored, load_nested, save_nested};

/// A ledger of another meter than money, and the meter that it counts.
#[derive(Debug, Clone)]
struct MeterLedger {
    meter: ShortName,
    ledger: Ledger,
}

/// The ledgers of an account. Ledgers are never removed, because admissions identify them by their order.
#[derive(Debug, Clone)]
pub(super) struct Ledgers {
    money: Ledger,
    /// In the order in which budgets or credits first named their meters. Boxed because most accounts have none.
    #[allow(clippy::box_collection)]
    others: Option<Box<Vec<MeterLedger>>>,
}

impl Ledgers {
    pub fn new(ledger: Ledger) -> Self {
        Self { money: ledger, others: None }
    }

    /// The account's own ledger.
    pub fn money(&self) -> &Ledger {
        &self.money
    }

    pub fn money_mut(&mut self) -> &mut Ledger {
        &mut self.money
    }

    /// The ledger of a meter.
    pub fn meter(&self, meter: &[u8]) -> Option<&Ledger> {
        self.iter().find(|&(own, _)| own == meter).map(|(_, ledger)| ledger)
    }

    /// All ledgers with their meters, money first.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Ledger)> {
        let others = self.others.iter().flat_map(|others| others.iter());
        std::iter::once((USD, &self.money)).chain(others.map(|other| (&*other.meter, &other.ledger)))
    }

    /// Like [`Self::iter`], to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&[u8], &mut Ledger)> {
        let others = self.others.iter_mut().flat_map(|others| others.iter_mut());
        std::iter::once((USD, &mut self.money)).chain(others.map(|other| (&*other.meter, &mut other.ledger)))
    }

    pub fn len(&self) -> usize {
        1 + self.others.as_ref().map_or(0, |others| others.len())
    }

    /// Creates a ledger for a meter, unless there is one.
    pub fn open(&mut self, meter: &[u8]) -> Result<(), Exceeded> {
        if self.meter(meter).is_some() {
            return Ok(());
        }
        if self.len() >= LEDGERS_MAX {
            return Err(Exceeded::Ledgers);
        }
        self.push(MeterLedger { meter: ShortName::from_slice(meter), ledger: Ledger::default() });
        Ok(())
    }

    fn push(&mut self, other: MeterLedger) {
        let others = self.others.get_or_insert_default();
        // Few accounts get a second one.
        others.reserve_exact(1);
        others.push(other);
    }

    pub fn memory_bytes(&self) -> usize {
        let others = self.others.as_ref().map_or(0, |others| {
            let list = allocated_bytes(size_of::<Vec<MeterLedger>>());
            let meters: usize = others.iter().map(|other| other.meter.memory_bytes()).sum();
            list + allocated_bytes(others.capacity() * size_of::<MeterLedger>()) + meters
        });
        others + self.iter().map(|(_, ledger)| ledger.memory_bytes()).sum::<usize>()
    }

    pub fn allocations(&self) -> usize {
        2 + self.iter().map(|(_, ledger)| 1 + ledger.allocations()).sum::<usize>()
    }

    pub fn save(&self, out: &mut dyn Writer) {
        save_nested(&self.money, out);
        out.uint(self.len() as u64 - 1);
        for (meter, ledger) in self.iter().skip(1) {
            out.bytes(meter);
            save_nested(ledger, out);
        }
    }

    pub fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let mut ledgers = Self::new(load_nested(from)?);
        for _ in 0..from.uint_max(LEDGERS_MAX as u64 - 1, "more ledgers than an account has")? {
            let meter = load_name(from)?;
            if ledgers.meter(&meter).is_some() {
                return Err(Corrupt("a meter twice"));
            }
            ledgers.push(MeterLedger { meter, ledger: load_nested(from)? });
        }
        Ok(ledgers)
    }
}
