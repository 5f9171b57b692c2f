//! A policy in words, the same for equal policies: for comparing and showing.

use gateway_core::admission::Policy;
use gateway_core::admission::document::Named;
use gateway_core::admission::form::{Form, Said};

/// The members of a policy behind its name, with their values as JSON.
pub fn members(policy: &Policy) -> Vec<(&'static str, String)> {
    let kind = format!("{:?}", Form::of(&policy.kind).name.to_ascii_lowercase());
    let words = policy.words().map(|(word, said)| {
        let value = match said {
            Said::Word => "true".to_owned(),
            Said::Integer(value) => value.to_string(),
            Said::Amount(amount) => format!("\"{amount}\""),
            Said::Period(period) => format!("{:?}", period.name().to_ascii_lowercase()),
            Said::Name(name) => serde_json::Value::from(String::from_utf8_lossy(name)).to_string(),
        };
        (word.member, value)
    });
    [("kind", kind)].into_iter().chain(words).collect()
}

/// A policy's name, and the rest such as `window limit=500 per_ms=60000 meter=requests`.
pub fn line((name, policy): &Named) -> (String, String) {
    let members = members(policy).into_iter().map(|(member, value)| {
        let value = value.trim_matches('"');
        if member == "kind" { value.to_owned() } else { format!("{member}={value}") }
    });
    (String::from_utf8_lossy(name).into_owned(), members.collect::<Vec<_>>().join(" "))
}
