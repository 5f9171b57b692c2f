//! GW.ROUTE: one of several accounts is picked for a request, and charged.

use gateway_core::admission::{self, Account, Amounts, Request, Route, TARGETS_MAX, Told, Undecided};
use gateway_core::top::Label;

use super::accounts;
use super::admit::RowsReply;
use super::args::{AdmissionArgs, LEASE, PICK, ROUTE_ROWS, RowsWanted, TTL};
use super::effect::{AccountsEffect, tell_soft};
use crate::budget::settings::{self, present};
use crate::server::args::Short;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys, keys_with};
use crate::server::{Call, Error, Key, Outcome};
use crate::stats::STATS;
use crate::top::count::all_denied;

pub const COMMAND: Command = Command {
    name: "GW.ROUTE",
    handler: entry!(route, keys_with),
    flags: "write deny-oom fast",
    arity: -6,
    keys: Keys::With(Access::ReadUpdate),
    summary: "Picks one of several accounts that admits a request, and charges the request to it alone. Replies the account, \
              or nil if all refuse; retry_after_ms; and rows as GW.ADMIT replies them.",
    complexity: "O(N) in the policies of the targets that are asked: with FIRST, up to the first that admits",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key_as("target"),
        Arg::block("with", &[Arg::integer("numkeys"), Arg::more_keys("target")]).after("WITH").optional(),
        Arg::text("lease-id").after("LEASE"),
        Arg::integer("ttl-ms").after("TTL"),
        Arg::block("amounts", &[Arg::text("meter"), Arg::text("estimate")]).optional().multiple(),
        Arg::one_of("pick", &[Arg::word("first", "FIRST"), Arg::word("room", "ROOM"), Arg::word("fast", "FAST")])
            .after("PICK")
            .optional(),
        Arg::one_of("rows", &[Arg::word("all", "ALL"), Arg::word("refused", "REFUSED"), Arg::word("none", "NONE")])
            .after("ROWS")
            .optional(),
    ],
};

/// GW.ROUTE target [WITH numkeys target …] LEASE id TTL ms [meter estimate …] [PICK FIRST|ROOM|FAST]
/// [ROWS ALL|REFUSED|NONE]
fn route(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let keys = accounts::parse_up_to(&mut args, TARGETS_MAX, "target")?;
    let asked = AdmissionArgs::parse(args, &keys, &[LEASE, TTL, PICK, ROUTE_ROWS], true)?;
    let (now_ms, ttl_ms) = (call.now_ms(), asked.ttl_ms.unwrap_or(1));
    let now = present(now_ms, 0);
    let wanted = asked.rows.unwrap_or(RowsWanted::None);
    let request = Request {
        id: asked.id.bytes(),
        ttl_ms,
        amounts: Amounts(&asked.amounts),
        shadow: false,
        rows: wanted != RowsWanted::None,
        holds_max: settings::holds_max(),
    };

    let reply = call.reply();
    let mut opened = accounts::open(call, &keys)?;
    let mut targets: Short<Option<&mut Account>> = opened.iter_mut().map(|target| target.get()).collect();
    if targets.iter().any(Option::is_none) {
        STATS.route_no_account.add(1);
        if targets.iter().all(Option::is_none) {
            let name = keys.first().map_or(&[][..], |key| key.bytes());
            return Err(Error::coded_for("NOACCOUNT", "no such account", name));
        }
    }
    let ends_after_ms = |period| settings::reset_after_ms(period, now_ms);
    let mut rows = admission::Rows::new();
    let routed = admission::route(&mut targets, &now, &request, asked.pick, &ends_after_ms, &mut rows);
    let routed = routed.map_err(|undecided| not_routed(undecided, request.id))?;
    count(&routed);
    let target = routed.target.and_then(|index| keys.get(index));
    reply.array(3);
    match target {
        Some(target) => reply.bytes(target.bytes()),
        None => reply.null(),
    };
    reply.int(routed.retry_after_ms);
    RowsReply { reply, keys: &keys, now_ms, wanted }.send(&mut targets, &rows);
    let charged = routed.target.filter(|_| !routed.repeated);
    let told = match charged.and_then(|index| targets.get_mut(index)) {
        Some(Some(account)) if routed.noted.soft => account.tell_soft(&now),
        _ => Told::new(),
    };
    let mut refusing = Short::<Key>::new();
    if routed.target.is_none() {
        refusing.extend(keys.iter().zip(&targets).filter(|(_, target)| target.is_some()).map(|(&key, _)| key));
        let refused_by = keys.iter().zip(&targets).zip(&routed.refused_by);
        all_denied(
            now_ms,
            refused_by
                .filter_map(|((&key, target), &policy)| Some((key, Label::new(target.as_ref()?.name_of(policy)?)))),
        );
    }
    drop(targets);
    if let Some(opened) = charged.and_then(|index| opened.get_mut(index)) {
        accounts::renew(opened);
    }
    drop(opened);

    // Targets that were asked may have done what was due by time, also those that were not taken.
    let changed: Short<usize> =
        (0..keys.len()).filter(|index| charged == Some(*index) || routed.tidied.contains(index)).collect();
    let changed_keys: Short<Key> = changed.iter().filter_map(|&index| keys.get(index).copied()).collect();
    match charged.and_then(|index| changed.iter().position(|&changed| changed == index)) {
        Some(0) if changed.len() == 1 => {
            AccountsEffect::admitted(&now, ttl_ms).replicate(call, &changed_keys, &asked.texts);
        }
        Some(place) => AccountsEffect::routed(&now, ttl_ms, place).replicate(call, &changed_keys, &asked.texts),
        None if changed.is_empty() => {}
        None => AccountsEffect::advanced(now_ms).replicate(call, &changed_keys, &[]),
    }
    target.into_iter().for_each(|&target| tell_soft(call, target, now.day, &told));
    refusing.iter().for_each(|&key| call.tell_denied(key));
    Ok(())
}

fn not_routed(undecided: Undecided, id: &[u8]) -> Error {
    match undecided {
        Undecided::LeaseEnded => {
            STATS.route_lease_ended.add(1);
            Error::coded_for("LEASEENDED", "lease has ended", id)
        }
        Undecided::Exceeded(exceeded) => accounts::exceeded(exceeded),
    }
}

fn count(routed: &Route) {
    match routed {
        Route { target: None, .. } => STATS.route_refused.add(1),
        Route { repeated: true, .. } => STATS.route_repeated.add(1),
        Route { noted, probe, .. } => {
            STATS.route_picked.add(1);
            STATS.breaker_probes.add((*probe).into());
            STATS.admit_meter_unnamed.add(noted.unnamed.into());
            STATS.admit_would_deny.add(noted.would_deny.into());
            STATS.admit_soft.add(noted.soft.into());
        }
    }
}
