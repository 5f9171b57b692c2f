//! The companion, with a configuration of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct Companion {
    config: PathBuf,
}

impl Companion {
    /// Its configuration is in this folder; `server` is the server's address, `to` that of the database.
    pub fn new(folder: &Path, server: &str, to: &str) -> Companion {
        Self::configured(folder, &format!("url = \"{server}\""), to)
    }

    /// The same for the primary that sentinels have under a name.
    pub fn behind_sentinels(folder: &Path, sentinels: &[String], service: &str, to: &str) -> Companion {
        let server = format!("url = \"redis://127.0.0.1:1\"\nsentinels = {sentinels:?}\nservice = {service:?}");
        Self::configured(folder, &server, to)
    }

    fn configured(folder: &Path, server: &str, to: &str) -> Companion {
        let config = folder.join("gw.toml");
        let text =
            format!("[server]\n{server}\n[http]\nlisten = \"127.0.0.1:0\"\n[sync]\nto = \"{to}\"\npause = \"20ms\"\n");
        std::fs::write(&config, text).unwrap();
        Companion { config }
    }

    /// A command of it.
    pub fn command(&self, names: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gw"));
        command.args(names).arg("--config").arg(&self.config);
        command
    }

    /// Starts it.
    pub fn run(&self) -> Running {
        Running(self.command(&["run"]).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Brings the database up to date.
    pub fn catch_up(&self) {
        assert!(self.command(&["sync"]).status().unwrap().success());
    }
}

/// A running companion. It is killed at the end, if not before.
pub struct Running(Child);

impl Running {
    pub fn kill(mut self) {
        self.end();
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
