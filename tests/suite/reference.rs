//! README.md's command reference against what the server says of the commands: a section for each public command, with
//! its exact syntax, arity, complexity, version and flags, and for no other.

use std::collections::{BTreeMap, BTreeSet};

use crate::readme::{blocks, readme};
use crate::support::start;
use gw_testkit::call;
use gw_testkit::redis::{Connection, Value};

/// A command's section: its lines up to the next heading.
fn sections() -> BTreeMap<String, Vec<String>> {
    let readme = readme();
    let (mut sections, mut name, mut fenced) = (BTreeMap::new(), None, false);
    for line in readme.lines() {
        fenced ^= line.starts_with("```");
        if line.starts_with('#') && !fenced {
            name = line.strip_prefix("#### ").map(str::to_owned);
            if let Some(name) = &name {
                let before = sections.insert(name.clone(), Vec::new());
                assert!(before.is_none(), "two sections of {name}");
            }
        } else if let Some(lines) = name.as_ref().and_then(|name| sections.get_mut(name)) {
            lines.push(line.to_owned());
        }
    }
    sections
}

/// The module's commands but those that carry effects, in upper case.
fn public_commands(client: &mut Connection) -> BTreeSet<String> {
    let listed: Vec<String> = call!(*client, "COMMAND", "LIST", "FILTERBY", "MODULE", "gw");
    listed.iter().map(|name| name.to_uppercase()).filter(|name| !name.starts_with("GW._")).collect()
}

/// A reply of names and values, a map or flat.
fn fields(value: &Value) -> BTreeMap<String, &Value> {
    match value {
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (text(name), value)).collect(),
        Value::Array(flat) => flat.chunks(2).map(|pair| (text(&pair[0]), &pair[1])).collect(),
        other => panic!("no map: {other:?}"),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Value::SimpleString(text) => text.clone(),
        other => panic!("no text: {other:?}"),
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        other => panic!("no array: {other:?}"),
    }
}

/// A command's syntax as the server's own documentation writes it, from the arguments that COMMAND DOCS lists.
fn syntax(name: &str, docs: &Value) -> String {
    let arguments: Option<Vec<_>> =
        fields(docs).get("arguments").map(|list| items(list).iter().map(argument).collect());
    let words: Vec<String> = [name.to_owned()].into_iter().chain(arguments.unwrap_or_default()).collect();
    words.join(" ")
}

fn argument(value: &Value) -> String {
    let fields = fields(value);
    let field = |name: &str| fields.get(name).map(|value| text(value));
    let flags: Vec<String> = fields.get("flags").map_or(Vec::new(), |flags| items(flags).iter().map(text).collect());
    let has = |flag: &str| flags.iter().any(|other| other == flag);
    let parts = |separator: &str| {
        let parts: Vec<String> = items(fields["arguments"]).iter().map(argument).collect();
        parts.join(separator)
    };
    let mut syntax = match field("type").as_deref() {
        Some("pure-token") => String::new(),
        Some("oneof") if has("optional") => parts(" | "),
        Some("oneof") => format!("<{}>", parts(" | ")),
        Some("block") => parts(" "),
        _ => field("name").unwrap(),
    };
    if let Some(token) = field("token") {
        syntax = format!("{token} {syntax}").trim_end().to_owned();
    }
    if has("multiple") {
        syntax = format!("{syntax} [{syntax} ...]");
    }
    if has("optional") {
        syntax = format!("[{syntax}]");
    }
    syntax
}

#[test]
fn every_command_has_a_section_and_no_other_has() {
    let (_server, mut client) = start();
    assert_eq!(sections().into_keys().collect::<BTreeSet<_>>(), public_commands(&mut client));
}

#[test]
fn sections_show_the_syntax_and_the_facts_that_the_server_tells() {
    let (_server, mut client) = start();
    for (name, lines) in sections() {
        let docs: Vec<Value> = call!(client, "COMMAND", "DOCS", &name);
        let docs = &docs[1];
        let info: Vec<Vec<Value>> = call!(client, "COMMAND", "INFO", &name);

        let section = lines.join("\n");
        let shown = blocks(&section, "text");
        assert_eq!(shown.len(), 1, "{name}: one syntax line");
        assert_eq!(shown[0].1, [syntax(&name, docs)], "{name}");

        let Value::Int(arity) = info[0][1] else { panic!("{name}: {:?}", info[0][1]) };
        let about = fields(docs);
        // All module commands have the flag `module`.
        let flags: Vec<_> = items(&info[0][2]).iter().map(text).filter(|flag| flag != "module").collect();
        let facts = format!(
            "Arity {arity}. Complexity {}. Since {}. Flags: {}.",
            text(about["complexity"]),
            text(about["since"]),
            flags.join(", ")
        );
        assert!(lines.contains(&facts), "{name}: the README has not this line: {facts}");
    }
}

#[test]
fn every_command_has_an_example() {
    let (_server, mut client) = start();
    let readme = readme();
    let sessions = blocks(&readme, "console").into_iter().flat_map(|(_, lines)| lines);
    let called: BTreeSet<_> = sessions
        .filter_map(|line| Some(line.strip_prefix("127.0.0.1:6379> ")?.split(' ').next()?.to_owned()))
        .filter(|name| name.starts_with("GW."))
        .collect();
    // Its reply is the table of counters, which is checked on its own.
    let without = BTreeSet::from(["GW.STATS".to_owned()]);
    assert_eq!(&public_commands(&mut client) - &called, without);
}
