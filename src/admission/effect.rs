//! The family's effects. Each is followed by the number of accounts and the accounts, then by the arguments in
//! capitals.
//!
//! | operation | words, and arguments | event |
//! |---|---|---|
//! | `A` | `at_ms remember_ms day ttl_ms [target]`, ID [METER AMOUNT …]: a request was admitted; with `target`, by the account of that index alone, and of the others everything due by then was done | `gw.admit` |
//! | `S` | `at_ms remember_ms keep_days version [failed cooldown_ms took_ms]`, ID [METER AMOUNT …]: an admission was settled; failed is 0 or 1, cooldown_ms 0 and took_ms -1 if there is none | `gw.settle` |
//! | `K` | `at_ms remember_ms ttl_ms`, ID: an admission's lease was extended | `gw.keepalive` |
//! | `X` | `at_ms`: everything due by then was done, without any other change | `gw.expire` |
//! | `R` | `at_ms`, NAME: a policy's count was forgotten | `gw.policyreset` |
//! | `P` | NAME POLICY …, in the words of GW.POLICYSET: a policy was set | `gw.policyset` |
//! | `J` | `at_ms idle_ms`, DOCUMENT: all policies were set, as in the document of GW.POLICYLIST … JSON; idle_ms is -1 if unchanged, 0 if the account does not expire | `gw.policyput` |
//! | `D` | NAME: a policy was removed | `gw.policydel` |
//! | `B` | `day`, NAME …: it was announced that these budgets are at their soft limits in the periods of that day | `gw.softbudget` |
//!
//! `B` follows the effect of the change that has left the budgets there, in one transaction. Replicas do not compare
//! spend with budgets: they note what was announced, and announce it to their own listeners.
//!
//! The event `gw.denied` says that a policy has refused a request. This is not a change, so there is no effect, and
//! replicas do not have the event.

use std::ffi::CStr;

use gateway_core::admission::document::{self, Named};
use gateway_core::admission::{Account, Amounts, Exceeded, Moment, Report, Settlement, TARGETS_MAX, Told};
use gateway_core::calendar::Day;
use gateway_core::ledger::feed::VERSION_MAX;
use gateway_core::ledger::{KEEP_DAYS_MAX, KEEP_DAYS_MIN, Overflow, Stamp};
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS};

use super::accounts;
use super::args::parse_lease_id;
use super::policy_words::parse_named;
use crate::budget::{listing, settings};
use crate::server::args::{Args, OwnedKey, Short};
use crate::server::call::entry;
use crate::server::command::{self, Access, Arg, Command, Keys, keys_counted};
use crate::server::effect::{Effect, Words, malformed, newer};
use crate::server::key::Opened;
use crate::server::{Call, Error, Key, Outcome, Str};

const NAME: &CStr = c"GW._ADMIT";

pub const COMMAND: Command = Command {
    name: command::name(NAME),
    handler: entry!(apply, keys_counted),
    flags: "write admin fast",
    arity: -4,
    keys: Keys::Counted(Access::Insert),
    summary: "Internal: applies a change to accounts, on replicas and from the AOF.",
    complexity: "O(N) in the accounts and their policies",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::text("effect"),
        Arg::integer("numkeys"),
        Arg::key_as("account").multiple(),
        Arg::text("argument").optional().multiple(),
    ],
};

/// The keyspace event of an operation, the same on the node that decides and on nodes that apply the effect.
fn event(operation: u8) -> &'static CStr {
    match operation {
        b'A' => c"gw.admit",
        b'S' => c"gw.settle",
        b'K' => c"gw.keepalive",
        b'X' => c"gw.expire",
        b'R' => c"gw.policyreset",
        b'P' => c"gw.policyset",
        b'J' => c"gw.policyput",
        b'B' => c"gw.softbudget",
        _ => c"gw.policydel",
    }
}

/// A change of accounts, as sent to replicas and the AOF.
pub struct AccountsEffect {
    operation: u8,
    effect: Effect,
}

impl AccountsEffect {
    fn new<const N: usize>(operation: u8, integers: [i64; N]) -> Self {
        Self { operation, effect: Effect::of(NAME, operation, integers) }
    }

    pub fn admitted(now: &Moment, ttl_ms: u64) -> Self {
        let Stamp { at_ms, remember_ms, .. } = now.stamp;
        Self::new(b'A', [at_ms, remember_ms.cast_signed(), now.day.number().into(), ttl_ms.cast_signed()])
    }

    /// Like [`Self::admitted`], by the account at `target` alone; of the others, everything due by then was done.
    pub fn routed(now: &Moment, ttl_ms: u64, target: usize) -> Self {
        let mut routed = Self::admitted(now, ttl_ms);
        routed.effect.int(i64::try_from(target).unwrap_or(i64::MAX));
        routed
    }

    pub fn settled(now: &Moment, report: &Report) -> Self {
        let Stamp { at_ms, remember_ms, keep_days, version } = now.stamp;
        let mut settled = Self::new(b'S', [at_ms, remember_ms.cast_signed(), keep_days.into(), version.cast_signed()]);
        if *report != Report::default() {
            let took_ms = report.took_ms.map_or(-1, u64::cast_signed);
            [report.failed.into(), report.cooldown_ms.cast_signed(), took_ms]
                .into_iter()
                .for_each(|word| settled.effect.int(word));
        }
        settled
    }

    pub fn kept_alive(now: &Moment, ttl_ms: u64) -> Self {
        let Stamp { at_ms, remember_ms, .. } = now.stamp;
        Self::new(b'K', [at_ms, remember_ms.cast_signed(), ttl_ms.cast_signed()])
    }

    /// Everything due by a time was done.
    pub fn advanced(at_ms: i64) -> Self {
        Self::new(b'X', [at_ms])
    }

    pub fn policy_set() -> Self {
        Self::new(b'P', [])
    }

    /// All policies were set. `idle_ms` is how long the account outlives its last admission: 0 if it does not expire,
    /// `None` if that is unchanged.
    pub fn policies_put(at_ms: i64, idle_ms: Option<u64>) -> Self {
        Self::new(b'J', [at_ms, idle_ms.map_or(-1, u64::cast_signed)])
    }

    pub fn policy_removed() -> Self {
        Self::new(b'D', [])
    }

    fn soft_told(today: Day) -> Self {
        Self::new(b'B', [today.number().into()])
    }

    pub fn policy_reset(at_ms: i64) -> Self {
        Self::new(b'R', [at_ms])
    }

    /// Sends the effect to the replicas and the AOF, and the event to listeners.
    pub fn replicate(&self, call: &Call, accounts: &[Key], rest: &[Str]) {
        call.replicate_all(accounts, event(self.operation), &self.effect, rest);
    }
}

/// After the effect of a change: announces budgets that the change has left at their soft limits, if there are any.
pub fn tell_soft(call: &Call, account: Key, today: Day, told: &Told) {
    if told.is_empty() {
        return;
    }
    let names: Short<OwnedKey> = told.iter().map(|name| OwnedKey::new(name)).collect();
    let names: Short<Str> = names.iter().map(OwnedKey::key).collect();
    AccountsEffect::soft_told(today).replicate(call, &[account], &names);
}

/// Settles an admission, if the account exists.
pub fn settle_one(
    opened: &mut Opened<Account>,
    moment: &Moment,
    id: &[u8],
    actuals: &Amounts,
    report: &Report,
) -> Result<Option<Settlement>, Overflow> {
    let settle = |account: &mut Account| {
        let settlement = account.settle(moment, id, actuals, report)?;
        account.note_named(moment.stamp.at_ms, actuals);
        settings::saw_version(account.ledger().version());
        Ok(Some(settlement))
    };
    accounts::change_one(opened, settle).unwrap_or(Ok(None))
}

/// GW._ADMIT effect numkeys account … [argument …]
fn apply(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (operation, mut words) = Words::new(args.bytes("effect")?)?;
    let count = args.int("numkeys", 1..=TARGETS_MAX)?;
    let keys = args.list(count, "account")?;
    match operation {
        b'P' => apply_policy(call, keys, words, args)?,
        b'B' => {
            let today = Day::from_number(words.int(i32::MIN..=i32::MAX)?).ok_or_else(malformed)?;
            words.end()?;
            let mut names = Short::new();
            while let Some(name) = args.optional() {
                names.push(name.bytes());
            }
            change_all(call, keys, args, |account| names.iter().for_each(|name| account.set_told(name, today)))?;
        }
        b'D' => {
            words.end()?;
            let name = args.bytes("name")?;
            change_all(call, keys, args, |account| {
                account.delete(name);
            })?;
        }
        _ => {
            let moment = Moment::time_only(words.int(0..=TIME_MAX_MS)?);
            match operation {
                b'A' | b'K' | b'S' => {
                    let spent = apply_admission(call, keys, operation, moment, words, args)?;
                    spent.iter().for_each(|&key| listing::changed(call, key));
                }
                b'X' => {
                    words.end()?;
                    change_all(call, keys, args, |account| {
                        account.advance(&moment);
                    })?;
                }
                b'R' => {
                    words.end()?;
                    let name = args.bytes("name")?;
                    change_all(call, keys, args, |account| {
                        account.reset(&moment, name);
                    })?;
                }
                b'J' => apply_policies(call, keys, &moment, words, args)?,
                _ => return Err(newer()),
            }
        }
    }
    call.pass_on_all(keys, event(operation));
    call.reply().ok();
    Ok(())
}

/// Applies the operations `A`, `S` and `K`. Returns the accounts whose spend has changed.
fn apply_admission<'a>(
    call: &mut Call,
    keys: &[Key<'a>],
    operation: u8,
    mut moment: Moment,
    mut words: Words,
    mut args: Args,
) -> Result<Short<Key<'a>>, Error> {
    moment.stamp.remember_ms = words.int(0..=PERIOD_MAX_MS)?;
    let (mut ttl_ms, mut target, mut report) = (1, None, Report::default());
    match operation {
        b'S' => {
            moment.stamp.keep_days = words.int(KEEP_DAYS_MIN..=KEEP_DAYS_MAX)?;
            moment.stamp.version = words.int(0..=VERSION_MAX)?;
            report.failed = words.int_or(0..=1, 0)? == 1;
            report.cooldown_ms = words.int_or(0..=PERIOD_MAX_MS, 0)?;
            report.took_ms = u64::try_from(words.int_or(-1..=PERIOD_MAX_MS.cast_signed(), -1)?).ok();
        }
        b'A' => {
            moment.day = Day::from_number(words.int(i32::MIN..=i32::MAX)?).ok_or_else(malformed)?;
            ttl_ms = words.int(1..=PERIOD_MAX_MS)?;
            target = usize::try_from(words.int_or(-1..=TARGETS_MAX as i64 - 1, -1)?).ok();
        }
        _ => ttl_ms = words.int(1..=PERIOD_MAX_MS)?,
    }
    words.end()?;
    let id = parse_lease_id(&mut args)?.bytes();
    let mut amounts = Short::new();
    while let Some(meter) = args.optional() {
        amounts.push((meter.bytes(), args.amount("amount")?));
    }
    let amounts = Amounts(&amounts);
    let mut opened = accounts::open(call, keys)?;
    let mut spent = Short::new();
    for (index, (&key, opened)) in keys.iter().zip(opened.iter_mut()).enumerate() {
        if operation == b'S' {
            let settlement = settle_one(opened, &moment, id, &amounts, &report).map_err(|_| malformed())?;
            if settlement.is_some_and(|settlement| settlement.spent) {
                spent.push(key);
            }
            continue;
        }
        accounts::change_one(opened, |account| match operation {
            b'A' if target.is_some_and(|target| target != index) => {
                account.advance(&moment);
            }
            b'A' => {
                account.charge(&moment, id, ttl_ms, &amounts, &mut []);
                account.note_named(moment.stamp.at_ms, &amounts);
            }
            _ => drop(account.keep_alive(&moment, id, ttl_ms)),
        });
        accounts::renew(opened);
    }
    Ok(spent)
}

/// Changes the accounts that exist. No arguments may follow.
fn change_all(call: &mut Call, keys: &[Key], args: Args, mut change: impl FnMut(&mut Account)) -> Outcome {
    args.end()?;
    accounts::open(call, keys)?.iter_mut().filter_map(|account| account.get()).for_each(&mut change);
    Ok(())
}

/// Applies the operation `P`.
fn apply_policy(call: &mut Call, keys: &[Key], words: Words, args: Args) -> Outcome {
    words.end()?;
    // The words contain the end of a block, so that the time does not matter.
    let (name, policy) = parse_named(args, 0).map_err(|_| malformed())?;
    for &key in keys {
        accounts::make(accounts::open_to_make(call, key)?, |account| {
            account.set(name, policy.clone()).map_err(accounts::exceeded)
        })?;
    }
    Ok(())
}

/// Sets all policies of an account. `idle_ms` is how long it outlives its last admission: 0 if it does not expire,
/// `None` if that is unchanged. An account that gets a budget does not expire.
pub fn put_policies(
    account: &mut Account,
    now: &Moment,
    policies: &[Named],
    idle_ms: Option<u64>,
) -> Result<(), Exceeded> {
    account.put(policies)?;
    if let Some(idle_ms) = idle_ms {
        account.set_idle(now, Some(idle_ms).filter(|&idle_ms| idle_ms > 0));
    }
    Ok(())
}

/// Applies the operation `J`.
fn apply_policies(call: &mut Call, keys: &[Key], now: &Moment, mut words: Words, mut args: Args) -> Outcome {
    let idle_ms = u64::try_from(words.int(-1..=PERIOD_MAX_MS.cast_signed())?).ok();
    words.end()?;
    let policies = document::read(args.bytes("document")?, 0).map_err(|_| malformed())?;
    args.end()?;
    for &key in keys {
        accounts::make(accounts::open_to_make(call, key)?, |account| {
            put_policies(account, now, &policies, idle_ms).map_err(accounts::exceeded)
        })?;
    }
    Ok(())
}
