//! What a database does with the ledgers that were listed, given what it has.

use std::collections::HashMap;

use super::ledger::{Ledger, Version};

#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// To be stored, in the order of names: then workers that store at the same time never wait for each other in a circle.
    pub stored: Vec<&'a Ledger>,
    /// Of these, older rows belong to another ledger, and are deleted.
    pub replaced: Vec<&'a Ledger>,
    /// The database is ahead.
    pub newer: Vec<Version>,
}

/// `known` has the versions that the database has, by account.
pub fn plan<'a>(ledgers: &'a [Ledger], known: &HashMap<String, i64>) -> Plan<'a> {
    let mut plan = Plan::default();
    for ledger in ledgers {
        match known.get(&ledger.account) {
            Some(version) if *version > ledger.version => {
                plan.newer.push(Version { account: ledger.account.clone(), version: *version });
                continue;
            }
            // Rows older than `since` were dealt with when a version from `since` on was stored.
            Some(version) if *version < ledger.since => plan.replaced.push(ledger),
            _ => {}
        }
        plan.stored.push(ledger);
    }
    plan.stored.sort_unstable_by(|a, b| a.account.cmp(&b.account));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_has_decides() {
        let ledger = |account: &str, version, since| Ledger {
            account: account.into(),
            version,
            since,
            spend: vec![],
            credits: vec![],
        };
        let ledgers = [ledger("same", 5, 3), ledger("new", 5, 5), ledger("behind", 5, 3), ledger("another", 9, 7)];
        let known =
            [("same", 5), ("behind", 6), ("another", 6)].map(|(name, version)| (name.to_owned(), version)).into();
        let plan = plan(&ledgers, &known);
        let names = |ledgers: &[&Ledger]| ledgers.iter().map(|ledger| ledger.account.clone()).collect::<Vec<_>>();
        assert_eq!(names(&plan.stored), ["another", "new", "same"]);
        assert_eq!(names(&plan.replaced), ["another"]);
        assert_eq!(plan.newer, [Version { account: "behind".into(), version: 6 }]);
    }
}
