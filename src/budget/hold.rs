//! GW.RESERVE, GW.COMMIT and GW.CANCEL: an estimate is held before a model is called, and committed or cancelled
//! afterwards.

use std::hash::{BuildHasher, RandomState};

use gateway_core::admission::Told;
use gateway_core::calendar::{Day, Period};
use gateway_core::ledger::feed::KeyPlace;
use gateway_core::ledger::{IdState, Ledger};
use gateway_core::money::Amount;
use gateway_core::top::{Label, Meter};
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS};
use lazy_static::lazy_static;

use super::account::Account;
use super::args::{Budgets, MORE, PERIODS, out_of_range, parse_id};
use super::clock;
use super::effect::LedgerChange;
use super::settings::{day_of, holds_max, next_version, stamp};
use crate::admission::effect::tell_soft;
use crate::server::args::OwnedKey;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::counter::Counter;
use crate::server::reply::Reply;
use crate::server::{Call, Error, Outcome, Str};
use crate::stats::STATS;
use crate::top::count;

pub const RESERVE: Command = Command {
    name: "GW.RESERVE",
    handler: entry!(reserve),
    flags: "write deny-oom",
    arity: -4,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Holds an estimate, if it fits all budgets, until it is committed, cancelled or expires. \
              Replies granted, hold_id, and of the tightest budget: period, budget, spent, held, remaining, \
              reset_after_ms.",
    complexity: "O(N) in the budgets named, O(M) in the holds if one is made",
    since: "0.1.0",
    tips: "nondeterministic_output",
    args: &[
        Arg::key(),
        Arg::text("estimate"),
        Arg::text("budget"),
        Arg::one_of("period", PERIODS).optional(),
        Arg::block("more", MORE).optional().multiple(),
        Arg::integer("ttl-ms").after("TTL").optional(),
        Arg::text("id").after("ID").optional(),
    ],
};

pub const COMMIT: Command = Command {
    name: "GW.COMMIT",
    handler: entry!(commit),
    flags: "write",
    arity: 4,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Ends a hold and charges what its request has cost, once. Replies changed, state, charged, over, month_total.",
    complexity: "O(N) in the holds",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("hold-id"), Arg::text("actual")],
};

pub const CANCEL: Command = Command {
    name: "GW.CANCEL",
    handler: entry!(cancel),
    flags: "write",
    arity: 3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Cancels a hold: nothing is charged. Replies changed, state, charged, over, month_total.",
    complexity: "O(N) in the holds",
    since: "0.1.0",
    tips: "",
    args: &[Arg::key(), Arg::text("hold-id")],
};

/// How long a hold lasts by default, in milliseconds: longer than requests to a model usually take.
const TTL_DEFAULT_MS: u64 = 300_000;

const NO_HOLD: Error = Error::coded("NOHOLD no such hold: it was never made, or is forgotten");

#[derive(Clone, Copy)]
enum Opt {
    Ttl,
    Id,
}

/// GW.RESERVE key estimate budget [period] [budget period …] [TTL ttl-ms] [ID id]
fn reserve(call: &mut Call) -> Outcome {
    const OPTIONS: [(&str, Opt); 2] = [("TTL", Opt::Ttl), ("ID", Opt::Id)];
    let mut args = call.args();
    let key = args.key()?;
    let estimate = args.amount("estimate")?;
    let (budgets, mut option) = Budgets::parse(&mut args, &OPTIONS)?;
    let (mut ttl_ms, mut id) = (TTL_DEFAULT_MS, None::<Str>);
    while let Some(given) = option {
        match given {
            Opt::Ttl => ttl_ms = args.int("TTL", 1..=PERIOD_MAX_MS)?,
            Opt::Id => id = Some(parse_id(&mut args, "ID")?),
        }
        option = args.option(&OPTIONS)?;
    }

    let now_ms = call.now_ms();
    let today = day_of(now_ms);
    let database = call.database();
    let mut account = Account::open(call, key)?;
    let none = Ledger::new();
    let ledger = account.ledger().map_or(&none, |ledger| ledger);
    let state = id.and_then(|id| ledger.state(now_ms, id.bytes()));
    if let Some(
        IdState::Expired { .. }
        | IdState::Cancelled { .. }
        | IdState::Committed { .. }
        | IdState::Charged { .. }
        | IdState::Credited { .. },
    ) = state
    {
        return Err(Error::new("id already used", "ID"));
    }
    let check = ledger.within(now_ms, today, budgets.as_slice(), Some(estimate)).ok_or(Error::ARITY)?;
    // The hold exists, so this call repeats one whose reply was lost.
    let is_there = state.is_some();
    let granted = is_there || check.within;
    if granted && !is_there && !ledger.can_hold(now_ms, holds_max()) {
        return Err(Error::more_than(holds_max(), "holds", "estimate"));
    }
    let is_ahead = ledger.is_ahead_of(now_ms);
    let stamp = stamp(now_ms, next_version(ledger, now_ms));
    let own = (granted && id.is_none()).then(new_id);
    let id = id.or(own.as_ref().map(OwnedKey::key));
    let made = id.filter(|_| granted && !is_there);
    if let Some(id) = made {
        let expires_at_ms = now_ms.saturating_add_unsigned(ttl_ms).min(TIME_MAX_MS);
        let change = LedgerChange::Hold { day: today, estimate, expires_at_ms, stamp };
        change.apply(&mut account, id.bytes(), || KeyPlace::new(database, key.bytes()));
        let told = account.tell_soft(now_ms);
        drop(account);
        change.announce(call, key, Some(id));
        tell_soft(call, key, today, &told);
    } else {
        drop(account);
        clock::follow_if(call, key, is_ahead);
    }
    let counter = match granted {
        true if is_there => &STATS.budget_repeated,
        true => &STATS.budget_holds,
        false => &STATS.budget_exceeded,
    };
    counter.add(1);
    if !granted {
        const LABEL: Label = Label::new(RESERVE.name.as_bytes());
        count::denied(now_ms, key, LABEL);
    }
    let reply = call.reply();
    reply.array(8).int(granted.into());
    match id {
        Some(id) if granted => reply.bytes(id.bytes()),
        _ => reply.null(),
    };
    let shown = if made.is_some() { check.holding(estimate) } else { check };
    budgets.reply(&shown, now_ms, &reply);
    Ok(())
}

/// An id that no other hold has had, independent of clocks and versions: a random number of this process, and a
/// sequence number.
fn new_id() -> OwnedKey {
    lazy_static! {
        // The hash tables of the standard library get their random keys from the operating system.
        static ref PROCESS: u64 = RandomState::new().hash_one("holds");
    }
    static LAST: Counter = Counter::new();
    LAST.add(1);
    OwnedKey::new(format!("{:016x}-{}", *PROCESS, LAST.get()).as_bytes())
}

/// GW.COMMIT key hold-id actual
fn commit(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let id = parse_id(&mut args, "hold-id")?;
    let actual = args.amount("actual")?;
    args.end()?;
    end_hold(call, key, id, Some(actual))
}

/// GW.CANCEL key hold-id
fn cancel(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let key = args.key()?;
    let id = parse_id(&mut args, "hold-id")?;
    args.end()?;
    end_hold(call, key, id, None)
}

/// Commits a hold or, without an amount, cancels it. A hold that has ended already is not changed. Replies the outcome
/// of the hold.
fn end_hold(call: &mut Call, key: Str, id: Str, actual: Option<Amount>) -> Outcome {
    let now_ms = call.now_ms();
    let database = call.database();
    let mut account = Account::open(call, key)?;
    let ledger = account.ledger().ok_or(NO_HOLD)?;
    let state = ledger.state(now_ms, id.bytes()).ok_or(NO_HOLD)?;
    let (IdState::Open { day, estimate, .. } | IdState::Expired { day, estimate }) = state else {
        STATS.budget_repeated.add(1);
        let (ended, is_ahead) = (Ended::of(ledger, state), ledger.is_ahead_of(now_ms));
        drop(account);
        clock::follow_if(call, key, is_ahead);
        ended.reply(false, &call.reply());
        return Ok(());
    };
    let stamp = stamp(now_ms, next_version(ledger, now_ms));
    let (change, state, counter) = match actual {
        Some(actual) => {
            ledger.totals_with(day, actual).map_err(|overflow| out_of_range(overflow, "actual"))?;
            let state = IdState::Committed { day, charged: actual, over: actual > estimate };
            let spent_ms = account.counts_money().then_some(now_ms);
            (LedgerChange::Commit { actual, stamp, spent_ms }, state, &STATS.budget_commits)
        }
        None => (LedgerChange::Cancel { stamp }, IdState::Cancelled { day }, &STATS.budget_cancels),
    };
    change.apply(&mut account, id.bytes(), || KeyPlace::new(database, key.bytes()));
    counter.add(1);
    let ended = Ended::of(account.ledger_or_new(), state);
    let told = if actual.is_some() { account.tell_soft(now_ms) } else { Told::new() };
    drop(account);
    change.announce(call, key, Some(id));
    tell_soft(call, key, day_of(now_ms), &told);
    count::used(now_ms, key, Meter::Usd, actual.unwrap_or(Amount::ZERO));
    ended.reply(true, &call.reply());
    Ok(())
}

/// The outcome of a hold.
struct Ended {
    state: &'static str,
    charged: Amount,
    over: bool,
    month_total: Amount,
}

impl Ended {
    fn of(ledger: &Ledger, state: IdState) -> Ended {
        let ended = |state, day: Day, charged, over| Ended {
            state,
            charged,
            over,
            month_total: ledger.spent(Period::Month, day),
        };
        match state {
            IdState::Open { day, .. } => ended("open", day, Amount::ZERO, false),
            IdState::Expired { day, .. } => ended("expired", day, Amount::ZERO, false),
            IdState::Cancelled { day } => ended("cancelled", day, Amount::ZERO, false),
            IdState::Committed { day, charged, over } => ended("committed", day, charged, over),
            IdState::Charged { day, amount } => ended("charged", day, amount, false),
            IdState::Credited { day, .. } => ended("credited", day, Amount::ZERO, false),
        }
    }

    fn reply(&self, changed: bool, reply: &Reply) {
        reply
            .array(5)
            .int(changed.into())
            .bytes(self.state)
            .bytes(self.charged.to_text().as_bytes())
            .int(self.over.into())
            .bytes(self.month_total.to_text().as_bytes());
    }
}
