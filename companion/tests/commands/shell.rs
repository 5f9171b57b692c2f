//! Completions and the man page.

use std::process::{Command, Stdio};

use crate::{gw, printed};

/// Gives a program a text, and returns whether it took it, and what it printed.
fn takes(program: &str, words: &[&str], text: &str) -> (bool, String) {
    use std::io::Write;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // In a thread: the program may print before it has read everything.
    let mut stdin = child.stdin.take().unwrap();
    let text = text.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[test]
fn shells_take_the_completions() {
    let bash = printed(gw(0, &["completions", "bash"]));
    // Loaded, it completes `gw ex` to `gw export`.
    let script = format!("{bash}\nCOMP_WORDS=(gw ex); COMP_CWORD=1; _gw gw ex gw; echo \"${{COMPREPLY[@]}}\"");
    assert_eq!(takes("bash", &["-s"], &script), (true, "export\n".to_owned()));
    for shell in ["zsh", "fish"] {
        let text = printed(gw(0, &["completions", shell]));
        assert!(text.contains("export") && text.contains("dry-run"), "{text}");
        if is_there(shell) {
            assert_eq!(takes(shell, &["-n"], &text), (true, String::new()));
        }
    }
}

#[test]
fn the_man_page_has_every_command() {
    let page = printed(gw(0, &["man"]));
    for part in [".TH gw", "GW APPLY", "GW EXPORT", "GW RUN", "GW TOP", "dry\\-run"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    if is_there("man") {
        let (is_shown, text) = takes("man", &["-l", "-"], &page);
        assert!(is_shown && text.contains("GW APPLY"), "{text}");
    }
}
