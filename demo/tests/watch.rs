//! The replay with the companion's console beside it.

use gw_testkit::await_until;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn the_replay_can_be_watched() {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "gw"]).status().unwrap();
    assert!(built.success());
    let demo = std::path::Path::new(env!("CARGO_BIN_EXE_gw-demo"));
    let gw = demo.with_file_name("gw");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(demo);
    command.args(["--requests", "2000", "--speed", "400", "--watch"]).arg(&gw).args(["--console", &port.to_string()]);
    let mut replay = command.stdout(Stdio::piped()).spawn().unwrap();

    let mut seen = String::new();
    let answers = await_until("the console to answer", Duration::from_secs(60), || {
        seen = page(port, "/").unwrap_or_default();
        seen.contains("<html")
    });
    let mut printed = String::new();
    replay.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(replay.wait().unwrap().success(), "{printed}");
    answers.unwrap_or_else(|error| panic!("{error}: {seen}"));
    assert!(printed.contains(&format!("watch it: http://127.0.0.1:{port}/")), "{printed}");
    assert!(page(port, "/").is_err(), "the companion ends with the replay");
}

fn page(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
