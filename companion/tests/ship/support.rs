//! Companions as processes, and what they leave.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use gw_testkit::redis::Connection;
use gw_testkit::{DEADLINE, await_until, call, project_root};

/// A running companion. Dropping it is `kill -9`.
pub struct Companion {
    pub process: Child,
    log: PathBuf,
}

impl Companion {
    /// Starts one with this configuration; its files are in the folder under the name.
    pub fn start(folder: &Path, name: &str, config: &str) -> Self {
        Self::start_with(folder, name, config, &[])
    }

    pub fn start_with(folder: &Path, name: &str, config: &str, variables: &[(&str, &str)]) -> Self {
        let file = folder.join(format!("{name}.toml"));
        fs::write(&file, format!("{config}\n[http]\nlisten = \"127.0.0.1:0\"\n")).unwrap();
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_gw"));
        command.args(["run", "--config"]).arg(&file).envs(variables.iter().copied()).env_remove("RUST_LOG");
        // A pipe would be full some day.
        let process = command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        Self { process, log }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Ends it as a service manager would: how it ended, and all that it logged.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.signal("-TERM");
        (self.process.wait().unwrap(), self.log())
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A configuration that ships queues of the server at a port, with further lines.
pub fn config(port: u16, queues: &[&str], to: &str, more: &str) -> String {
    format!(
        "[server]\nurl = \"redis://127.0.0.1:{port}\"\n[[ship]]\nqueues = {queues:?}\nto = {to:?}\nlease = \"10s\"\n{more}\n"
    )
}

/// The lines of each object of a folder, by its name.
pub fn objects(store: &Path) -> BTreeMap<String, Vec<String>> {
    // A staged upload has another ending, and is no object yet.
    let names = names(store).into_iter().filter(|name| name.ends_with(".jsonl.zst"));
    let object = |name: String| {
        let lines = zstd::decode_all(fs::File::open(store.join(&name)).unwrap()).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        (name, lines.lines().map(str::to_owned).collect())
    };
    names.map(object).collect()
}

/// All files below a folder, relative to it.
pub fn names(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, names);
            } else {
                names.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut names = Vec::new();
    walk(folder, folder, &mut names);
    names
}

pub fn figures(client: &mut Connection, key: &str) -> HashMap<String, u64> {
    call!(*client, "GW.LOGSTATS", key)
}

pub fn is_empty(client: &mut Connection, key: &str) -> bool {
    let figures = figures(client, key);
    // A key that does not exist has none.
    figures.get("length").zip(figures.get("leased")).is_none_or(|(length, leased)| length + leased == 0)
}

pub fn await_empty(client: &mut Connection, key: &str) {
    await_until("the queue to be empty", DEADLINE, || is_empty(client, key)).unwrap();
}

/// The Python that scripts/companion.sh has installed packages for. `None`, and a line that says so, if there is none.
pub fn python() -> Option<PathBuf> {
    let python = project_root().join(".tools/companion/bin/python");
    if !python.exists() {
        println!("SKIPPED: there is no .tools/companion, which scripts/companion.sh installs");
        return None;
    }
    Some(python)
}
