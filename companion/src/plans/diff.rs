//! What a file would change of an account.

use std::fmt;

use gateway_core::admission::document::Named;
use serde::Serialize;

use super::words::line;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// There is no such account.
    New,
    Changed,
    Same,
}

/// A policy by its name, and in words before and after.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// An account's part of the difference.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    pub account: String,
    pub plan: String,
    pub change: Change,
    /// Those that are added, changed or removed.
    pub policies: Vec<Policy>,
    /// The same policies in another order, which is that of the rows of GW.ADMIT.
    pub reordered: bool,
    /// How long it outlives its last admission, before and after, if that changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<(i64, i64)>,
}

impl Account {
    /// `present` is `None` if the account does not exist; `idle_ms` is what is and what is wanted, if anything is.
    pub fn new(
        account: &str,
        plan: &str,
        present: Option<&[Named]>,
        wanted: &[Named],
        idle_ms: Option<(i64, i64)>,
    ) -> Self {
        let lines = |policies: &[Named]| policies.iter().map(line).collect::<Vec<_>>();
        let (before, after) = (lines(present.unwrap_or_default()), lines(wanted));
        let find = |list: &[(String, String)], name: &str| {
            list.iter().find(|(other, _)| other == name).map(|(_, words)| words.clone())
        };
        let gone = before.iter().filter(|(name, _)| find(&after, name).is_none());
        let policies = after.iter().chain(gone).map(|(name, _)| Policy {
            name: name.clone(),
            before: find(&before, name),
            after: find(&after, name),
        });
        let policies: Vec<_> = policies.filter(|policy| policy.before != policy.after).collect();
        let names = |list: &[(String, String)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let reordered = policies.is_empty() && names(&before) != names(&after);
        let idle_ms = idle_ms.filter(|(before, after)| before != after);
        let change = match present {
            None => Change::New,
            Some(_) if policies.is_empty() && !reordered && idle_ms.is_none() => Change::Same,
            Some(_) => Change::Changed,
        };
        Self { account: account.to_owned(), plan: plan.to_owned(), change, policies, reordered, idle_ms }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, plan, .. } = self;
        let change = if self.change == Change::New { "new" } else { "changed" };
        writeln!(out, "{account} ({plan}): {change}")?;
        for Policy { name, before, after } in &self.policies {
            match (before, after) {
                (None, Some(after)) => writeln!(out, "  + {name}: {after}")?,
                (Some(before), None) => writeln!(out, "  - {name}: {before}")?,
                (Some(before), Some(after)) => writeln!(out, "  ~ {name}: {before}\n    {name}: {after}")?,
                (None, None) => {}
            }
        }
        if self.reordered {
            writeln!(out, "  ~ the order of the policies")?;
        }
        if let Some((before, after)) = self.idle_ms {
            match self.change {
                Change::New => writeln!(out, "  + idle_ms: {after}")?,
                _ => writeln!(out, "  ~ idle_ms: {before}\n    idle_ms: {after}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_core::admission::document::read;

    fn policies(list: &str) -> Vec<Named> {
        read(format!(r#"{{"policies":[{list}]}}"#).as_bytes(), 0).unwrap()
    }

    const RPM: &str = r#"{"name":"rpm","kind":"window","limit":5,"per_ms":1000}"#;
    const MORE: &str = r#"{"name":"rpm","kind":"window","limit":6,"per_ms":1000,"meter":"requests"}"#;
    const BUDGET: &str = r#"{"name":"month","kind":"budget","amount":1.50,"period":"month"}"#;

    fn of(present: Option<&str>, wanted: &str) -> Account {
        let present = present.map(policies);
        Account::new("a", "pro", present.as_deref(), &policies(wanted), None)
    }

    #[test]
    fn what_is_new_changed_and_removed_is_told() {
        let both = format!("{RPM},{BUDGET}");
        assert_eq!(of(Some(&both), &both).change, Change::Same);
        assert_eq!(of(Some(&both), &both.replace("1.50", "\"1.5\"")).change, Change::Same);
        assert!(of(Some(&both), &format!("{BUDGET},{RPM}")).reordered);
        assert_eq!(
            of(Some(&both), MORE).to_string(),
            "a (pro): changed\n  ~ rpm: window limit=5 per_ms=1000 meter=requests\n    rpm: window limit=6 \
             per_ms=1000 meter=requests\n  - month: budget amount=1.5 period=month meter=usd\n"
        );
        assert_eq!(of(None, "").to_string(), "a (pro): new\n");
        assert_eq!(of(None, RPM).change, Change::New);
    }
}
