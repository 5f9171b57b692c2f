//! The shipper against what of S3 it needs: objects that are created once, told from a stub on this machine.

use gw_testkit::{DEADLINE, Server, await_until, call};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A store that speaks S3's protocol as far as PUT with `If-None-Match: *` and HEAD. It goes with the process.
fn stub() -> (String, Objects) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let objects = Objects::default();
    let shared = Arc::clone(&objects);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let objects = Arc::clone(&shared);
            std::thread::spawn(move || answer(stream.unwrap(), &objects));
        }
    });
    (endpoint, objects)
}

fn answer(mut stream: TcpStream, objects: &Objects) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let Some(request) = lines.next() else { return };
    let (method, path) = request.rsplit_once(' ').unwrap().0.split_once(' ').unwrap();
    let headers: HashMap<String, String> = lines
        .map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())).unwrap())
        .collect();
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();

    let mut objects = objects.lock().unwrap();
    let signed = headers.get("authorization").is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256"));
    let status = match (method, objects.get(path)) {
        _ if !signed => "403 Forbidden".to_owned(),
        ("PUT", Some(_)) if headers.get("if-none-match").is_some_and(|tag| tag == "*") => {
            "412 Precondition Failed".to_owned()
        }
        ("PUT", _) => {
            objects.insert(path.to_owned(), body);
            "200 OK\r\nETag: \"one\"".to_owned()
        }
        ("HEAD", Some(object)) => {
            let date = "Last-Modified: Sat, 21 Nov 2026 12:00:00 GMT";
            let head = format!("200 OK\r\nETag: \"one\"\r\n{date}\r\nContent-Length: {}", object.len());
            // The length is that of the object, which does not follow.
            write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").unwrap();
            return;
        }
        _ => "404 Not Found".to_owned(),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
}

/// A running shipper, ended with the test.
struct Shipper(Child);

impl Drop for Shipper {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ship(port: u16, endpoint: &str) -> Shipper {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gw-log-shipper"));
    command.args([
        "q",
        "--redis",
        &format!("redis://127.0.0.1:{port}"),
        "--store",
        "s3://bucket/logs",
        "--count",
        "10",
    ]);
    command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret");
    Shipper(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

#[test]
fn batches_become_objects_once() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let (endpoint, objects) = stub();
    let records: Vec<String> = (0..25).map(|number| format!("{{\"number\":{number}}}")).collect();
    call!(client, "GW.LOGPUSH", "q", "JSON", "RECORDS", &records => Vec<u64>);
    // Shipped by somebody who died before it was acknowledged.
    let (id, ..): (String, Vec<String>, u64) = call!(client, "GW.LOGPOP", "q", "COUNT", 10, "LEASE", 1);
    let before = format!("/bucket/logs/{id}.jsonl.zst");
    objects.lock().unwrap().insert(before.clone(), b"as it is".to_vec());

    let shipper = ship(server.port(), &endpoint);
    let mut is_empty = || {
        let figures: HashMap<String, u64> = call!(client, "GW.LOGSTATS", "q");
        figures["length"] + figures["leased"] == 0
    };
    await_until("the queue to be empty", DEADLINE, &mut is_empty).unwrap();
    drop(shipper);

    let mut objects = objects.lock().unwrap();
    assert_eq!(objects.remove(&before).unwrap(), b"as it is", "what was there is left alone");
    let lines = |object: &Vec<u8>| String::from_utf8(zstd::decode_all(&object[..]).unwrap()).unwrap();
    let shipped: String = objects.values().map(lines).collect();
    assert_eq!(shipped.lines().collect::<Vec<_>>(), records[10..], "{:?}", objects.keys());
}
