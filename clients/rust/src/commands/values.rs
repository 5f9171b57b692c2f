//! Values that arguments and replies are made of.

use std::collections::BTreeMap;

use crate::amount::Amount;
use crate::text::Text;

/// Amounts by meter. They are sent in the order of their names, so that equal calls have equal words.
pub type Amounts = BTreeMap<Text, Amount>;

/// A count of whole units, or an exact decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Whole units.
    Whole(i64),
    /// A decimal: of budgets and `DECIMAL` policies.
    Decimal(Amount),
}

/// A ledger with the version up to which it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    /// The ledger's key.
    pub key: Text,
    /// The version of the change.
    pub version: i64,
}
