//! The accounts of a request.

use gateway_core::admission::{Account, Exceeded, LEDGERS_MAX, POLICIES_MAX};
use gateway_core::ledger::{HOLDS_MAX, Ledger};

use crate::server::args::{Args, Short};
use crate::server::command::Arg;
use crate::server::key::{Either, Opened, OpenedEither};
use crate::server::{Call, Error, Key, Str};

/// The most accounts of one request: more than any chain of key, user, team and organisation has.
pub const ACCOUNTS_MAX: usize = 16;

/// What a change of an account that exceeds one of its bounds is refused with.
pub fn exceeded(exceeded: Exceeded) -> Error {
    match exceeded {
        Exceeded::Policies => Error::more_than(POLICIES_MAX, "policies", "account"),
        Exceeded::Ledgers => Error::new(&format!("budgets of more than {LEDGERS_MAX} meters"), "account"),
        Exceeded::Holds => Error::more_than(HOLDS_MAX, "holds", "account"),
    }
}

pub const WITH_ARG: Arg =
    Arg::block("with", &[Arg::integer("numkeys"), Arg::more_keys("account")]).after("WITH").optional();

/// Parses `account [WITH numkeys account …]`.
pub fn parse<'a>(args: &mut Args<'a>) -> Result<Short<Key<'a>>, Error> {
    let mut accounts = Short::new();
    accounts.push(args.key()?);
    if args.peek().is_some_and(|word| word.eq_ignore_ascii_case(b"WITH")) {
        args.string("WITH")?;
        let count = args.int("numkeys", 1..=ACCOUNTS_MAX - 1)?;
        let following = args.all();
        let more = args.list(count, "account").map_err(|error| explain(error, following, &[]))?;
        accounts.extend_from_slice(more);
    }
    Ok(accounts)
}

/// What a call is refused with whose other arguments cannot be read, as `error` says. If its count of accounts takes in
/// the word LEASE, and none follows, the count is what is wrong.
pub fn explain(error: Error, accounts: &[Key], rest: &[Str]) -> Error {
    if has_word(accounts, b"LEASE") && !has_word(rest, b"LEASE") { numkeys_too_large() } else { error }
}

fn has_word(strings: &[Str], word: &[u8]) -> bool {
    strings.iter().any(|string| string.bytes().eq_ignore_ascii_case(word))
}

fn numkeys_too_large() -> Error {
    Error::new("larger than the number of accounts before LEASE", "numkeys")
}

/// Opens the accounts; some may not exist. A ledger is no account before its first policy.
pub fn open<'a>(call: &'a mut Call, accounts: &[Key]) -> Result<Short<Opened<'a, Account>>, Error> {
    call.open_all::<Account, Ledger>(accounts)
}

/// Opens one account, of which a ledger becomes a part: see [`make`].
pub fn open_to_make<'a>(call: &'a mut Call, account: Key) -> Result<OpenedEither<'a, Account, Ledger>, Error> {
    call.open_either(account)
}

/// Changes the account of a key. Without an account, makes one, with the key's ledger if it holds one. `change` may fail
/// for bounds that only an account with policies can exceed, so that no key is changed by an error.
pub fn make<T>(
    opened: OpenedEither<Account, Ledger>,
    change: impl FnOnce(&mut Account) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut opened = match opened {
        Either::One(opened) => opened,
        Either::Other(mut opened) => {
            let ledger = opened.get().map(std::mem::take).unwrap_or_default();
            opened.replace(Account::with_ledger(ledger))
        }
    };
    if let Some(account) = opened.get() {
        return change(account);
    }
    let mut account = Account::default();
    let changed = change(&mut account)?;
    opened.insert(account);
    Ok(changed)
}
