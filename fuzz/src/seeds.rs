//! The inputs that a target begins with, made of the golden files and of the sessions in the docs, so that they are never
//! stale: all encodings and effects are in the former, all commands and options in the latter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::calls;
use crate::server::{self, Argv};

/// With FUZZ_SEEDS=folder in the environment: writes the target's first inputs there, and ends the process.
pub fn write_if_asked(target: &str) {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else { return };
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).expect("the folder for seeds is made");
    let seeds = of(target);
    assert!(!seeds.is_empty(), "there are no seeds for {target}");
    for (index, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{index:04}")), seed).expect("a seed is written");
    }
    let words: BTreeSet<Vec<u8>> = match target {
        "commands" => sessions().concat().concat().into_iter().filter(|word| word.len() < 40).collect(),
        _ => BTreeSet::new(),
    };
    let entry = |word: &Vec<u8>| {
        let shown: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{shown}\"\n")
    };
    let dictionary: String = words.iter().filter(|word| !word.is_empty()).map(entry).collect();
    fs::write(folder.with_extension("dict"), dictionary).expect("the dictionary is written");
    std::process::exit(0);
}

fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn of(target: &str) -> BTreeSet<Vec<u8>> {
    match target {
        "window" => values("gw-window"),
        "bucket" => values("gw-bucket"),
        "slots" => values("gw-leases"),
        "ledger" => values("gw-ledger"),
        "queue" => values("gw-queues"),
        "account" => values("gw-accnts"),
        "semantic" => values("gw-semidx"),
        "values" => golden_values().into_iter().map(|(which, _, bytes)| [&[which][..], &bytes].concat()).collect(),
        "effects" => effects(),
        "commands" => sessions().iter().map(|session| calls::write(session)).collect(),
        "codec" => arguments(b"GW._LOAD").chain(arguments(b"GW._QUEUE")).collect(),
        "packed" => packed(),
        "json" | "canonical" => documents(),
        "policies" => documents().into_iter().chain(policies()).collect(),
        "glob" => ["chat:*\nchat:1", "h[a-c]?lo\nhbllo", "h[^e\\]]*o\nhallo", "a*b*c\\*\naxbxc*"]
            .iter()
            .map(|seed| seed.as_bytes().to_vec())
            .collect(),
        "numbers" => words(|word| word.iter().any(u8::is_ascii_digit)),
        "times" => times(),
        _ => BTreeSet::new(),
    }
}

/// The commands in a file of the protocol, as an AOF is one.
fn read_aof(bytes: &[u8]) -> Vec<Argv> {
    let mut rest = bytes;
    let line = |rest: &mut &[u8]| {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let number = std::str::from_utf8(rest.get(1..end)?).ok()?.parse::<usize>().ok()?;
        *rest = &rest[end + 2..];
        Some(number)
    };
    let mut commands = Vec::new();
    while let Some(count) = line(&mut rest) {
        let mut argv = Argv::new();
        for _ in 0..count {
            let len = line(&mut rest).expect("a golden file is whole");
            argv.push(rest[..len].to_vec());
            rest = &rest[len + 2..];
        }
        commands.push(argv);
    }
    commands
}

fn golden(name: &str) -> Vec<Vec<Argv>> {
    let folder = project().join("tests/golden");
    let mut generations: Vec<_> =
        fs::read_dir(folder).expect("golden files").map(|entry| entry.expect("a folder").path()).collect();
    generations.sort();
    let files = generations.iter().map(|generation| generation.join(name)).filter(|file| file.exists());
    files.map(|file| read_aof(&fs::read(file).expect("a golden file is read"))).collect()
}

fn golden_effects() -> Vec<Argv> {
    let all = golden("effects.aof").into_iter().chain(golden("rewritten.aof")).flatten();
    all.filter(|argv| argv[0].starts_with(b"GW._")).collect()
}

/// The golden files' values at several times: each type's number, its name, and the value's fields.
fn golden_values() -> Vec<(u8, String, Vec<u8>)> {
    server::start();
    let mut values = BTreeMap::new();
    let numbers: BTreeMap<String, u8> =
        (0..).zip(server::kinds()).map(|(number, kind)| (kind.name.clone(), number)).collect();
    for commands in golden("effects.aof").into_iter().chain(golden("rewritten.aof")) {
        server::flush();
        for (index, argv) in commands.iter().enumerate() {
            if !server::call_own(argv) {
                server::call(argv);
            }
            if index % 150 == 0 || index + 1 == commands.len() {
                for name in server::snapshot().keys() {
                    if let Some((kind, bytes)) = server::save(name) {
                        values.insert((numbers[&kind.name], bytes), kind.name.clone());
                    }
                }
            }
        }
    }
    values.into_iter().map(|((number, bytes), name)| (number, name, bytes)).collect()
}

fn values(kind: &str) -> BTreeSet<Vec<u8>> {
    golden_values().into_iter().filter(|(_, name, _)| name == kind).map(|(_, _, bytes)| bytes).collect()
}

/// The effects of each key, some at a time, and each operation alone.
fn effects() -> BTreeSet<Vec<u8>> {
    let mut by_key: BTreeMap<Vec<u8>, Vec<Argv>> = BTreeMap::new();
    let mut seeds = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for argv in golden_effects() {
        let operation: Vec<u8> = argv[1..].iter().map(|word| word.first().copied().unwrap_or(0)).take(2).collect();
        if argv.iter().map(Vec::len).sum::<usize>() < 3_000 && seen.insert((argv[0].clone(), argv.len(), operation)) {
            seeds.insert(calls::write(std::slice::from_ref(&argv)));
        }
        let key = if argv[0] == b"GW._ADMIT" { &argv[3] } else { &argv[1] };
        by_key.entry(key.clone()).or_default().push(argv);
    }
    for effects in by_key.values() {
        for some in effects.chunks(20).step_by(1 + effects.len() / 200) {
            seeds.insert(calls::write(some));
        }
    }
    seeds.retain(|seed| seed.len() < 8_000);
    seeds
}

/// The arguments of a command in a rewritten AOF that may be long.
fn arguments(command: &'static [u8]) -> impl Iterator<Item = Vec<u8>> {
    let commands = golden("rewritten.aof").into_iter().flatten().filter(move |argv| argv[0] == command);
    commands.filter_map(|argv| argv.last().cloned()).filter(|bytes| bytes.len() < 8_000)
}

/// The sessions in the reference pages: every command, with every option.
fn sessions() -> Vec<Vec<Argv>> {
    let pages = fs::read_dir(project().join("docs/src/reference")).expect("the reference");
    let mut pages: Vec<_> = pages.map(|page| page.expect("a page").path()).collect();
    pages.sort();
    let mut sessions = Vec::new();
    for page in pages {
        let text = fs::read_to_string(page).expect("a page is read");
        let mut session = Vec::new();
        for line in text.lines() {
            if let Some((prompt, call)) = line.split_once("> ")
                && prompt.starts_with("127.0.0.1:")
            {
                session.push(split(call));
            } else if line.starts_with("```") && !session.is_empty() {
                sessions.push(std::mem::take(&mut session));
            }
        }
    }
    sessions
}

/// Splits a line as redis-cli does, as far as the docs need it.
fn split(line: &str) -> Argv {
    let (mut words, mut word, mut quote) = (Argv::new(), None::<Vec<u8>>, None);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, ' ') => words.extend(word.take()),
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (Some(open), close) if open == close => quote = None,
            (Some('"'), '\\') => word.get_or_insert_default().extend(characters.next().map(|next| next as u8)),
            (_, character) => word.get_or_insert_default().extend(character.to_string().bytes()),
        }
    }
    words.extend(word);
    words
}

fn words(is_meant: impl Fn(&[u8]) -> bool) -> BTreeSet<Vec<u8>> {
    let of_docs = sessions().concat().concat().into_iter();
    let effects = golden_effects();
    let of_effects = effects.iter().flat_map(|argv| argv[1..].iter().flat_map(|text| text.split(|byte| *byte == b' ')));
    let all = of_docs.chain(of_effects.map(<[u8]>::to_vec));
    all.filter(|word| word.len() <= 64 && is_meant(word)).take(4_000).collect()
}

fn documents() -> BTreeSet<Vec<u8>> {
    let words = sessions().concat().concat().into_iter().chain(golden_effects().concat());
    let mut documents: BTreeSet<Vec<u8>> =
        words.filter(|word| word.len() < 4_096 && matches!(word.first(), Some(b'{' | b'['))).collect();
    documents.extend([&b"\"\\ud83d\\ude00\\u0000\""[..], b"[1e5,-0.0,9007199254740991,null,true]"].map(<[u8]>::to_vec));
    documents
}

/// The words of policies, as GW.POLICYSET takes them.
fn policies() -> BTreeSet<Vec<u8>> {
    let of_docs = sessions().concat().into_iter().filter(|call| call[0].eq_ignore_ascii_case(b"GW.POLICYSET"));
    let of_docs = of_docs.map(|call| call[3..].join(&b' '));
    let of_effects = golden_effects().into_iter().filter(|argv| argv[0] == b"GW._ADMIT" && argv[1] == b"P");
    of_docs.chain(of_effects.filter_map(|argv| Some(argv.get(5..)?.join(&b' ')))).collect()
}

fn packed() -> BTreeSet<Vec<u8>> {
    let answer = fs::read(project().join("tests/vectors/completion.json")).expect("a completion");
    let packed = gateway_core::cache::packed::pack(&answer).expect("a completion packs");
    let len = (answer.len() as u32).to_le_bytes();
    [[&len[..], &packed].concat(), answer, b"short".to_vec()].into()
}

fn times() -> BTreeSet<Vec<u8>> {
    let names = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia", "Africa/Casablanca"];
    let zones = (0..).zip(names).map(|(number, name)| {
        let times = [server::START_MS + number * 7_777_777_777, number * 1_000_000_007].map(i64::to_le_bytes);
        [times.concat().as_slice(), name.as_bytes()].concat()
    });
    let dates = words(|word| word.len() <= 10 && word.first().is_some_and(u8::is_ascii_digit) && word.contains(&b'-'));
    let periods = ["DAY", "week", "Month", "TOTAL"].map(|name| name.as_bytes().to_vec());
    zones.chain(dates).chain(periods).collect()
}
