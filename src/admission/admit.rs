//! GW.ADMIT: all policies of all accounts of a request decide it, and it is charged to all of them or to none.

use gateway_core::admission::{self, Account, Amounts, Decision, Figures, Request, Row, Soft};

use super::accounts;
use super::args::{AdmissionArgs, LEASE, SHADOW, TTL};
use super::effect::{AccountsEffect, present};
use crate::budget::settings;
use crate::server::args::Short;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys, keys_with};
use crate::server::reply::Reply;
use crate::server::{Call, Key, Outcome};
use crate::stats::STATS;

pub const COMMAND: Command = Command {
    name: "GW.ADMIT",
    handler: entry!(admit, keys_with),
    flags: "write deny-oom fast",
    arity: -6,
    keys: Keys::With(Access::ReadUpdate),
    summary: "Admits a request if every policy of every account allows it, and charges its estimates to all of them, or \
              to none. Replies admitted, retry_after_ms, and a row for each policy: account, policy, allowed, limit, \
              remaining, retry_after_ms, reset_after_ms.",
    complexity: "O(N) in the policies of the accounts; O(M) in the money held of an account with M requests in flight",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key_as("account"),
        accounts::WITH_ARG,
        Arg::text("lease-id").after("LEASE"),
        Arg::integer("ttl-ms").after("TTL"),
        Arg::block("amounts", &[Arg::text("meter"), Arg::text("estimate")]).optional().multiple(),
        Arg::word("shadow", "SHADOW").optional(),
    ],
};

/// GW.ADMIT account [WITH numkeys account …] LEASE id TTL ms [meter estimate …] [SHADOW]
fn admit(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let keys = accounts::parse(&mut args)?;
    let asked = AdmissionArgs::parse(args, &[LEASE, TTL, SHADOW], true)?;
    let (now_ms, ttl_ms) = (call.now_ms(), asked.ttl_ms.unwrap_or(1));
    let now = present(now_ms, 0);
    let request = Request { id: asked.id.bytes(), ttl_ms, amounts: Amounts(&asked.amounts), shadow: asked.shadow };

    let reply = call.reply();
    let mut opened = accounts::open(call, &keys)?;
    let mut accounts: Short<Option<&mut Account>> = opened.iter_mut().map(|account| account.get()).collect();
    let ends_after_ms = |period| settings::reset_after_ms(period, now_ms);
    let decision = admission::admit(&mut accounts, &now, &request, &ends_after_ms).map_err(accounts::exceeded)?;
    count(&decision, asked.shadow);
    STATS.admit_no_account.add(accounts.iter().any(Option::is_none).into());
    let admitted = decision.answer.admitted || asked.shadow;
    reply.array(3).int(admitted.into()).int(decision.answer.retry_after_ms);
    reply_rows(&reply, &keys, &accounts, &decision.rows);
    drop(accounts);
    drop(opened);

    let keys_of =
        |indexes: &[usize]| indexes.iter().filter_map(|&index| keys.get(index).copied()).collect::<Short<_>>();
    if !decision.charged.is_empty() {
        AccountsEffect::admitted(&now, ttl_ms).replicate(call, &keys_of(&decision.charged), &asked.texts);
        tell_soft_limits(call, &keys, &decision.rows);
    } else if !decision.tidied.is_empty() {
        AccountsEffect::advanced(now_ms).replicate(call, &keys_of(&decision.tidied), &[]);
    }
    Ok(())
}

/// Tells of each account once, if this very request has taken budgets of it to their soft limits.
fn tell_soft_limits(call: &Call, keys: &[Key], rows: &[Row]) {
    let mut told = None;
    for row in rows.iter().filter(|row| row.soft == Soft::Reached) {
        // The rows of one account stand together.
        if told.replace(row.account) != Some(row.account)
            && let Some(&key) = keys.get(usize::from(row.account))
        {
            call.notify(key, c"gw.softbudget");
        }
    }
}

fn count(decision: &Decision, shadow: bool) {
    let Decision { answer, rows, repeated, .. } = decision;
    match (answer.admitted, shadow) {
        // A SHADOW request is not an admission.
        (true, true) => {}
        (true, false) if *repeated => STATS.admit_repeated.add(1),
        (true, false) => STATS.admit_admitted.add(1),
        (false, true) => STATS.admit_would_deny.add(1),
        (false, false) => STATS.admit_denied.add(1),
    }
    if answer.admitted && !repeated {
        STATS.admit_would_deny.add(u64::from(rows.iter().any(|row| row.shadow && !row.allowed)));
        STATS.admit_soft.add(u64::from(!shadow && rows.iter().any(|row| row.soft != Soft::Below)));
    }
}

fn reply_rows(reply: &Reply, keys: &[Key], accounts: &[Option<&mut Account>], rows: &[Row]) {
    reply.array(rows.len());
    for row in rows {
        let account = usize::from(row.account);
        let key = keys.get(account).map_or(&[][..], |key| key.bytes());
        let own = accounts.get(account).and_then(Option::as_ref);
        let policy = own.and_then(|account| account.policies().get(usize::from(row.policy)));
        reply.array(7).bytes(key).bytes(policy.map_or(&[][..], |policy| &policy.name)).int(row.allowed.into());
        match row.figures {
            Figures::Units { limit, remaining } => reply.count(limit).count(remaining),
            Figures::Money { limit, remaining } => {
                reply.bytes(limit.to_text().as_bytes()).bytes(remaining.to_text().as_bytes())
            }
        };
        reply.int(row.retry_after_ms).int(row.reset_after_ms);
    }
}
