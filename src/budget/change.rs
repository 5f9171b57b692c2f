//! What commands change in a ledger, as replicas and the AOF are told of it.

use std::ffi::CStr;

use gateway_core::calendar::Day;
use gateway_core::ledger::feed::{Place, VERSION_MAX};
use gateway_core::ledger::{KEEP_DAYS_MAX, KEEP_DAYS_MIN, Ledger, Terms, Totals};
use gateway_core::money::Amount;
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS};

use super::account::Account;
use super::{listing, parse_id, saw_version};
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::effect::{Effect, Words, malformed};
use crate::server::{Call, Error, Key, Outcome, Str};

/// The family's effects, all of them decided where they were first made: a day is in the time zone of that node.
/// Amounts are decimals, days count from 1970-01-01.
const EFFECT_NAME: &CStr = c"GW._BUDGET";

pub const EFFECT: Command = Command {
    name: "GW._BUDGET",
    handler: entry!(apply),
    flags: "write admin fast",
    arity: -3,
    keys: Keys::One(Access::Insert),
    summary: "Internal: a change of a ledger, for replicas and the AOF.",
    complexity: "O(1)",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("effect"), Arg::text("id").optional()],
};

#[derive(Clone, Copy)]
pub enum Change {
    /// `C day amount keep_days version`; `F day amount keep_days version at` where the time of ids or holds has come.
    Charge { day: Day, amount: Amount, keep_days: u32, version: u64, forget_at_ms: Option<i64> },
    /// `O day amount at keep_days remember version`, and the id.
    ChargeOnce { day: Day, amount: Amount, terms: Terms },
    /// `H day estimate expires_at at keep_days remember version`, and the id.
    Hold { day: Day, estimate: Amount, expires_at_ms: i64, terms: Terms },
    /// `K actual at keep_days remember version`, and the id.
    Commit { actual: Amount, terms: Terms },
    /// `X at keep_days remember version`, and the id.
    Cancel { terms: Terms },
    /// `A version`
    Acknowledge { version: u64 },
    /// `L version`
    ListAnew { version: u64 },
}

impl Change {
    /// Whoever decides has made sure that it is possible; where it is not, nothing changes.
    pub fn apply(&self, ledger: &mut Ledger, id: &[u8], place: impl FnOnce() -> Place) -> Option<Totals> {
        let totals = match *self {
            Change::Charge { day, amount, keep_days, version, forget_at_ms } => {
                if let Some(at_ms) = forget_at_ms {
                    ledger.forget(at_ms);
                }
                ledger.charge(day, amount, keep_days, version).ok()
            }
            Change::ChargeOnce { day, amount, terms } => ledger.charge_once(id, day, amount, &terms).ok(),
            Change::Hold { day, estimate, expires_at_ms, terms } => {
                ledger.hold(id, day, estimate, expires_at_ms, &terms);
                None
            }
            Change::Commit { actual, terms } => ledger.commit(id, actual, &terms).ok().flatten(),
            Change::Cancel { terms } => {
                ledger.cancel(id, &terms);
                None
            }
            Change::Acknowledge { version } => {
                ledger.acknowledge(version, place());
                None
            }
            Change::ListAnew { version } => {
                ledger.list_anew(version, place());
                None
            }
        };
        saw_version(ledger.version());
        totals
    }

    /// After [`Self::apply`]: tells the replicas and the AOF, and the feed.
    pub fn announce(&self, call: &Call, key: Key, event: &CStr, id: Option<Str>) {
        match id {
            Some(id) => call.replicate_with(key, event, &self.effect(), &[id]),
            None => call.replicate(key, event, &self.effect()),
        }
        self.note(call, key);
    }

    fn note(&self, call: &Call, key: Key) {
        if !matches!(self, Change::Hold { .. } | Change::Cancel { .. } | Change::Acknowledge { .. }) {
            listing::changed(call, key);
        }
    }

    fn effect(&self) -> Effect {
        let number = |day: Day| i64::from(day.number());
        match *self {
            Change::Charge { day, amount, keep_days, version, forget_at_ms } => {
                let operation = if forget_at_ms.is_some() { b'F' } else { b'C' };
                let mut effect = with_amount(operation, Some(day), amount);
                effect.int(keep_days.into());
                effect.int(version as i64);
                if let Some(at_ms) = forget_at_ms {
                    effect.int(at_ms);
                }
                effect
            }
            Change::ChargeOnce { day, amount, terms } => with_terms(with_amount(b'O', Some(day), amount), &terms),
            Change::Hold { day, estimate, expires_at_ms, terms } => {
                let mut effect = Effect::of(EFFECT_NAME, b'H', [number(day), expires_at_ms]);
                effect.word(estimate.to_text().as_bytes());
                with_terms(effect, &terms)
            }
            Change::Commit { actual, terms } => with_terms(with_amount(b'K', None, actual), &terms),
            Change::Cancel { terms } => with_terms(Effect::new(EFFECT_NAME, b'X'), &terms),
            Change::Acknowledge { version } => Effect::of(EFFECT_NAME, b'A', [version as i64]),
            Change::ListAnew { version } => Effect::of(EFFECT_NAME, b'L', [version as i64]),
        }
    }

    fn parse(operation: u8, mut list: Words) -> Result<Change, Error> {
        let words = &mut list;
        let change = match operation {
            b'C' | b'F' => Change::Charge {
                day: parse_day(words)?,
                amount: parse_amount(words)?,
                keep_days: words.int(KEEP_DAYS_MIN..=KEEP_DAYS_MAX)?,
                version: parse_version(words)?,
                forget_at_ms: match operation {
                    b'F' => Some(words.int(0..=TIME_MAX_MS)?),
                    _ => None,
                },
            },
            b'O' => {
                let (day, amount) = (parse_day(words)?, parse_amount(words)?);
                Change::ChargeOnce { day, amount, terms: parse_terms(words)? }
            }
            b'H' => {
                let (day, expires_at_ms) = (parse_day(words)?, words.int(0..=TIME_MAX_MS)?);
                let estimate = parse_amount(words)?;
                if estimate < Amount::ZERO {
                    return Err(malformed());
                }
                Change::Hold { day, estimate, expires_at_ms, terms: parse_terms(words)? }
            }
            b'K' => Change::Commit { actual: parse_amount(words)?, terms: parse_terms(words)? },
            b'X' => Change::Cancel { terms: parse_terms(words)? },
            b'A' => Change::Acknowledge { version: parse_version(words)? },
            b'L' => Change::ListAnew { version: parse_version(words)? },
            _ => return Err(malformed()),
        };
        list.end().map(|()| change)
    }

    fn has_id(&self) -> bool {
        !matches!(self, Change::Charge { .. } | Change::Acknowledge { .. } | Change::ListAnew { .. })
    }
}

fn with_amount(operation: u8, day: Option<Day>, amount: Amount) -> Effect {
    let mut effect = Effect::new(EFFECT_NAME, operation);
    if let Some(day) = day {
        effect.int(day.number().into());
    }
    effect.word(amount.to_text().as_bytes());
    effect
}

fn with_terms(mut effect: Effect, terms: &Terms) -> Effect {
    effect.int(terms.at_ms);
    effect.int(terms.keep_days.into());
    effect.int(terms.remember_ms as i64);
    effect.int(terms.version as i64);
    effect
}

fn parse_day(words: &mut Words) -> Result<Day, Error> {
    Day::from_number(words.int(i32::MIN..=i32::MAX)?).ok_or_else(malformed)
}

fn parse_amount(words: &mut Words) -> Result<Amount, Error> {
    Amount::parse(words.word()?).map_err(|_| malformed())
}

fn parse_version(words: &mut Words) -> Result<u64, Error> {
    words.int(0..=VERSION_MAX)
}

fn parse_terms(words: &mut Words) -> Result<Terms, Error> {
    Ok(Terms {
        at_ms: words.int(0..=TIME_MAX_MS)?,
        keep_days: words.int(KEEP_DAYS_MIN..=KEEP_DAYS_MAX)?,
        remember_ms: words.int(0..=PERIOD_MAX_MS)?,
        version: parse_version(words)?,
    })
}

/// GW._BUDGET key effect [id]
fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let (operation, words) = Words::new(args.bytes("effect")?)?;
    let change = Change::parse(operation, words)?;
    let id = if change.has_id() { parse_id(&mut args, "id")?.bytes() } else { &[] };
    args.end()?;
    let database = call.database();
    let mut account = Account::open(call, key)?;
    change.apply(account.ledger_or_new(), id, || Place::new(database, key.bytes()));
    drop(account);
    call.pass_on(key, c"gw.budget");
    change.note(call, key);
    call.reply().ok();
    Ok(())
}
