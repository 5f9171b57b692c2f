//! The only way for this family to reach a key's ledger, whether the key holds a ledger alone or an account with
//! policies.

use gateway_core::admission::{self, Moment, Told, USD};
use gateway_core::ledger::Ledger;
use gateway_core::money::Amount;

use super::settings::present;
use crate::server::key::{Either, FoundEither, Glimpse, OpenedEither};
use crate::server::{Call, Error, Key};

/// A key whose ledger may be changed.
pub struct Account<'a>(OpenedEither<'a, Ledger, admission::Account>);

/// A key whose ledger is only read.
pub struct AccountRead<'a>(FoundEither<'a, Ledger, admission::Account>);

impl<'a> Account<'a> {
    pub fn open(call: &'a mut Call, key: Key) -> Result<Self, Error> {
        call.open_either(key).map(Self)
    }

    pub fn ledger(&mut self) -> Option<&mut Ledger> {
        match &mut self.0 {
            Either::One(opened) => opened.get(),
            Either::Other(opened) => opened.get().map(admission::Account::ledger_mut),
        }
    }

    /// After a change: the budgets in the account's policies that the change has left at their soft limits and that
    /// were not announced yet in their current period. From now on they count as announced. A ledger alone has no
    /// policies.
    pub fn tell_soft(&mut self, now_ms: i64) -> Told {
        match &mut self.0 {
            Either::One(_) => Told::new(),
            Either::Other(opened) => {
                opened.get().map(|account| account.tell_soft(&present(now_ms, 0))).unwrap_or_default()
            }
        }
    }

    /// Whether money that is charged to the ledger counts in a policy of the account, too.
    pub fn counts_money(&mut self) -> bool {
        match &mut self.0 {
            Either::One(_) => false,
            Either::Other(opened) => opened.get().is_some_and(|account| account.counts_money()),
        }
    }

    /// Counts money in the account's policies that was charged at `spent_ms`, or given back if it is negative.
    pub fn count_money(&mut self, at_ms: i64, spent_ms: i64, amount: Amount) {
        if let Either::Other(opened) = &mut self.0
            && let Some(account) = opened.get()
        {
            account.count_money(&Moment::time_only(at_ms), spent_ms, amount);
        }
    }

    /// Makes an account that got money stay, if it would have expired.
    pub fn stay(&mut self) {
        if let Either::Other(opened) = &mut self.0
            && opened.get().is_some_and(|account| account.stay())
        {
            opened.persist();
        }
    }

    /// The ledger; creates it if there is none.
    pub fn ledger_or_new(&mut self) -> &mut Ledger {
        match &mut self.0 {
            Either::One(opened) => opened.get_or_insert_with(Ledger::new),
            Either::Other(opened) => opened.get_or_insert_with(admission::Account::default).ledger_mut(),
        }
    }
}

impl<'a> AccountRead<'a> {
    /// `None` if there is no key.
    pub fn find(call: &'a Call, key: Key) -> Result<Option<Self>, Error> {
        Ok(call.find_either(key)?.map(Self))
    }

    /// Like [`Self::find`], but without counting as a use of the key, which may not be one of this module.
    pub fn glance(call: &'a Call, key: Key) -> Result<Option<Self>, Error> {
        Ok(call.glance_either(key)?.map(Self))
    }

    pub fn ledger(&self) -> &Ledger {
        match &self.0 {
            Either::One(found) => found.get(),
            Either::Other(found) => found.get().ledger(),
        }
    }

    /// The ledger of a meter. A key that holds a ledger alone has only one of money.
    pub fn meter(&self, meter: &[u8]) -> Option<&Ledger> {
        match &self.0 {
            Either::One(found) => (meter == USD).then(|| found.get()),
            Either::Other(found) => found.get().ledgers().find(|(own, _)| *own == meter).map(|(_, ledger)| ledger),
        }
    }
}

/// The ledger of a key that a scan visits.
pub fn glimpse<'a>(value: &'a Glimpse) -> Option<&'a Ledger> {
    value.value::<Ledger>().or_else(|| value.value::<admission::Account>().map(admission::Account::ledger))
}
