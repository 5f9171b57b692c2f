use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::delivery::{Delivery, Words};
use super::ids::new_id;

const SUFFIX: &str = "kept-rust";
/// Of a file that others must not find yet.
const NEW: &str = "new-rust";
/// A file of that kind that is as old was left by a process that has ended while it opened it.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// A file of lines of this process, in a directory that others may use, too.
///
/// Each process appends to a file of its own, which it locks. A file that nobody locks was left by a process that is gone: whoever
/// finds it takes it over.
pub(super) struct Disk {
    directory: PathBuf,
    open: Option<Open>,
    failing: bool,
}

struct Open {
    file: File,
    path: PathBuf,
    lines: usize,
    size: u64,
    /// Half a line is at the end.
    torn: bool,
}

impl Disk {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), open: None, failing: false }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn lines(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.lines)
    }

    /// Whether the disk has taken it. If not, nobody is told an error: a request does not fail because the disk is full.
    pub(super) fn write(&mut self, line: &Value) -> bool {
        let written = self.append(line);
        if let Err(error) = &written
            && !self.failing
        {
            log::error!("settlements and charges are kept in memory only: {}", error.kind());
        }
        self.failing = written.is_err();
        written.is_ok()
    }

    fn append(&mut self, line: &Value) -> io::Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(opened(&self.directory, &[])?),
        };
        let text = format!("{}{line}\n", if open.torn { "\n" } else { "" });
        if let Err(error) = open.file.write_all(text.as_bytes()) {
            // Half a line would spoil the next one.
            open.torn = open.file.set_len(open.size).is_err();
            return Err(error);
        }
        open.size += text.len() as u64;
        open.lines += 1;
        open.torn = false;
        Ok(())
    }

    /// Nothing is kept any more.
    pub(super) fn empty(&mut self) {
        if let Some(open) = &mut self.open
            && open.lines > 0
            && open.file.set_len(0).is_ok()
        {
            (open.lines, open.size, open.torn) = (0, 0, false);
        }
    }

    /// Writes the file anew beside the old one, so that a crash in between loses nothing.
    pub(super) fn rewrite(&mut self, lines: &[Value]) {
        match opened(&self.directory, lines) {
            Ok(made) => {
                if let Some(old) = self.open.replace(made) {
                    let _ = fs::remove_file(old.path);
                }
            }
            // The old file is as good, only longer. It is tried again after as many lines.
            Err(_) => {
                if let Some(open) = &mut self.open {
                    open.lines = 0;
                }
            }
        }
    }

    pub(super) fn close(&mut self, empty: bool) {
        if let Some(open) = self.open.take()
            && empty
        {
            let _ = fs::remove_file(open.path);
        }
    }

    /// What processes that are gone have left. `take` returns the ids of those that were taken over, or given up.
    pub(super) fn left(directory: &Path, mut take: impl FnMut(Vec<Delivery>) -> Vec<String>) {
        let Ok(names) = fs::read_dir(directory) else { return };
        for path in names.flatten().map(|entry| entry.path()) {
            match path.extension().and_then(|suffix| suffix.to_str()) {
                Some(SUFFIX) => {
                    let _ = left_in(&path, &mut take);
                }
                Some(NEW) => {
                    let modified = fs::metadata(&path).and_then(|about| about.modified());
                    if modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > FORGOTTEN)) {
                        let _ = fs::remove_file(&path);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Makes a file that is locked, and has these lines, before others can find it.
fn opened(directory: &Path, lines: &[Value]) -> io::Result<Open> {
    fs::create_dir_all(directory)?;
    let name = directory.join(new_id());
    let (hidden, path) = (name.with_extension(NEW), name.with_extension(SUFFIX));
    let mut options = OpenOptions::new();
    options.append(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&hidden)?;
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let made = file.try_lock().map_err(io::Error::from).and_then(|()| {
        file.write_all(text.as_bytes())?;
        fs::rename(&hidden, &path)
    });
    if let Err(error) = made {
        let _ = fs::remove_file(&hidden);
        return Err(error);
    }
    Ok(Open { file, path, lines: lines.len(), size: text.len() as u64, torn: false })
}

fn left_in(path: &Path, take: &mut impl FnMut(Vec<Delivery>) -> Vec<String>) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).open(path)?;
    // If this fails, its process lives.
    file.try_lock().map_err(io::Error::from)?;
    // Another process may have taken it over between opening and locking it.
    if !path.exists() {
        return Ok(());
    }
    let left_at = file.metadata()?.modified()?;
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut text)?;
    let found = deliveries_of(&text, left_at);
    let count = found.len();
    let over = take(found);
    if over.len() == count {
        return fs::remove_file(path);
    }
    if over.is_empty() {
        return Ok(());
    }
    let mut lines = String::from("\n");
    for id in over {
        lines.push_str(&format!("{}\n", json!({ "done": id })));
    }
    file.write_all(lines.as_bytes())?;
    // When its process wrote it for the last time tells when the rest may have arrived.
    file.set_modified(left_at)
}

/// What a file has, and has not been done with.
fn deliveries_of(text: &[u8], left_at: SystemTime) -> Vec<Delivery> {
    let mut found: Vec<Delivery> = Vec::new();
    let mut sending = false;
    for line in text.split(|&letter| letter == b'\n') {
        // Half a line: the process was killed, or the disk was full. What follows is whole.
        let Ok(line) = serde_json::from_slice::<Value>(line) else { continue };
        if let Some(id) = line["done"].as_str() {
            found.retain(|delivery| delivery.id != id);
        } else if let Some(now) = line["sending"].as_bool() {
            sending = now;
        } else if let Some(delivery) = delivery_of(&line) {
            match found.iter_mut().find(|known| known.id == delivery.id) {
                Some(known) => *known = delivery,
                None => found.push(delivery),
            }
        }
    }
    if sending {
        // They may have been under way when their process ended.
        found.iter_mut().for_each(|delivery| delivery.may_have_arrived(left_at));
    }
    found
}

/// How the disk has a delivery.
pub(super) fn line_of(delivery: &Delivery) -> Value {
    let words = |words: &Words| words.iter().map(|word| word_line(word)).collect::<Vec<_>>();
    json!({
        "id": delivery.id,
        "words": words(&delivery.words),
        "fallback": delivery.fallback.iter().map(words).collect::<Vec<_>>(),
        "first_sent_ms": delivery.first_sent.map(unix_ms),
        "early": delivery.early,
        "again_until_ms": delivery.again_until.map(unix_ms),
    })
}

fn delivery_of(line: &Value) -> Option<Delivery> {
    let words = |words: &Value| -> Option<Words> {
        let made: Words = words.as_array()?.iter().map(word_of).collect::<Option<_>>()?;
        (!made.is_empty()).then_some(made)
    };
    Some(Delivery {
        id: line["id"].as_str()?.to_owned(),
        words: words(&line["words"])?,
        fallback: line["fallback"].as_array()?.iter().map(words).collect::<Option<_>>()?,
        first_sent: line["first_sent_ms"].as_u64().map(time_of),
        early: line["early"].as_bool()?,
        again_until: line["again_until_ms"].as_u64().map(time_of),
    })
}

/// A text if it is UTF-8, and else its bytes as numbers.
fn word_line(word: &[u8]) -> Value {
    std::str::from_utf8(word).map_or_else(|_| json!(word), |text| json!(text))
}

fn word_of(line: &Value) -> Option<Vec<u8>> {
    match line {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Array(bytes) => bytes.iter().map(|byte| u8::try_from(byte.as_u64()?).ok()).collect(),
        _ => None,
    }
}

fn unix_ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis() as u64)
}

fn time_of(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_spoils_no_other() {
        let delivery = |id: &str| {
            let mut made = Delivery::new(vec![b"GW.SETTLE".to_vec(), b"\xff".to_vec()]);
            made.id = id.to_owned();
            made.fallback = vec![vec![b"GW.ADDCOST".to_vec()]];
            made
        };
        let [one, other, third] = ["1", "2", "3"].map(delivery);
        let [one, other, third] = [one, other, third].map(|delivery| line_of(&delivery).to_string());
        let text = format!("{one}\n{}\n{other}\n{{\"done\":\"1\"}}\n7\n{{\"id\":\"4\"}}\n{third}", &other[..20]);
        let found = deliveries_of(text.as_bytes(), UNIX_EPOCH);
        assert_eq!(found, [delivery("2"), delivery("3")]);
        let sent = deliveries_of(format!("{other}\n{{\"sending\":true}}").as_bytes(), UNIX_EPOCH);
        assert_eq!(sent[0].first_sent, Some(UNIX_EPOCH));
    }
}
