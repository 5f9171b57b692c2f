//! GW.ADMIT: a request decided by all policies of all its accounts, and charged to all of them or to none.

use gateway_core::admission::{self, Account, Amounts, Decision, Figures, Full, Request, Row, Soft};

use super::{Asked, EFFECT_NAME, LEASE, SHADOW, TTL, moment, open_accounts, parse_accounts, tidied};
use crate::budget;
use crate::server::args::Short;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys, keys_with};
use crate::server::effect::Effect;
use crate::server::key::Opened;
use crate::server::reply::Reply;
use crate::server::{Call, Error, Key, Outcome};
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
        super::WITH_ARG,
        Arg::text("lease-id").after("LEASE"),
        Arg::integer("ttl-ms").after("TTL"),
        Arg::block("amounts", &[Arg::text("meter"), Arg::text("estimate")]).optional().multiple(),
        Arg::word("shadow", "SHADOW").optional(),
    ],
};

/// GW.ADMIT account [WITH numkeys account …] LEASE id TTL ms [meter estimate …] [SHADOW]
fn admit(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let accounts = parse_accounts(&mut args)?;
    let asked = Asked::parse(args, &[LEASE, TTL, SHADOW], true)?;
    let (now_ms, ttl_ms) = (call.now_ms(), asked.ttl_ms.unwrap_or(1));
    let moment = moment(now_ms, 0);
    let request = Request { id: asked.id.bytes(), ttl_ms, amounts: Amounts(&asked.amounts), shadow: asked.shadow };

    let reply = call.reply();
    let mut opened = open_accounts(call, &accounts)?;
    let (mut places, mut present) = (Short::<Key>::new(), Short::<&mut Account>::new());
    for (&key, account) in accounts.iter().zip(opened.iter_mut()) {
        if let Some(account) = account.get() {
            places.push(key);
            present.push(account);
        }
    }
    let ends_after_ms = |period| budget::reset_after_ms(period, now_ms);
    let decision = admission::admit(&mut present, &moment, &request, &ends_after_ms).map_err(full)?;
    drop(present);
    count(&decision, asked.shadow);
    STATS.admit_no_account.add((places.len() < accounts.len()).into());
    let admitted = decision.answer.admitted || asked.shadow;
    reply.array(3).int(admitted.into()).int(decision.answer.retry_after_ms);
    reply_rows(&reply, &accounts, &mut opened, &decision.rows);

    // The soft limits that this very request has reached, by the accounts' places.
    let mut reached = Vec::new();
    if !decision.charged.is_empty() && decision.rows.iter().any(|row| row.soft == Soft::Reached) {
        let mut rows = decision.rows.iter();
        for (&key, account) in accounts.iter().zip(opened.iter_mut()) {
            let count = account.get().map_or(0, |account| account.policies().len());
            if rows.by_ref().take(count).filter(|row| row.soft == Soft::Reached).count() > 0 {
                reached.push(key);
            }
        }
    }
    drop(opened);

    let keys_of = |list: &[usize]| list.iter().filter_map(|&place| places.get(place).copied()).collect::<Short<Key>>();
    if !decision.charged.is_empty() {
        let mut effect = Effect::of(EFFECT_NAME, b'A', [now_ms, moment.terms.remember_ms as i64]);
        effect.int(moment.day.number().into());
        effect.int(ttl_ms as i64);
        call.replicate_all(&keys_of(&decision.charged), c"gw.admit", &effect, &asked.texts);
        reached.iter().for_each(|&key| call.notify(key, c"gw.softbudget"));
    } else if !decision.tidied.is_empty() {
        call.replicate_all(&keys_of(&decision.tidied), c"gw.expire", &tidied(now_ms), &[]);
    }
    Ok(())
}

pub(super) fn full(full: Full) -> Error {
    Error::coded(match full {
        Full::Policies => "ERR more than 32 policies: account",
        Full::Meters => "ERR budgets of more than 9 meters: account",
        Full::Holds => "ERR more than 10000 holds: account",
    })
}

fn count(decision: &Decision, shadow: bool) {
    let Decision { answer, rows, repeated, .. } = decision;
    match (answer.admitted, shadow) {
        // One that only asks is no admission.
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

fn reply_rows(reply: &Reply, accounts: &[Key], opened: &mut [Opened<Account>], rows: &[Row]) {
    reply.array(rows.len());
    let mut rows = rows.iter();
    for (key, account) in accounts.iter().zip(opened) {
        let Some(account) = account.get() else { continue };
        for (held, row) in account.policies().iter().zip(rows.by_ref()) {
            reply.array(7).bytes(key.bytes()).bytes(&held.name).int(row.allowed.into());
            match row.figures {
                Figures::Units { limit, remaining } => reply.count(limit).count(remaining),
                Figures::Money { limit, remaining } => {
                    reply.bytes(limit.to_text().as_bytes()).bytes(remaining.to_text().as_bytes())
                }
            };
            reply.int(row.retry_after_ms).int(row.reset_after_ms);
        }
    }
}
