//! The documentation as text: its pages, and the fenced blocks in them. A block's info string has a language and, if the
//! block is code that a test runs, a name: "```python quickstart".

use gw_testkit::project_root;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The pages at the root of the repository; the others are the book's.
const ROOT_PAGES: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];
const BOOK: &str = "docs/src";

/// A fenced block, without its fences.
#[derive(Debug, Clone)]
pub struct Block {
    /// Its page's path in the repository.
    pub page: String,
    /// The number of its first line in the page.
    pub line: usize,
    pub language: String,
    pub name: Option<String>,
    pub lines: Vec<String>,
}

impl Block {
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// Where it stands, for messages.
    pub fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }
}

/// Every page with its path in the repository, in the order of the paths.
pub fn pages() -> Vec<(String, String)> {
    let root = project_root();
    let mut paths: Vec<String> = ROOT_PAGES.iter().map(|&page| page.to_owned()).collect();
    find(&root.join(BOOK), BOOK, &mut paths);
    paths.sort();
    // Each root page is optional, so that a text can be read before all of them are written.
    paths.into_iter().filter_map(|path| Some((path.clone(), fs::read_to_string(root.join(&path)).ok()?))).collect()
}

fn find(directory: &Path, path: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let entry = entry.unwrap();
        let path = format!("{path}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            find(&entry.path(), &path, found);
        } else if path.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The text of one page.
pub fn page(path: &str) -> String {
    fs::read_to_string(project_root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The blocks of all pages in one language, page by page.
pub fn blocks(language: &str) -> Vec<Block> {
    all_blocks().into_iter().filter(|block| block.language == language).collect()
}

/// The blocks of all pages.
pub fn all_blocks() -> Vec<Block> {
    pages().iter().flat_map(|(path, text)| blocks_of(path, text)).collect()
}

/// The one block with this name.
pub fn named(name: &str) -> Block {
    let mut found = all_blocks().into_iter().filter(|block| block.name.as_deref() == Some(name));
    let block = found.next().unwrap_or_else(|| panic!("no page has a block named {name}"));
    if let Some(other) = found.next() {
        panic!("two blocks are named {name}: {} and {}", block.place(), other.place());
    }
    block
}

/// The blocks of one page. A fence may be indented, as in an item of a list, and longer than three backticks, around text
/// that has fences itself.
pub fn blocks_of(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let rest = line.trim_start();
        let (indent, ticks) = (line.len() - rest.len(), rest.len() - rest.trim_start_matches('`').len());
        if ticks < 3 {
            continue;
        }
        let (fence, info) = rest.split_at(ticks);
        let mut words = info.split_whitespace().map(str::to_owned);
        let mut block = Block {
            page: page.to_owned(),
            // The line below the fence, counted from 1.
            line: number + 2,
            language: words.next().unwrap_or_default(),
            name: words.next(),
            lines: Vec::new(),
        };
        let mut closed = false;
        for (_, line) in lines.by_ref() {
            closed = line.trim() == fence;
            if closed {
                break;
            }
            let spaces = line.len() - line.trim_start().len();
            block.lines.push(line[spaces.min(indent)..].to_owned());
        }
        assert!(closed, "{}: the block never ends", block.place());
        blocks.push(block);
    }
    blocks
}

/// Runs the block of this name with `program`, which reads it from its standard input with `driver` behind it. The driver
/// prints JSON, which is returned.
pub fn run_block(program: &str, name: &str, driver: &str) -> serde_json::Value {
    let block = named(name);
    let script = format!("{}\n{driver}", block.text());
    let interpreter = Command::new(program).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut interpreter = interpreter.unwrap_or_else(|error| panic!("{program}: {error}; `make test` installs it"));
    interpreter.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = interpreter.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} fails at {name}, {}", block.place());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn blocks_are_found_with_their_names_and_places() {
    let text = "# A\n\n```python quickstart\na = 1\n```\n\n1. item\n\n   ```sh\n   make\n     x\n   ```\n\n````text\n```\n````\n";
    let found: Vec<_> = blocks_of("a.md", text)
        .into_iter()
        .map(|block| (block.place(), block.text(), block.language, block.name.unwrap_or_default()))
        .collect();
    let expected = [
        ("a.md:4", "a = 1", "python", "quickstart"),
        ("a.md:10", "make\n  x", "sh", ""),
        ("a.md:15", "```", "text", ""),
    ];
    let expected = expected
        .map(|(place, text, language, name)| (place.to_owned(), text.to_owned(), language.to_owned(), name.to_owned()));
    assert_eq!(found, expected);
}
