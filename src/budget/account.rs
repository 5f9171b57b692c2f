//! The ledger of a key: the one way by which this family's commands come to it, whatever type the key is of.

use gateway_core::ledger::Ledger;

use crate::server::key::{Found, Opened};
use crate::server::{Call, Error, Key};

/// A key whose ledger may be changed.
pub struct Account<'a>(Opened<'a, Ledger>);

/// A key whose ledger is only read.
pub struct AccountRead<'a>(Found<'a, Ledger>);

impl<'a> Account<'a> {
    pub fn open(call: &'a mut Call, key: Key) -> Result<Self, Error> {
        call.open(key).map(Self)
    }

    pub fn ledger(&mut self) -> Option<&mut Ledger> {
        self.0.get()
    }

    /// The ledger, a new one where there is none.
    pub fn ledger_or_new(&mut self) -> &mut Ledger {
        self.0.get_or_insert_with(Ledger::new)
    }
}

impl<'a> AccountRead<'a> {
    /// `None` where there is no key.
    pub fn find(call: &'a Call, key: Key) -> Result<Option<Self>, Error> {
        Ok(call.find(key)?.map(Self))
    }

    pub fn ledger(&self) -> &Ledger {
        self.0.get()
    }
}
