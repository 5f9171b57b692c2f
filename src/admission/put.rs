//! GW.POLICYPUT: sets all policies of an account from one document.

use gateway_core::PERIOD_MAX_MS;
use gateway_core::admission::document::{self, DOCUMENT_BYTES_MAX, Named, Refused};
use gateway_core::admission::{Account, Kind, POLICIES_MAX};
use gateway_core::ledger::Ledger;

use super::accounts;
use super::effect::{AccountsEffect, put_policies, tell_soft};
use crate::budget::settings::present;
use crate::server::args::OwnedKey;
use crate::server::call::entry;
use crate::server::command::{Access, Arg, Command, Keys};
use crate::server::key::{Either, OpenedEither};
use crate::server::{Call, Error, Outcome};

pub const COMMAND: Command = Command {
    name: "GW.POLICYPUT",
    handler: entry!(put),
    flags: "write deny-oom",
    arity: -3,
    keys: Keys::One(Access::ReadUpdate),
    summary: "Sets all policies of an account from one JSON document, and removes those that it does not name; policies \
              that stay keep what they have counted. Replies 1, or 0 if NX finds an account.",
    complexity: "O(N) in the document's bytes",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::key_as("account"),
        Arg::text("json"),
        Arg::word("nx", "NX").optional(),
        Arg::integer("idle-ms").after("IDLE").optional(),
    ],
};

#[derive(Clone, Copy)]
enum Opt {
    Nx,
    Idle,
}

/// GW.POLICYPUT account json [NX] [IDLE ms]
fn put(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (account, json) = (args.key()?, args.bytes("json")?);
    let (mut nx, mut idle_ms) = (false, None);
    while let Some(option) = args.option(&[("NX", Opt::Nx), ("IDLE", Opt::Idle)])? {
        match option {
            Opt::Nx => nx = true,
            Opt::Idle => idle_ms = Some(args.int("IDLE", 0..=PERIOD_MAX_MS)?),
        }
    }
    let now_ms = call.now_ms();
    let policies = document::read(json, now_ms).map_err(refused)?;
    let expires = idle_ms.is_some_and(|idle_ms| idle_ms > 0);
    if expires && policies.iter().any(|(_, policy)| matches!(policy.kind, Kind::Budget { .. })) {
        return Err(Error::new("not with a budget", "IDLE"));
    }

    let mut opened = accounts::open_to_make(call, account)?;
    let found = find(&mut opened, &policies, idle_ms);
    if found == Found::Same || (nx && found != Found::None && found != Found::Ledger) {
        drop(opened);
        call.reply().int((!nx).into());
        return Ok(());
    }
    if expires && matches!(found, Found::Ledger | Found::Charged) {
        return Err(Error::new("not for an account with money", "IDLE"));
    }
    let now = present(now_ms, 0);
    let told = accounts::make(opened, |account| {
        put_policies(account, &now, &policies, idle_ms).map_err(accounts::exceeded)?;
        // A budget may be set below what is spent.
        Ok(account.tell_soft(&now))
    })?;
    // The same document for every node: it contains a block's end, so that the time does not matter.
    let named = policies.iter().map(|(name, policy)| (&**name, policy));
    let document = OwnedKey::new(document::write(named).unwrap_or_default().as_bytes());
    AccountsEffect::policies_put(now_ms, idle_ms).replicate(call, &[account], &[document.key()]);
    tell_soft(call, account, now.day, &told);
    call.reply().int(1);
    Ok(())
}

/// The state of the key before the command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Nothing.
    None,
    /// A ledger without policies.
    Ledger,
    /// An account whose policies and idle time are already those of the call.
    Same,
    /// Another account.
    Other,
    /// Another account, in which money was spent or held.
    Charged,
}

fn find(opened: &mut OpenedEither<Account, Ledger>, policies: &[Named], idle_ms: Option<u64>) -> Found {
    match opened {
        Either::Other(_) => Found::Ledger,
        Either::One(opened) => match opened.get() {
            None => Found::None,
            Some(account) => {
                let as_idle = idle_ms.is_none_or(|idle_ms| account.idle_ms().unwrap_or(0) == idle_ms);
                match account.has_exactly(policies) && as_idle {
                    true => Found::Same,
                    false if account.was_charged() => Found::Charged,
                    false => Found::Other,
                }
            }
        },
    }
}

/// The error for a mistake in the document, with its place.
fn refused(refused: Refused) -> Error {
    match refused {
        Refused::TooLong => Error::longer_than(DOCUMENT_BYTES_MAX, "json"),
        Refused::NotJson(at) => Error::new("not valid JSON", format!("json at byte {at}")),
        Refused::TooMany => Error::more_than(POLICIES_MAX, "policies", "account"),
        Refused::Wrong { mistake, shown, place } => Error::new(&mistake.to_string(), shown).at(&place),
    }
}
