//! GW.ADMIT: all policies of all accounts of a request decide it, and it is charged to all accounts or to none.

use gateway_core::admission::form::Form;
use gateway_core::admission::{
    self, Account, Amounts, Decision, Figures, Kind, Policy, Request, Row, Soft, Told, Undecided, Used,
};
use gateway_core::top::Label;

use super::accounts;
use super::args::{AdmissionArgs, LEASE, REQUIRE, ROWS, RowsWanted, SHADOW, TTL};
use super::effect::{AccountsEffect, tell_soft};
use crate::budget::settings::{self, present};
use crate::server::args::Short;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys, keys_with};
use crate::server::reply::Reply;
use crate::server::{Call, Error, Key, Outcome};
use crate::stats::STATS;
use crate::top::count::all_denied;

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
        Arg::word("require", "REQUIRE").optional(),
        Arg::one_of(
            "rows",
            &[
                Arg::word("all", "ALL"),
                Arg::word("refused", "REFUSED"),
                Arg::word("none", "NONE"),
                Arg::word("detail", "DETAIL"),
            ],
        )
        .after("ROWS")
        .optional(),
    ],
};

/// GW.ADMIT account [WITH numkeys account …] LEASE id TTL ms [meter estimate …] [SHADOW] [REQUIRE]
/// [ROWS ALL|REFUSED|NONE|DETAIL]
fn admit(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let keys = accounts::parse(&mut args)?;
    let (reply, now_ms) = (call.reply(), call.now_ms());
    // The accounts come from memory while the other arguments are read.
    let opened = accounts::open(call, &keys);
    let asked = AdmissionArgs::parse(args, &keys, &[LEASE, TTL, SHADOW, REQUIRE, ROWS], true)?;
    let mut opened = opened?;
    let ttl_ms = asked.ttl_ms.unwrap_or(1);
    let now = present(now_ms, 0);
    let rows_wanted = asked.rows.unwrap_or(RowsWanted::All);
    let request = Request {
        id: asked.id.bytes(),
        ttl_ms,
        amounts: Amounts(&asked.amounts),
        shadow: asked.shadow,
        rows: matches!(rows_wanted, RowsWanted::All | RowsWanted::Detail),
        holds_max: settings::holds_max(),
    };

    let mut accounts: Short<Option<&mut Account>> = opened.iter_mut().map(|account| account.get()).collect();
    if let Some(missing) = accounts.iter().position(Option::is_none) {
        STATS.admit_no_account.add(1);
        if asked.require {
            let name = keys.get(missing).map_or(&[][..], |key| key.bytes());
            return Err(Error::coded_for("NOACCOUNT", "no such account", name));
        }
    }
    let ends_after_ms = |period| settings::reset_after_ms(period, now_ms);
    // Passed in, because returning so many would copy them several times.
    let mut rows = admission::Rows::new();
    let decision = admission::admit(&mut accounts, &now, &request, &ends_after_ms, &mut rows);
    let decision = decision.map_err(|undecided| not_decided(undecided, request.id))?;
    count(&decision, &rows, asked.shadow);
    let admitted = decision.answer.admitted || asked.shadow;
    reply.array(3).int(admitted.into()).int(decision.answer.retry_after_ms);
    let rows_reply = RowsReply { reply, keys: &keys, now_ms, wanted: rows_wanted };
    rows_reply.send(&mut accounts, &rows);
    // After most requests all budgets are below their soft limits, as their rows show.
    let mut told = Short::<(Key, Told)>::new();
    if rows.iter().any(|row| row.soft != Soft::Below) {
        for &index in &decision.charged {
            if let (Some(&key), Some(Some(account))) = (keys.get(index), accounts.get_mut(index)) {
                told.push((key, account.tell_soft(&now)));
            }
        }
    }
    if !admitted {
        let refusal = |row: &Row| {
            let index = usize::from(row.account);
            Some((*keys.get(index)?, Label::new(accounts.get(index)?.as_ref()?.name_of(row.policy)?)))
        };
        all_denied(now_ms, rows.iter().filter(|row| row.refuses()).filter_map(refusal));
    }
    drop(accounts);
    for &index in &decision.charged {
        opened.get_mut(index).into_iter().for_each(accounts::renew);
    }
    drop(opened);

    let keys_of =
        |indexes: &[usize]| indexes.iter().filter_map(|&index| keys.get(index).copied()).collect::<Short<_>>();
    if !decision.charged.is_empty() {
        AccountsEffect::admitted(&now, ttl_ms).replicate(call, &keys_of(&decision.charged), &asked.texts);
        told.iter().for_each(|(key, told)| tell_soft(call, *key, now.day, told));
    } else if !decision.tidied.is_empty() {
        AccountsEffect::advanced(now_ms).replicate(call, &keys_of(&decision.tidied), &[]);
    }
    if !admitted {
        for_each_account(&keys, &rows, Row::refuses, |key| call.tell_denied(key));
    }
    Ok(())
}

fn not_decided(undecided: Undecided, id: &[u8]) -> Error {
    match undecided {
        Undecided::LeaseEnded => {
            STATS.admit_lease_ended.add(1);
            Error::coded_for("LEASEENDED", "lease has ended", id)
        }
        Undecided::Exceeded(exceeded) => accounts::exceeded(exceeded),
    }
}

/// Calls `tell` once for each account that has a row for which `concerns` is true.
fn for_each_account(keys: &[Key], rows: &[Row], concerns: impl Fn(&Row) -> bool, tell: impl Fn(Key)) {
    let mut last = None;
    for row in rows.iter().filter(|row| concerns(row)) {
        // The rows of one account follow each other.
        if last.replace(row.account) != Some(row.account)
            && let Some(&key) = keys.get(usize::from(row.account))
        {
            tell(key);
        }
    }
}

fn count(decision: &Decision, rows: &[Row], shadow: bool) {
    let Decision { answer, repeated, unnamed, probe, .. } = decision;
    if shadow {
        STATS.admit_probed.add(1);
    } else if !answer.admitted {
        STATS.admit_denied.add(1);
    } else if *repeated {
        STATS.admit_repeated.add(1);
    } else {
        STATS.admit_admitted.add(1);
        STATS.breaker_probes.add((*probe).into());
        STATS.admit_meter_unnamed.add((*unnamed).into());
        STATS.admit_would_deny.add(u64::from(rows.iter().any(|row| row.shadow && !row.allowed)));
        STATS.admit_soft.add(u64::from(rows.iter().any(|row| row.soft != Soft::Below)));
    }
}

/// The most rows in a reply, so that it takes less than a millisecond. Those of GW.ADMIT are fewer.
pub const ROWS_MAX: usize = 1_024;

/// Replies the rows that the request asks for.
pub struct RowsReply<'a> {
    pub reply: Reply<'a>,
    pub keys: &'a [Key<'a>],
    pub now_ms: i64,
    pub wanted: RowsWanted,
}

impl RowsReply<'_> {
    pub fn send(&self, accounts: &mut [Option<&mut Account>], rows: &[Row]) {
        let rows = if self.wanted == RowsWanted::None { &[] } else { rows };
        let is_wanted = |row: &&Row| self.wanted != RowsWanted::Refused || !row.allowed;
        let wanted = || rows.iter().filter(is_wanted).take(ROWS_MAX);
        self.reply.array(wanted().count());
        wanted().for_each(|row| self.row(accounts, row));
    }

    fn row(&self, accounts: &mut [Option<&mut Account>], row: &Row) {
        let (account, index) = (usize::from(row.account), usize::from(row.policy));
        let key = self.keys.get(account).map_or(&[][..], |key| key.bytes());
        let account = accounts.get_mut(account).and_then(Option::as_mut);
        let own = account.as_ref().and_then(|account| account.policies().get(index));
        self.reply.array(if self.wanted == RowsWanted::Detail { 11 } else { 7 });
        let name = own.map_or_else(|| row.obstacle().unwrap_or_default().as_bytes(), |own| &own.name);
        self.reply.bytes(key).bytes(name).int(row.allowed.into());
        match row.figures {
            Figures::Units { limit, remaining } => self.reply.count(limit).count(remaining),
            Figures::Money { limit, remaining } => {
                self.reply.bytes(limit.to_text().as_bytes()).bytes(remaining.to_text().as_bytes())
            }
        };
        self.reply.int(row.retry_after_ms).int(row.reset_after_ms);
        if self.wanted == RowsWanted::Detail {
            let policy = own.map(|own| own.policy.clone());
            let used = account.and_then(|account| account.used_of(index, &present(self.now_ms, 0)));
            self.detail(policy.as_ref(), row.obstacle(), used);
        }
    }

    /// The kind, the meter, the period and the amount used, which a `RateLimit-Policy` header needs in addition to the
    /// row.
    fn detail(&self, policy: Option<&Policy>, obstacle: Option<&str>, used: Option<Used>) {
        let period_ms = match policy.map(|policy| policy.kind) {
            Some(Kind::Window(rule)) => i64::try_from(rule.window_ms).unwrap_or(i64::MAX),
            Some(Kind::Bucket(flow)) => i64::try_from(flow.per_ms).unwrap_or(i64::MAX),
            Some(Kind::Budget { period, .. }) => settings::length_ms(period, self.now_ms),
            Some(Kind::Breaker(threshold)) => i64::try_from(threshold.per_ms).unwrap_or(i64::MAX),
            Some(Kind::InFlight { .. } | Kind::Block { .. }) | None => -1,
        };
        let obstacle = (obstacle.unwrap_or_default(), &[][..]);
        let (kind, meter) = policy.map_or(obstacle, |policy| (Form::of(&policy.kind).name, &policy.meter));
        self.reply.bytes(kind).bytes(meter).int(period_ms);
        match used {
            Some(Used::Money(amount)) => self.reply.bytes(amount.to_text().as_bytes()),
            Some(Used::Units(units)) => self.reply.count(units),
            None => self.reply.count(0),
        };
    }
}
