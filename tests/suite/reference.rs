//! Compares the command reference in docs/src/reference/ with what the server says about the commands: there is a page
//! for each public command and for no other, with the facts at its top, and it explains every word of the syntax. `make
//! docs-reference` writes the facts into the pages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::docs::PROMPT;
use crate::markdown::{self, blocks_of};
use crate::support::start;
use gw_testkit::redis::{Connection, Value};
use gw_testkit::{call, project_root};

const REFERENCE: &str = "docs/src/reference";
/// The lines before and after the generated part of a page.
const FACTS: (&str, &str) = ("<!-- generated: facts -->\n", "<!-- /generated -->\n");
/// The environment variable by which `make docs-reference` asks to write the facts instead of comparing them.
const WRITE: &str = "GW_WRITE_DOCS";

/// A command's page, by its path in the repository.
fn path_of(name: &str) -> String {
    format!("{REFERENCE}/{}.md", name.to_lowercase())
}

/// The module's commands, except those for effects, in upper case.
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

/// A command's syntax as the server's own documentation writes it, from the arguments that COMMAND DOCS lists; in lines
/// that fit a page.
fn syntax(name: &str, docs: &Value) -> String {
    const WIDTH: usize = 90;
    let arguments: Option<Vec<_>> =
        fields(docs).get("arguments").map(|list| items(list).iter().map(argument).collect());
    let mut lines = vec![name.to_owned()];
    for argument in arguments.unwrap_or_default() {
        match lines.last_mut() {
            // An argument after a choice of several lines does not belong to its last alternative, so it gets a new
            // line.
            Some(line) if line.len() + 1 + argument.len() <= WIDTH && !line.starts_with("    |") => {
                *line = format!("{line} {argument}");
            }
            _ if argument.len() <= WIDTH => lines.push(format!("    {argument}")),
            _ => lines.extend(alternatives(&argument).into_iter().map(|line| format!("    {line}"))),
        }
    }
    lines.join("\n")
}

/// A choice, with a line for each of its alternatives.
fn alternatives(choice: &str) -> Vec<String> {
    let (mut lines, mut depth) = (vec![String::new()], 0);
    for letter in choice.chars() {
        match letter {
            '<' | '[' => depth += 1,
            '>' | ']' => depth -= 1,
            '|' if depth == 1 => lines.push(String::new()),
            _ => {}
        }
        lines.last_mut().unwrap().push(letter);
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
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

/// The reply of COMMAND DOCS for a command: summary, since, complexity, arguments.
fn docs(client: &mut Connection, name: &str) -> Value {
    let mut docs: Vec<Value> = call!(*client, "COMMAND", "DOCS", name);
    docs.swap_remove(1)
}

/// The reply of COMMAND INFO for a command: name, arity, flags, first key, last key, step, categories, tips, key
/// specifications, subcommands.
fn command_info(client: &mut Connection, name: &str) -> Vec<Value> {
    let mut infos: Vec<Vec<Value>> = call!(*client, "COMMAND", "INFO", name);
    infos.swap_remove(0)
}

fn texts(value: &Value) -> Vec<String> {
    items(value).iter().map(text).collect()
}

fn in_backquotes(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// The flags, without `module`, which all commands of modules have.
fn flags(info: &[Value]) -> Vec<String> {
    texts(&info[2]).into_iter().filter(|flag| flag != "module").collect()
}

/// The categories that the module asks for. Servers before Redis 7.4 have none for commands of modules.
fn categories(flags: &[String]) -> Vec<String> {
    let has = |flag: &str| flags.iter().any(|other| other == flag);
    if has("admin") {
        return ["@admin", "@dangerous"].map(str::to_owned).to_vec();
    }
    let access = if has("readonly") { "@read" } else { "@write" };
    let speed = if has("fast") { "@fast" } else { "@slow" };
    ["@gw", access, speed].map(str::to_owned).to_vec()
}

fn arity(info: &[Value]) -> String {
    let Value::Int(arity) = info[1] else { panic!("{:?}", info[1]) };
    // The arity includes the command's name.
    let arguments = match (arity.abs() - 1, arity < 0) {
        (0, false) => "no arguments".to_owned(),
        (1, false) => "1 argument".to_owned(),
        (count, false) => format!("{count} arguments"),
        (0, true) => "any number of arguments".to_owned(),
        (1, true) => "1 argument or more".to_owned(),
        (count, true) => format!("{count} arguments or more"),
    };
    format!("{arity}: {arguments}")
}

/// Which arguments are keys, in words, and what happens to them.
fn keys(info: &[Value]) -> String {
    let keys: Vec<_> = items(&info[8]).iter().map(key_spec).collect();
    if keys.is_empty() { "none".to_owned() } else { keys.join("; ") }
}

fn key_spec(spec: &Value) -> String {
    let (spec, number) = (fields(spec), |fields: &BTreeMap<String, &Value>, name: &str| match fields[name] {
        Value::Int(number) => *number,
        other => panic!("{name}: {other:?}"),
    });
    let part = |name: &str| {
        let part = fields(spec[name]);
        (text(part["type"]), fields(part["spec"]))
    };
    let place = match (part("begin_search"), part("find_keys")) {
        ((begin, at), (find, range)) if (&*begin, &*find) == ("index", "range") => {
            let first = number(&at, "index");
            match (number(&range, "lastkey"), number(&range, "keystep")) {
                (0, _) => format!("argument {first}"),
                (-1, 1) => format!("every argument from {first} on"),
                (-1, 2) => format!("every second argument from {first} on"),
                other => panic!("a range of keys that this test cannot describe: {other:?}"),
            }
        }
        ((begin, at), (find, _)) if (&*begin, &*find) == ("keyword", "keynum") => {
            format!("after `{}` and a count, as many arguments as it says", text(at["keyword"]))
        }
        other => panic!("a key specification that this test cannot describe: {other:?}"),
    };
    let flags = texts(spec["flags"]);
    let access = match &*flags[0] {
        "RO" => "read",
        "RW" => "read and changed",
        "OW" => "overwritten",
        "RM" => "data removed",
        other => panic!("{other}"),
    };
    format!("{place}: {access} (`{}`)", flags.join(" "))
}

/// The generated part of a command's page.
fn facts(name: &str, docs: &Value, info: &[Value]) -> String {
    let about = fields(docs);
    let flags = flags(info);
    let rows = [
        ("Arity", arity(info)),
        ("Complexity", text(about["complexity"])),
        ("Since", text(about["since"])),
        ("Flags", in_backquotes(&flags)),
        ("ACL categories", in_backquotes(&categories(&flags))),
        ("Keys", keys(info)),
        ("Tips", in_backquotes(&texts(&info[7]))),
    ];
    let rows = rows.iter().filter(|(_, value)| !value.is_empty());
    let rows: String = rows.map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    format!("```text\n{}\n```\n\n| | |\n|---|---|\n{rows}", syntax(name, docs))
}

#[test]
fn pages_show_the_facts_that_the_server_tells() {
    let (_server, mut client) = start();
    for name in public_commands(&mut client) {
        let (docs, info) = (docs(&mut client, &name), command_info(&mut client, &name));
        let facts = facts(&name, &docs, &info);
        let told: BTreeSet<_> = texts(&info[6]).into_iter().collect();
        if !told.is_empty() {
            assert_eq!(told, categories(&flags(&info)).into_iter().collect(), "{name}");
        }

        let path = path_of(&name);
        let page = markdown::page(&path);
        let parts = page.split_once(FACTS.0).and_then(|(top, rest)| Some((top, rest.split_once(FACTS.1)?)));
        let (top, (shown, rest)) = parts.unwrap_or_else(|| panic!("{path} does not have the lines {FACTS:?}"));
        if std::env::var_os(WRITE).is_some() {
            let page = format!("{top}{}{facts}{}{rest}", FACTS.0, FACTS.1);
            fs::write(project_root().join(&path), page).unwrap();
        } else {
            assert_eq!(
                shown, facts,
                "{path} differs from what the server says about {name}: run `make docs-reference`"
            );
        }
    }
}

#[test]
fn every_command_has_a_page_that_the_indexes_list() {
    let (_server, mut client) = start();
    let commands = public_commands(&mut client);
    let pages: BTreeSet<String> = markdown::pages().into_iter().map(|(path, _)| path).collect();
    let pages: BTreeSet<_> = pages.into_iter().filter(|path| path.starts_with(&format!("{REFERENCE}/gw."))).collect();
    assert_eq!(pages, commands.iter().map(|name| path_of(name)).collect());

    let (index, summary) = (markdown::page(&format!("{REFERENCE}/index.md")), markdown::page("docs/src/SUMMARY.md"));
    for name in commands {
        let file = format!("{}.md", name.to_lowercase());
        assert!(index.contains(&format!("[{name}]({file})")), "{name} is missing in {REFERENCE}/index.md");
        assert!(summary.contains(&format!("[{name}](reference/{file})")), "{name} is missing in SUMMARY.md");
    }
}

/// The commands that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
    words.map(|word| word.trim_end_matches('.')).filter(|word| word.starts_with("GW.")).map(str::to_owned).collect()
}

/// What the pages list by hand, because it needs words between the names.
#[test]
fn lists_of_commands_are_complete() {
    let (_server, mut client) = start();
    let commands = public_commands(&mut client);
    let count = format!("All {} commands,", commands.len());
    assert!(markdown::page("README.md").contains(&count), "README.md does not say: {count}");

    let mut having = |is_meant: fn(&[Value]) -> bool| -> BTreeSet<String> {
        let meant = commands.iter().filter(|name| is_meant(&command_info(&mut client, name)));
        meant.cloned().collect()
    };
    let index = markdown::page(&format!("{REFERENCE}/index.md"));
    let listed = |from: &str, to: &str| {
        let (_, rest) = index.split_once(from).unwrap_or_else(|| panic!("no {from}"));
        named(rest.split_once(to).unwrap_or_else(|| panic!("no {to} after {from}")).0)
    };
    let growing = having(|info| flags(info).iter().any(|flag| flag == "denyoom"));
    assert_eq!(listed("`OOM` can be the reply of", "What ends or frees"), growing);
    let keyless = having(|info| items(&info[8]).is_empty());
    let has_keys_elsewhere = listed("The\nexceptions:", "have no key.");
    assert!(keyless.is_subset(&has_keys_elsewhere), "{keyless:?} is not within {has_keys_elsewhere:?}");
    let waiting = having(|info| flags(info).iter().any(|flag| flag == "blocking"));
    let told =
        named(&markdown::page("docs/src/operating/clusters.md").split("## Waiting clients").nth(1).unwrap()[..600]);
    assert!(waiting.is_subset(&told), "{waiting:?} is not within {told:?}");
}

/// The headings that every page has, in this order, with others of its own between them.
const HEADINGS: [&str; 4] = ["## Reply", "## Errors", "## Examples", "## See also"];

#[test]
fn every_page_has_the_same_headings_and_calls_its_command() {
    let (_server, mut client) = start();
    for name in public_commands(&mut client) {
        let path = path_of(&name);
        let page = markdown::page(&path);
        assert!(page.starts_with(&format!("# {name}\n")), "{path} begins with another heading");
        let headings: Vec<_> = page.lines().filter(|line| HEADINGS.contains(line)).collect();
        assert_eq!(headings, HEADINGS, "{path}");

        let sessions = blocks_of(&path, &page).into_iter().filter(|block| block.language == "console");
        let mut lines = sessions.flat_map(|session| session.lines);
        let is_call =
            |line: String| line.strip_prefix(PROMPT).is_some_and(|call| call.split(' ').next() == Some(&name));
        // Its reply consists of counters, which docs.rs checks.
        assert!(name == "GW.STATS" || lines.any(is_call), "{path} has no session that calls {name}");
    }
}

/// The option words and the names of arguments in a command's syntax.
fn words(arguments: &Value, found: &mut BTreeSet<String>) {
    for argument in items(arguments) {
        let fields = fields(argument);
        found.extend(fields.get("token").map(|token| text(token)));
        match &*text(fields["type"]) {
            "pure-token" => {}
            "oneof" | "block" => words(fields["arguments"], found),
            _ => drop(found.insert(text(fields["name"]))),
        }
    }
}

#[test]
fn every_word_of_the_syntax_is_explained() {
    let (_server, mut client) = start();
    let mut missing = Vec::new();
    for name in public_commands(&mut client) {
        let mut expected = BTreeSet::new();
        if let Some(arguments) = fields(&docs(&mut client, &name)).get("arguments") {
            words(arguments, &mut expected);
        }
        let path = path_of(&name);
        let page = markdown::page(&path);
        let prose = page.split_once(FACTS.1).expect("the generated part").1;
        let explained: BTreeSet<&str> = code_spans(prose)
            .flat_map(|span| span.split(|letter: char| !(letter.is_alphanumeric() || letter == '-' || letter == '_')))
            .collect();
        missing.extend(
            expected.iter().filter(|word| !explained.contains(word.as_str())).map(|word| format!("{path}: {word}")),
        );
    }
    assert!(missing.is_empty(), "words of the syntax that the pages do not mention:\n{}", missing.join("\n"));
}

/// The texts in backquotes in a page, outside of its blocks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    let prose = text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    prose.flat_map(|line| line.split('`').skip(1).step_by(2))
}
