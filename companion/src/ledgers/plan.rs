//! What a database does with the ledgers that were listed, given what it has.

use std::collections::HashMap;

use super::ledger::{Ledger, Version};

/// What a database has of an account.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub version: i64,
    pub seeded: bool,
}

#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// To be stored, in the order of names: then workers that store at the same time never wait for each other in a circle.
    pub stored: Vec<&'a Ledger>,
    /// Of these, older rows belong to another ledger, and are deleted.
    pub replaced: Vec<&'a Ledger>,
    /// Of these, older rows are those that the ledger was made from.
    pub adopted: Vec<&'a Ledger>,
    /// The database is ahead.
    pub newer: Vec<Version>,
}

pub fn plan<'a>(ledgers: &'a [Ledger], known: &HashMap<String, Known>) -> Plan<'a> {
    let mut plan = Plan::default();
    for ledger in ledgers {
        match known.get(&ledger.account) {
            Some(Known { version, .. }) if *version > ledger.version => {
                plan.newer.push(Version { account: ledger.account.clone(), version: *version });
                continue;
            }
            // Rows older than `since` were dealt with when a version from `since` on was stored.
            Some(Known { version, seeded }) if *version < ledger.since => {
                if *seeded { &mut plan.adopted } else { &mut plan.replaced }.push(ledger);
            }
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
        let ledgers = [
            ledger("same", 5, 3),
            ledger("new", 5, 5),
            ledger("behind", 5, 3),
            ledger("another", 9, 7),
            ledger("seeded", 9, 7),
        ];
        let known = [("same", 5, false), ("behind", 6, false), ("another", 6, false), ("seeded", 6, true)];
        let known = known.map(|(name, version, seeded)| (name.to_owned(), Known { version, seeded })).into();
        let plan = plan(&ledgers, &known);
        let names = |ledgers: &[&Ledger]| ledgers.iter().map(|ledger| ledger.account.clone()).collect::<Vec<_>>();
        assert_eq!(names(&plan.stored), ["another", "new", "same", "seeded"]);
        assert_eq!((names(&plan.replaced), names(&plan.adopted)), (vec!["another".into()], vec!["seeded".into()]));
        assert_eq!(plan.newer, [Version { account: "behind".into(), version: 6 }]);
    }
}
