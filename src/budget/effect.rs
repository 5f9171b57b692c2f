//! The family's effects: changes of a ledger.
//!
//! | operation | words | event |
//! |---|---|---|
//! | `C` | `day amount keep_days version`: a charge | `gw.addcost` |
//! | `F` | `day amount keep_days version at_ms [spent_ms]`: a charge, after which ids and holds that were due were forgotten | `gw.addcost` |
//! | `O` | `day amount at_ms keep_days remember_ms version [spent_ms]`, and the id: a charge whose id is remembered | `gw.addcost` |
//! | `H` | `day expires_at_ms estimate at_ms keep_days remember_ms version`, and the id: a hold | `gw.reserve` |
//! | `K` | `actual at_ms keep_days remember_ms version [spent_ms]`, and the id: a hold was committed | `gw.commit` |
//! | `X` | `at_ms keep_days remember_ms version`, and the id: a hold was cancelled | `gw.cancel` |
//! | `A` | `version`: a reader has acknowledged it | `gw.costack` |
//! | `L` | `version`: the ledger is listed anew | `gw.costchanges` |
//! | `G` | `period day amount at_ms keep_days remember_ms version`, the meter, and the id if there is one: a credit | `gw.credit` |
//! | `T` | `at_ms`: holds and ids follow a clock that has stepped back | `gw.expire` |
//! | `R` | `version keep_days`, the meter, and rows of kind, period, first day and amount: all sums were replaced | `gw.costrestore` |
//!
//! `spent_ms` is present if policies of the account count the money, too. Days count from 1970-01-01, in the time zone
//! of the node that first made the change; amounts are decimals.

use std::ffi::CStr;

use gateway_core::TIME_MAX_MS;
use gateway_core::admission::USD;
use gateway_core::calendar::{Day, Period};
use gateway_core::ledger::feed::KeyPlace;
use gateway_core::ledger::{CreditError, KEEP_DAYS_MAX, KEEP_DAYS_MIN, Ledger, Stamp, Totals};
use gateway_core::money::Amount;

use super::account::{Account, AccountRead};
use super::args::parse_id;
use super::settings::saw_version;
use super::words::{
    NAME, parse_amount, parse_day, parse_spent, parse_stamp, parse_version, with_amount, with_spent, with_stamp,
};
use super::{listing, restoration};
use crate::admission::accounts;
use crate::admission::args::check_name;
use crate::server::args::Args;
use crate::server::call::entry;
use crate::server::command::{self, Access, Arg, Command, Keys};
use crate::server::effect::{Effect, Words, malformed, newer};
use crate::server::{Call, Error, Key, Outcome, Str};

const CREDIT_EVENT: &CStr = c"gw.credit";

pub const COMMAND: Command = Command {
    name: command::name(NAME),
    handler: entry!(apply),
    flags: "write admin fast",
    arity: -3,
    keys: Keys::One(Access::Insert),
    summary: "Internal: applies a change to a ledger, on replicas and from the AOF.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect"), Arg::text("argument").optional().multiple()],
};

/// A change of a ledger. The node that first makes it decides all of it. `spent_ms` is when the money was spent, for
/// policies of the account that count it, too; `None` if no policy counts it.
#[derive(Clone, Copy)]
pub enum LedgerChange {
    /// If it has a time, it also forgets what is due by then.
    Charge {
        day: Day,
        amount: Amount,
        keep_days: u32,
        version: u64,
        forget_at_ms: Option<i64>,
        spent_ms: Option<i64>,
    },
    ChargeOnce {
        day: Day,
        amount: Amount,
        stamp: Stamp,
        spent_ms: Option<i64>,
    },
    Hold {
        day: Day,
        estimate: Amount,
        expires_at_ms: i64,
        stamp: Stamp,
    },
    Commit {
        actual: Amount,
        stamp: Stamp,
        spent_ms: Option<i64>,
    },
    Cancel {
        stamp: Stamp,
    },
    Acknowledge {
        version: u64,
    },
    ListAnew {
        version: u64,
    },
    /// Holds and ids follow a clock that has stepped back.
    FollowClock {
        at_ms: i64,
    },
}

impl LedgerChange {
    /// Makes the change. The node that decided it has checked that it is possible; if it is not, nothing changes.
    pub fn apply(&self, account: &mut Account, id: &[u8], place: impl FnOnce() -> KeyPlace) -> Option<Totals> {
        let ledger = account.ledger_or_new();
        let totals = match *self {
            LedgerChange::Charge { day, amount, keep_days, version, forget_at_ms, .. } => {
                if let Some(at_ms) = forget_at_ms {
                    ledger.forget(at_ms);
                }
                ledger.charge(day, amount, keep_days, version).ok()
            }
            LedgerChange::ChargeOnce { day, amount, stamp, .. } => ledger.charge_once(id, day, amount, &stamp).ok(),
            LedgerChange::Hold { day, estimate, expires_at_ms, stamp } => {
                ledger.hold(id, day, estimate, expires_at_ms, &stamp);
                None
            }
            LedgerChange::Commit { actual, stamp, .. } => ledger.commit(id, actual, &stamp).ok().flatten(),
            LedgerChange::Cancel { stamp } => {
                ledger.cancel(id, &stamp);
                None
            }
            LedgerChange::Acknowledge { version } => {
                ledger.acknowledge(version, place());
                None
            }
            LedgerChange::ListAnew { version } => {
                ledger.list_anew(version, place());
                None
            }
            LedgerChange::FollowClock { at_ms } => {
                ledger.forget(at_ms);
                None
            }
        };
        saw_version(ledger.version());
        if totals.is_some()
            && let Some((at_ms, spent_ms, amount)) = self.counted()
        {
            account.count_money(at_ms, spent_ms, amount);
        }
        if self.has_id() || totals.is_some() {
            account.stay();
        }
        totals
    }

    /// For money that policies of the account count: when to count it, when it was spent, and the amount.
    fn counted(&self) -> Option<(i64, i64, Amount)> {
        match *self {
            Self::Charge { amount, forget_at_ms: Some(at_ms), spent_ms: Some(spent_ms), .. } => {
                Some((at_ms, spent_ms, amount))
            }
            Self::ChargeOnce { amount, stamp, spent_ms: Some(spent_ms), .. } => Some((stamp.at_ms, spent_ms, amount)),
            Self::Commit { actual, stamp, spent_ms: Some(spent_ms) } => Some((stamp.at_ms, spent_ms, actual)),
            _ => None,
        }
    }

    /// After [`Self::apply`]: sends the change to replicas and the AOF, to listeners, and to the feed.
    pub fn announce(&self, call: &Call, key: Key, id: Option<Str>) {
        match id {
            Some(id) => call.replicate_with(key, self.event(), &self.effect(), &[id]),
            None => call.replicate(key, self.event(), &self.effect()),
        }
        self.note(call, key);
    }

    /// The keyspace event, the same on the node that first makes the change and on nodes that apply its effect.
    fn event(&self) -> &'static CStr {
        match self {
            Self::Charge { .. } | Self::ChargeOnce { .. } => c"gw.addcost",
            Self::Hold { .. } => c"gw.reserve",
            Self::Commit { .. } => c"gw.commit",
            Self::Cancel { .. } => c"gw.cancel",
            Self::Acknowledge { .. } => c"gw.costack",
            Self::ListAnew { .. } => c"gw.costchanges",
            Self::FollowClock { .. } => c"gw.expire",
        }
    }

    /// Adds the ledger to the feed, if its spend or its list of changes has changed.
    fn note(&self, call: &Call, key: Key) {
        match self {
            Self::Hold { .. } | Self::Cancel { .. } | Self::Acknowledge { .. } | Self::FollowClock { .. } => {}
            _ => listing::changed(call, key),
        }
    }

    fn effect(&self) -> Effect {
        let number = |day: Day| i64::from(day.number());
        match *self {
            LedgerChange::Charge { day, amount, keep_days, version, forget_at_ms, spent_ms } => {
                let operation = if forget_at_ms.is_some() { b'F' } else { b'C' };
                let mut effect = with_amount(operation, Some(day), amount);
                effect.int(keep_days.into());
                effect.int(version.cast_signed());
                if let Some(at_ms) = forget_at_ms {
                    effect.int(at_ms);
                }
                with_spent(effect, spent_ms)
            }
            LedgerChange::ChargeOnce { day, amount, stamp, spent_ms } => {
                with_spent(with_stamp(with_amount(b'O', Some(day), amount), &stamp), spent_ms)
            }
            LedgerChange::Hold { day, estimate, expires_at_ms, stamp } => {
                let mut effect = Effect::of(NAME, b'H', [number(day), expires_at_ms]);
                effect.word(estimate.to_text().as_bytes());
                with_stamp(effect, &stamp)
            }
            LedgerChange::Commit { actual, stamp, spent_ms } => {
                with_spent(with_stamp(with_amount(b'K', None, actual), &stamp), spent_ms)
            }
            LedgerChange::Cancel { stamp } => with_stamp(Effect::new(NAME, b'X'), &stamp),
            LedgerChange::Acknowledge { version } => Effect::of(NAME, b'A', [version.cast_signed()]),
            LedgerChange::ListAnew { version } => Effect::of(NAME, b'L', [version.cast_signed()]),
            LedgerChange::FollowClock { at_ms } => Effect::of(NAME, b'T', [at_ms]),
        }
    }

    fn parse(operation: u8, mut list: Words) -> Result<LedgerChange, Error> {
        let words = &mut list;
        let change = match operation {
            b'C' | b'F' => LedgerChange::Charge {
                day: parse_day(words)?,
                amount: parse_amount(words)?,
                keep_days: words.int(KEEP_DAYS_MIN..=KEEP_DAYS_MAX)?,
                version: parse_version(words)?,
                forget_at_ms: match operation {
                    b'F' => Some(words.int(0..=TIME_MAX_MS)?),
                    _ => None,
                },
                spent_ms: match operation {
                    b'F' => parse_spent(words)?,
                    _ => None,
                },
            },
            b'O' => {
                let (day, amount) = (parse_day(words)?, parse_amount(words)?);
                LedgerChange::ChargeOnce { day, amount, stamp: parse_stamp(words)?, spent_ms: parse_spent(words)? }
            }
            b'H' => {
                let (day, expires_at_ms) = (parse_day(words)?, words.int(0..=TIME_MAX_MS)?);
                let estimate = parse_amount(words)?;
                if estimate < Amount::ZERO {
                    return Err(malformed());
                }
                LedgerChange::Hold { day, estimate, expires_at_ms, stamp: parse_stamp(words)? }
            }
            b'K' => LedgerChange::Commit {
                actual: parse_amount(words)?,
                stamp: parse_stamp(words)?,
                spent_ms: parse_spent(words)?,
            },
            b'X' => LedgerChange::Cancel { stamp: parse_stamp(words)? },
            b'A' => LedgerChange::Acknowledge { version: parse_version(words)? },
            b'L' => LedgerChange::ListAnew { version: parse_version(words)? },
            b'T' => LedgerChange::FollowClock { at_ms: words.int(0..=TIME_MAX_MS)? },
            _ => return Err(newer()),
        };
        list.end().map(|()| change)
    }

    fn has_id(&self) -> bool {
        match self {
            Self::ChargeOnce { .. } | Self::Hold { .. } | Self::Commit { .. } | Self::Cancel { .. } => true,
            Self::Charge { .. } | Self::Acknowledge { .. } | Self::ListAnew { .. } | Self::FollowClock { .. } => false,
        }
    }
}

/// A credit that is given or taken back. The node that first makes the change decides all of it.
#[derive(Clone, Copy)]
pub struct Credit<'a> {
    pub period: Period,
    /// A day of the period.
    pub day: Day,
    pub amount: Amount,
    pub stamp: Stamp,
    pub meter: &'a [u8],
    pub id: Option<&'a [u8]>,
}

impl Credit<'_> {
    /// Gives the credit, and returns the period's credit.
    pub fn apply(&self, call: &mut Call, key: Key) -> Result<Amount, Error> {
        let give = |ledger: &mut Ledger| {
            let given = ledger.give_credit(self.id, self.period, self.day, self.amount, &self.stamp);
            saw_version(ledger.version());
            given.map_err(refused)
        };
        if self.meter == USD {
            let mut account = Account::open(call, key)?;
            let given = give(account.ledger_or_new())?;
            account.stay();
            return Ok(given);
        }
        accounts::make(accounts::open_to_make(call, key)?, |account| {
            let given = give(account.open_ledger(self.meter).map_err(accounts::exceeded)?)?;
            account.stay();
            Ok(given)
        })
    }

    /// After [`Self::apply`]: like [`LedgerChange::announce`]. `rest` are the meter, and the id if there is one.
    pub fn announce(&self, call: &Call, key: Key, rest: &[Str]) {
        let mut effect = Effect::new(NAME, b'G');
        effect.word(self.period.name().as_bytes());
        effect.int(self.day.number().into());
        effect.word(self.amount.to_text().as_bytes());
        call.replicate_with(key, CREDIT_EVENT, &with_stamp(effect, &self.stamp), rest);
        listing::changed(call, key);
    }
}

pub fn refused(error: CreditError) -> Error {
    match error {
        CreditError::BelowZero => Error::new("more than was given", "amount"),
        CreditError::Overflow => Error::new("sum out of range", "amount"),
    }
}

/// Applies the operation `G`.
fn apply_credit(call: &mut Call, key: Key, mut words: Words, mut args: Args) -> Outcome {
    let period = Period::parse(words.word()?).ok_or_else(malformed)?;
    let (day, amount) = (parse_day(&mut words)?, parse_amount(&mut words)?);
    let stamp = parse_stamp(&mut words)?;
    words.end()?;
    let meter = args.bytes("meter")?;
    check_name(meter, "meter")?;
    let id = if args.peek().is_some() { Some(parse_id(&mut args, "id")?.bytes()) } else { None };
    args.end()?;
    // Nothing is made for a credit that is refused: no key, and no ledger of the meter.
    let (found, none) = (AccountRead::find(call, key)?, Ledger::new());
    let ledger = found.as_ref().and_then(|account| account.meter(meter)).unwrap_or(&none);
    ledger.credit_with(period, day, amount).map_err(refused)?;
    drop(found);
    Credit { period, day, amount, stamp, meter, id }.apply(call, key)?;
    call.pass_on(key, CREDIT_EVENT);
    listing::changed(call, key);
    call.reply().ok();
    Ok(())
}

/// GW._BUDGET key effect [argument …]
fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, words) = Words::new(args.bytes("effect")?)?;
    match operation {
        b'G' => return apply_credit(call, key, words, args),
        restoration::OPERATION => return restoration::apply_effect(call, key, words, args),
        _ => {}
    }
    let change = LedgerChange::parse(operation, words)?;
    let id = if change.has_id() { parse_id(&mut args, "id")?.bytes() } else { &[] };
    args.end()?;
    let database = call.database();
    let mut account = Account::open(call, key)?;
    change.apply(&mut account, id, || KeyPlace::new(database, key.bytes()));
    drop(account);
    call.pass_on(key, change.event());
    change.note(call, key);
    call.reply().ok();
    Ok(())
}
