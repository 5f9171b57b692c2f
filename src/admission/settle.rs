//! GW.SETTLE and GW.KEEPALIVE: settle an admission, and extend its lease.

use gateway_core::admission::{Account, Amounts, REQUESTS, Standing, Told};
use gateway_core::money::Amount;
use gateway_core::top::Meter;

use super::accounts;
use super::args::{AdmissionArgs, COOLDOWN, FAILED, LEASE, TOOK, TTL};
use super::effect::{AccountsEffect, settle_one, tell_soft};
use crate::budget::args::out_of_range;
use crate::budget::listing;
use crate::budget::settings::{self, present};
use crate::server::args::Short;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys, keys_with};
use crate::server::key::Opened;
use crate::server::{Call, Key, Outcome};
use crate::stats::STATS;
use crate::top::count;

pub const SETTLE: Command = Command {
    name: "GW.SETTLE",
    handler: entry!(settle, keys_with),
    flags: "write fast",
    arity: -4,
    keys: Keys::With(Access::ReadUpdate),
    summary: "Replaces an admission's estimates by what was used, and frees its slot, once; says whether the call failed, and \
              how long it took. Replies SETTLED, LATE if its lease had expired, REPEATED or UNKNOWN.",
    complexity: "O(N) in the policies of the accounts; O(M) in the money held of an account with M requests in flight",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key_as("account"),
        accounts::WITH_ARG,
        Arg::text("lease-id").after("LEASE"),
        Arg::block("amounts", &[Arg::text("meter"), Arg::text("actual")]).optional().multiple(),
        Arg::block(
            "failure",
            &[Arg::word("failed", "FAILED"), Arg::integer("cooldown-ms").after("COOLDOWN").optional()],
        )
        .optional(),
        Arg::integer("took-ms").after("TOOK").optional(),
    ],
};

pub const KEEP_ALIVE: Command = Command {
    name: "GW.KEEPALIVE",
    handler: entry!(keep_alive, keys_with),
    flags: "write fast",
    arity: -6,
    keys: Keys::With(Access::ReadUpdate),
    summary: "Extends an admission's lease. Replies the number of accounts in which it was live.",
    complexity: "O(N) in the accounts; O(M) in the money held of an account with M requests in flight",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key_as("account"),
        accounts::WITH_ARG,
        Arg::text("lease-id").after("LEASE"),
        Arg::integer("ttl-ms").after("TTL"),
    ],
};

/// The accounts in which a lease has one of the `wanted` standings, and the standings in all accounts.
fn select<'a>(
    accounts: &[Key<'a>],
    opened: &mut [Opened<Account>],
    now_ms: i64,
    id: &[u8],
    wanted: &[Standing],
) -> (Short<Key<'a>>, Short<Standing>) {
    let (mut keys, mut standings) = (Short::new(), Short::new());
    for (&key, account) in accounts.iter().zip(opened) {
        let standing = account.get().map_or(Standing::Unknown, |account| account.standing(now_ms, id));
        standings.push(standing);
        if wanted.contains(&standing) {
            keys.push(key);
        }
    }
    (keys, standings)
}

/// GW.SETTLE account [WITH numkeys account …] LEASE id [meter actual …] [FAILED [COOLDOWN ms]] [TOOK ms]
fn settle(call: &mut Call) -> Outcome {
    const WANTED: [Standing; 2] = [Standing::Live, Standing::Expired];
    let mut args = call.args();
    let accounts = accounts::parse(&mut args)?;
    let asked = AdmissionArgs::parse(args, &accounts, &[LEASE, FAILED, COOLDOWN, TOOK], true)?;
    let (now_ms, id, actuals) = (call.now_ms(), asked.id.bytes(), Amounts(&asked.amounts));

    let mut opened = accounts::open(call, &accounts)?;
    let (keys, standings) = select(&accounts, &mut opened, now_ms, id, &WANTED);
    let affected = || standings.iter().map(|standing| WANTED.contains(standing));
    let mut version = 0;
    for (account, _) in opened.iter_mut().zip(affected()).filter(|(_, affected)| *affected) {
        let Some(account) = account.get() else { continue };
        account.can_settle(now_ms, id, &actuals).map_err(|overflow| out_of_range(overflow, "actual"))?;
        for (_, ledger) in account.ledgers() {
            version = version.max(settings::next_version(ledger, now_ms));
        }
    }
    let moment = present(now_ms, version);
    let (mut spent, mut reached) = (Short::<Key>::new(), Short::<(Key, Told)>::new());
    for ((&key, account), _) in accounts.iter().zip(opened.iter_mut()).zip(affected()).filter(|(_, affected)| *affected)
    {
        let settlement = settle_one(account, &moment, id, &actuals, &asked.report);
        if let Some(settlement) = settlement.map_err(|overflow| out_of_range(overflow, "actual"))? {
            if settlement.spent {
                spent.push(key);
            }
            STATS.breaker_opened.add(settlement.opened.into());
            STATS.breaker_closed.add(settlement.closed.into());
            STATS.cooldowns.add((asked.report.cooldown_ms > 0).into());
        }
        let told = account.get().map(|account| account.tell_soft(&moment)).unwrap_or_default();
        if !told.is_empty() {
            reached.push((key, told));
        }
    }
    drop(opened);
    if !keys.is_empty() {
        AccountsEffect::settled(&moment, &asked.report).replicate(call, &keys, &asked.texts);
        spent.iter().for_each(|&key| listing::changed(call, key));
        reached.iter().for_each(|(key, told)| tell_soft(call, *key, moment.day, told));
        // As in the policies, an admission is one request unless it names a number of requests.
        let request = actuals.of(REQUESTS).is_none().then_some((Meter::Requests, Amount::ONE));
        let named = asked.amounts.iter().map(|&(meter, amount)| (Meter::of(meter), amount));
        count::all_used(now_ms, &keys, named.chain(request));
    }
    let (counter, outcome) = match [Standing::Live, Standing::Expired, Standing::Settled]
        .into_iter()
        .find(|standing| standings.contains(standing))
    {
        Some(Standing::Live) => (&STATS.settle_done, "SETTLED"),
        Some(Standing::Expired) => (&STATS.settle_late, "LATE"),
        Some(_) => (&STATS.settle_repeated, "REPEATED"),
        None => (&STATS.settle_unknown, "UNKNOWN"),
    };
    counter.add(1);
    call.reply().bytes(outcome);
    Ok(())
}

/// GW.KEEPALIVE account [WITH numkeys account …] LEASE id TTL ms
fn keep_alive(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let accounts = accounts::parse(&mut args)?;
    let asked = AdmissionArgs::parse(args, &accounts, &[LEASE, TTL], false)?;
    let (now_ms, id, ttl_ms) = (call.now_ms(), asked.id.bytes(), asked.ttl_ms.unwrap_or(1));

    let moment = present(now_ms, 0);
    let mut opened = accounts::open(call, &accounts)?;
    let (keys, _) = select(&accounts, &mut opened, now_ms, id, &[Standing::Live]);
    for opened in &mut opened {
        if opened.get().is_some_and(|account| account.standing(now_ms, id) == Standing::Live) {
            accounts::change_one(opened, |account| account.keep_alive(&moment, id, ttl_ms));
            accounts::renew(opened);
        }
    }
    drop(opened);
    if !keys.is_empty() {
        AccountsEffect::kept_alive(&moment, ttl_ms).replicate(call, &keys, &asked.texts);
    }
    call.reply().count(keys.len() as u64);
    Ok(())
}
