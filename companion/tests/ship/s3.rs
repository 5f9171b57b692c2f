//! A real implementation of S3's protocol: moto, as a server on this machine.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use gw_testkit::{DEADLINE, Server, await_until, call};

use crate::support::{Companion, await_empty, config, python};

/// A running server, with a bucket. It ends with the value.
struct Moto {
    process: Child,
    endpoint: String,
}

/// Makes a bucket, puts an object, or prints all objects: their names and texts.
const CLIENT: &str = r#"
import json, sys, boto3, os
s3 = boto3.client("s3", endpoint_url=sys.argv[1])
if sys.argv[2] == "make":
    s3.create_bucket(Bucket="bucket")
elif sys.argv[2] == "put":
    s3.put_object(Bucket="bucket", Key=sys.argv[3], Body=sys.argv[4].encode())
else:
    found = s3.list_objects_v2(Bucket="bucket").get("Contents", [])
    print(json.dumps({o["Key"]: s3.get_object(Bucket="bucket", Key=o["Key"])["Body"].read().hex() for o in found}))
"#;

const VARIABLES: [(&str, &str); 3] =
    [("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];

impl Moto {
    fn start() -> Option<Self> {
        let server = python()?.with_file_name("moto_server");
        // Somebody else may take the port before it does: then with another one.
        loop {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = Command::new(&server);
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
            let mut moto = Self { process: command.spawn().unwrap(), endpoint: format!("http://127.0.0.1:{port}") };
            let mut has_ended = false;
            await_until("moto to listen", DEADLINE, || {
                has_ended = moto.process.try_wait().unwrap().is_some();
                has_ended || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            })
            .unwrap();
            if !has_ended {
                moto.client(&["make"]);
                return Some(moto);
            }
        }
    }

    fn client(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(python().unwrap());
        command.args(["-c", CLIENT, &self.endpoint]).args(arguments).envs(VARIABLES);
        let output = command.env("AWS_DEFAULT_REGION", "us-east-1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn batches_become_objects_once() {
    let Some(moto) = Moto::start() else { return };
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let records: Vec<String> = (0..25).map(|number| format!("{{\"number\":{number}}}")).collect();
    call!(client, "GW.LOGPUSH", "q", "JSON", "RECORDS", &records => Vec<u64>);
    // Shipped by somebody who died before it was acknowledged.
    let (id, ..): (String, Vec<String>, u64) = call!(client, "GW.LOGPOP", "q", "COUNT", 10, "LEASE", 1);
    let before = format!("logs/q-{id}.jsonl.zst");
    moto.client(&["put", &before, "as it is"]);

    let config = config(server.port(), &["q"], "s3://bucket/logs", "key = \"{queue}-{batch}\"\nrecords = 10");
    let endpoint = [("AWS_ENDPOINT_URL", &*moto.endpoint), ("AWS_ALLOW_HTTP", "true")];
    let companion = Companion::start_with(server.dir(), "gw", &config, &[&VARIABLES[..], &endpoint].concat());
    await_empty(&mut client, "q");
    let (status, log) = companion.stop();
    assert!(status.success(), "{log}");

    let listed: std::collections::BTreeMap<String, String> = serde_json::from_str(&moto.client(&["list"])).unwrap();
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let mut objects: std::collections::BTreeMap<String, Vec<u8>> =
        listed.into_iter().map(|(name, hex)| (name, bytes(&hex))).collect();
    assert_eq!(objects.remove(&before).unwrap(), b"as it is", "what was there is left alone");
    let lines = |object: &Vec<u8>| String::from_utf8(zstd::decode_all(&object[..]).unwrap()).unwrap();
    let shipped: String = objects.values().map(lines).collect();
    assert_eq!(shipped.lines().collect::<Vec<_>>(), records[10..], "{:?}", objects.keys());
}
