//! The commands of `gw`, as somebody at a terminal or in a script has them.

mod plans;
mod shell;
mod top;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use gw_testkit::Server;

/// `gw` with these words, on the server at a port.
fn gw(port: u16, words: &[&str]) -> Output {
    command(port, words).output().unwrap()
}

fn command(port: u16, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gw"));
    command.args(words).env("GW_URL", format!("redis://127.0.0.1:{port}")).stdin(Stdio::null());
    command
}

/// What a command prints that has to succeed.
#[track_caller]
fn printed(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{:?}: {error}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code, and what a command says on stderr.
fn refused(output: Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A file in a server's directory, which is removed with it.
fn file(server: &Server, name: &str, text: &str) -> PathBuf {
    let path = server.dir().join(name);
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    path
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
