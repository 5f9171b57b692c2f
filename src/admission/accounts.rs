//! The accounts of a request.

use gateway_core::admission::{Account, Exceeded, LEDGERS_MAX, POLICIES_MAX};
use gateway_core::ledger::Ledger;

use crate::budget::settings::holds_max;
use crate::server::args::{Args, Short};
use crate::server::command::Arg;
use crate::server::key::{Either, Opened, OpenedEither};
use crate::server::{Call, Error, Key, Str};

/// The most accounts in one request: more than a chain of key, user, team and organisation needs.
pub const ACCOUNTS_MAX: usize = 16;

/// The error for a change that would exceed a bound of an account.
pub fn exceeded(exceeded: Exceeded) -> Error {
    match exceeded {
        Exceeded::Policies => Error::more_than(POLICIES_MAX, "policies", "account"),
        Exceeded::Ledgers => Error::new(&format!("budgets of more than {LEDGERS_MAX} meters"), "account"),
        Exceeded::Holds => Error::more_than(holds_max(), "holds", "account"),
    }
}

pub const WITH_ARG: Arg =
    Arg::block("with", &[Arg::integer("numkeys"), Arg::more_keys("account")]).after("WITH").optional();

/// Parses `account [WITH numkeys account …]`.
pub fn parse<'a>(args: &mut Args<'a>) -> Result<Short<Key<'a>>, Error> {
    parse_up_to(args, ACCOUNTS_MAX, "account")
}

/// Parses up to `max` accounts, which errors call `what`.
pub fn parse_up_to<'a>(args: &mut Args<'a>, max: usize, what: &str) -> Result<Short<Key<'a>>, Error> {
    let mut accounts = Short::new();
    accounts.push(args.key()?);
    if args.peek().is_some_and(|word| word.eq_ignore_ascii_case(b"WITH")) {
        args.string("WITH")?;
        let count = args.int("numkeys", 1..=max - 1)?;
        let following = args.all();
        let more = args.list(count, what).map_err(|error| explain(error, following, &[]))?;
        accounts.extend_from_slice(more);
    }
    Ok(accounts)
}

/// The error of a call whose other arguments cannot be read: `error`, unless its count of accounts includes the word
/// LEASE, and no LEASE follows. Then the count is wrong.
pub fn explain(error: Error, accounts: &[Key], rest: &[Str]) -> Error {
    if has_word(accounts, b"LEASE") && !has_word(rest, b"LEASE") { numkeys_too_large() } else { error }
}

fn has_word(strings: &[Str], word: &[u8]) -> bool {
    strings.iter().any(|string| string.bytes().eq_ignore_ascii_case(word))
}

fn numkeys_too_large() -> Error {
    Error::new("larger than the number of accounts before LEASE", "numkeys")
}

/// Opens the accounts, some of which may not exist. A ledger is not an account before its first policy.
pub fn open<'a>(call: &'a mut Call, accounts: &[Key]) -> Result<Short<Opened<'a, Account>>, Error> {
    call.open_all::<Account, Ledger>(accounts)
}

/// Opens one account; a ledger becomes part of a new account: see [`make`].
pub fn open_to_make<'a>(call: &'a mut Call, account: Key) -> Result<OpenedEither<'a, Account, Ledger>, Error> {
    call.open_either(account)
}

/// Changes the account of a key. If there is none, creates one, with the key's ledger if it holds one. If `change` fails, it
/// has changed nothing, and the key stays as it was.
pub fn make<T>(
    opened: OpenedEither<Account, Ledger>,
    change: impl FnOnce(&mut Account) -> Result<T, Error>,
) -> Result<T, Error> {
    let (mut opened, account, changed) = match opened {
        Either::One(mut opened) => {
            if opened.get().is_some() {
                return change_one(&mut opened, change).unwrap_or(Err(Error::INTERNAL));
            }
            let mut account = Account::default();
            let changed = change(&mut account)?;
            (opened, account, changed)
        }
        Either::Other(mut opened) => {
            let ledger = opened.get().map(std::mem::take).unwrap_or_default();
            let mut account = Account::with_ledger(ledger);
            match change(&mut account) {
                Ok(changed) => (opened.emptied(), account, changed),
                Err(error) => {
                    opened.insert(std::mem::take(account.ledger_mut()));
                    return Err(error);
                }
            }
        }
    };
    let expires_at_ms = account.expires_at_ms();
    opened.insert(account);
    if expires_at_ms.is_some() {
        follow_expiry(&mut opened, expires_at_ms);
    }
    Ok(changed)
}

/// Changes an account, if there is one, and its key's expiry, if the change moves or removes the expiry.
pub fn change_one<T>(opened: &mut Opened<Account>, change: impl FnOnce(&mut Account) -> T) -> Option<T> {
    let account = opened.get()?;
    let before = account.expires_at_ms();
    let changed = change(account);
    let after = account.expires_at_ms();
    if after != before {
        follow_expiry(opened, after);
    }
    Some(changed)
}

#[cold]
fn follow_expiry(opened: &mut Opened<Account>, expires_at_ms: Option<i64>) {
    match expires_at_ms {
        Some(at_ms) => opened.expire_at(at_ms),
        None => opened.persist(),
    }
}

/// After an admission or an extended lease: the key expires when the account does, whatever EXPIRE or PERSIST have made of
/// it.
pub fn renew(opened: &mut Opened<Account>) {
    let expires_at_ms = opened.get().and_then(|account| account.expires_at_ms());
    if expires_at_ms.is_some() && opened.expires_at_ms() != expires_at_ms {
        follow_expiry(opened, expires_at_ms);
    }
}
