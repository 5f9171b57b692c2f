//! The file: read with the place of everything in it, so that whatever is wrong is told with its line.

use std::borrow::Cow;
use std::collections::BTreeMap;

use gateway_core::admission::Kind;
use gateway_core::admission::document::{self, Named, Refused};
use gateway_core::{PERIOD_MAX_MS, TIME_MAX_MS};
use saphyr::{MarkedYaml, ScalarStyle, YamlData, YamlLoader};
use saphyr_parser::Parser;

/// A named list of policies, and who has them.
#[derive(Debug)]
pub struct Plan {
    pub name: String,
    pub policies: Vec<Named>,
    /// As GW.POLICYPUT takes it.
    pub document: String,
    /// How long its accounts outlive their last admission: 0 for ever, `None` as they do now.
    pub idle_ms: Option<i64>,
    pub accounts: Vec<String>,
}

/// The line, from 1, and what is wrong there.
pub type Wrong = (usize, String);

type Node<'a> = MarkedYaml<'a>;

/// Reads a file whole.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str) -> Result<Vec<Plan>, Wrong> {
    let documents = load(text)?;
    let root = match documents.as_slice() {
        [root] => root,
        [] => return Err((1, "the file is empty".into())),
        [_, second, ..] => return Err((line_of(second), "a second document".into())),
    };
    let mut plans = None;
    for (key, value) in mapping(root, "the file")? {
        match &*text_of(key)? {
            "plans" => plans = Some(value),
            other => return Err((line_of(key), format!("unknown word: {other}"))),
        }
    }
    let plans = plans.ok_or_else(|| (line_of(root), "missing word: plans".to_owned()))?;
    let mut taken: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut read = Vec::new();
    for (name, value) in mapping(plans, "plans")? {
        let name = text_of(name)?.into_owned();
        let (plan, lines) = plan(name, value)?;
        for (account, line) in plan.accounts.iter().zip(lines) {
            if let Some((before, of)) = taken.insert(account.clone(), (line, plan.name.clone())) {
                return Err((line, format!("{account}: it has the plan {of} already, on line {before}")));
            }
        }
        read.push(plan);
    }
    Ok(read)
}

/// Scalars stay as they are written: `19.90` is never a floating point value.
fn load(text: &str) -> Result<Vec<Node<'_>>, Wrong> {
    let mut loader = YamlLoader::<Node>::default();
    loader.early_parse(false);
    let wrong = |error: &saphyr_parser::ScanError| (error.marker().line(), error.info().to_owned());
    Parser::new_from_str(text).load(&mut loader, true).map_err(|error| wrong(&error))?;
    match loader.error() {
        Some(error) => Err(wrong(error)),
        None => Ok(loader.into_documents()),
    }
}

/// A plan, and the lines of its accounts.
fn plan(name: String, value: &Node) -> Result<(Plan, Vec<usize>), Wrong> {
    let (mut policies, mut accounts, mut lines, mut idle_ms) = (None, Vec::new(), Vec::new(), None);
    for (key, value) in mapping(value, &name)? {
        match &*text_of(key)? {
            "policies" => policies = Some(value),
            "accounts" => {
                for account in sequence(value, "accounts")? {
                    accounts.push(text_of(account)?.into_owned());
                    lines.push(line_of(account));
                }
            }
            "idle_ms" => {
                let number = text_of(value)?.parse().ok().filter(|&ms: &i64| (0..=idle_max()).contains(&ms));
                let wrong = || (line_of(value), format!("not an integer from 0 to {}: idle_ms", idle_max()));
                idle_ms = Some((line_of(key), number.ok_or_else(wrong)?));
            }
            other => return Err((line_of(key), format!("unknown word: {other} (plan {name})"))),
        }
    }
    let list = policies.ok_or_else(|| (line_of(value), format!("missing word: policies (plan {name})")))?;
    let (document, places) = document_of(list)?;
    // The time is only needed by `for_ms`, which is not taken.
    let policies =
        document::read(document.as_bytes(), TIME_MAX_MS).map_err(|refused| explain(&refused, list, &places))?;
    let budget = policies.iter().any(|(_, policy)| matches!(policy.kind, Kind::Budget { .. }));
    match idle_ms {
        Some((line, 1..)) if budget => Err((line, "not with a budget: idle_ms".into())),
        _ => Ok((Plan { name, policies, document, idle_ms: idle_ms.map(|(_, ms)| ms), accounts }, lines)),
    }
}

fn idle_max() -> i64 {
    i64::try_from(PERIOD_MAX_MS).unwrap_or(i64::MAX)
}

/// The lines of the policies and their members, by the place that the server names: `policies[2].period`.
type Places = BTreeMap<String, usize>;

/// The list of policies as JSON.
fn document_of(list: &Node) -> Result<(String, Places), Wrong> {
    let mut places = Places::new();
    let mut policies = Vec::new();
    for (index, policy) in sequence(list, "policies")?.iter().enumerate() {
        let place = format!("policies[{index}]");
        places.insert(place.clone(), line_of(policy));
        let mut members = Vec::new();
        for (key, value) in mapping(policy, &place)? {
            let member = text_of(key)?;
            if member == "for_ms" {
                let message = "for_ms: the block would begin again each time; use until_ms";
                return Err((line_of(key), message.into()));
            }
            places.insert(format!("{place}.{member}"), line_of(key));
            members.push(format!("{}:{}", quoted(&member), json(value)));
        }
        policies.push(format!("{{{}}}", members.join(",")));
    }
    Ok((format!(r#"{{"policies":[{}]}}"#, policies.join(",")), places))
}

fn explain(refused: &Refused, list: &Node, places: &Places) -> Wrong {
    let Refused::Wrong { shown, place, .. } = refused else { return (line_of(list), refused.to_string()) };
    // A word that is wrong itself is told with its policy's place.
    let member = format!("{place}.{}", String::from_utf8_lossy(shown));
    let line = places.get(&member).or_else(|| places.get(place));
    (line.copied().unwrap_or_else(|| line_of(list)), refused.to_string())
}

fn json(node: &Node) -> String {
    match &node.data {
        YamlData::Representation(text, ScalarStyle::Plain, None) => match &**text {
            "true" | "false" => text.clone().into_owned(),
            "" | "~" | "null" => "null".to_owned(),
            number if serde_json::from_str::<serde_json::Number>(number).is_ok() => number.to_owned(),
            other => quoted(other),
        },
        YamlData::Representation(text, ..) => quoted(text),
        // No member has such a value.
        YamlData::Sequence(_) => "[]".to_owned(),
        _ => "{}".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn line_of(node: &Node) -> usize {
    node.span.start.line()
}

fn text_of<'a>(node: &'a Node) -> Result<Cow<'a, str>, Wrong> {
    match &node.data {
        YamlData::Representation(text, ..) => Ok(Cow::Borrowed(text)),
        _ => Err((line_of(node), "not a string".into())),
    }
}

fn sequence<'a, 'b>(node: &'a Node<'b>, what: &str) -> Result<&'a [Node<'b>], Wrong> {
    match &node.data {
        YamlData::Sequence(nodes) => Ok(nodes),
        _ => Err((line_of(node), format!("not a list: {what}"))),
    }
}

fn mapping<'a, 'b>(node: &'a Node<'b>, what: &str) -> Result<Vec<(&'a Node<'b>, &'a Node<'b>)>, Wrong> {
    match &node.data {
        YamlData::Mapping(members) => Ok(members.iter().collect()),
        _ => Err((line_of(node), format!("not a map of names: {what}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "plans:\n  pro:\n    policies:\n      - {name: rpm, kind: window, limit: 500, per_ms: 60000}\n      \
                        - name: month\n        kind: budget\n        amount: 19.90\n        period: month\n    \
                        accounts: [\"{ml}:key:7\", user:42]\n";

    #[test]
    fn plans_and_their_accounts_are_read() {
        let plans = parse(GOOD).unwrap();
        assert_eq!((plans.len(), &*plans[0].name, plans[0].idle_ms), (1, "pro", None));
        assert_eq!(plans[0].accounts, ["{ml}:key:7", "user:42"]);
        // A number is what is written, to the last digit.
        assert!(plans[0].document.contains(r#""amount":19.90"#), "{}", plans[0].document);
        assert_eq!(plans[0].policies.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (from, to, line, message) in [
            ("plans:", "plan:", 1, "unknown word: plan"),
            ("    policies:", "    policy:", 3, "unknown word: policy (plan pro)"),
            ("limit: 500", "limits: 500", 4, "unknown word: limits"),
            ("limit: 500", "limit: many", 4, "not an integer from 0 to 9007199254740992: many"),
            ("kind: window, ", "", 4, "missing word: kind"),
            ("period: month", "period: mounth", 8, "not DAY, WEEK, MONTH or TOTAL: mounth"),
            ("name: month", "name: rpm", 5, "repeated name: rpm"),
            ("user:42", "\"{ml}:key:7\"", 9, "{ml}:key:7: it has the plan pro already, on line 9"),
            ("    accounts", "    idle_ms: 1\n    accounts", 9, "not with a budget: idle_ms"),
            ("    accounts", "    idle_ms: soon\n    accounts", 9, "not an integer from 0 to 31622400000: idle_ms"),
            ("kind: window, limit: 500, per_ms: 60000", "kind: block, for_ms: 1", 4, "use until_ms"),
            ("user:42]", "user:42", 10, ""),
            ("    accounts: ", "    policies: ", 9, ""),
        ] {
            let (at, told) = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(at == line && told.contains(message), "{to}: line {at}: {told}");
        }
        assert_eq!(parse("").unwrap_err(), (1, "the file is empty".into()));
    }
}
