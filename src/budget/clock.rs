//! Follows the clock if it has stepped back.
//!
//! After such a step, no time passes for a ledger's holds until a change moves their ends back with the clock. Queries
//! and denials change nothing, so the first one that finds a ledger ahead of the clock schedules that change right
//! after itself.

use gateway_core::ledger::feed::KeyPlace;

use super::account::{Account, AccountRead};
use super::effect::LedgerChange;
use crate::server::args::OwnedKey;
use crate::server::{Call, Key};

/// Makes a key's ledger follow the clock after this command, if it `is_ahead` of it.
pub fn follow_if(call: &Call, key: Key, is_ahead: bool) {
    // A replica gets the change from its primary.
    if is_ahead && call.may_change() {
        call.after(0, follow, OwnedKey::new(key.bytes()));
    }
}

/// Like [`follow_if`], for a command that does not read the ledger itself.
pub fn look(call: &Call, key: Key) {
    let now_ms = call.now_ms();
    let is_ahead = |account: &AccountRead| account.ledger().is_ahead_of(now_ms);
    let found = AccountRead::find(call, key).ok().flatten();
    follow_if(call, key, found.as_ref().is_some_and(is_ahead));
}

fn follow(call: &mut Call, name: OwnedKey) {
    if !call.may_change() {
        return;
    }
    let (now_ms, database, key) = (call.now_ms(), call.database(), name.key());
    // Opened for reading first, so that no ledger is created if the key is gone.
    let is_ahead = |account: AccountRead| account.ledger().is_ahead_of(now_ms);
    if !AccountRead::find(call, key).ok().flatten().is_some_and(is_ahead) {
        return;
    }
    let Ok(mut account) = Account::open(call, key) else { return };
    let change = LedgerChange::FollowClock { at_ms: now_ms };
    if account.ledger().is_some() {
        change.apply(&mut account, &[], || KeyPlace::new(database, key.bytes()));
    }
    drop(account);
    change.announce(call, key, None);
}
