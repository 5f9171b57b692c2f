//! GW.CACHEKEY: the same request has the same key from every client. Checks the committed vectors with the server, and
//! with the documentation's functions for clients that make the key themselves.

use crate::markdown::{named, run_block};
use crate::support::start;
use gw_testkit::{call, reply};
use serde_json::Value;
use std::collections::HashSet;

const VECTORS: &str = include_str!("../../clients/spec/vectors/cache-keys.json");

fn vectors(part: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    vectors[part].as_array().unwrap().clone()
}

#[test]
fn the_server_makes_the_committed_keys() {
    let (_server, mut client) = start();
    for vector in vectors("keys") {
        let mut command = gw_testkit::redis::cmd("GW.CACHEKEY");
        command.arg("llm").arg(vector["json"].as_str());
        let ignored: Vec<_> = vector["ignore"].as_array().unwrap().iter().map(|name| name.as_str()).collect();
        if !ignored.is_empty() {
            command.arg("IGNORE").arg(ignored);
        }
        assert_eq!(command.query::<String>(&mut client).unwrap(), key_of(&vector), "{vector}");
    }
    for vector in vectors("refused") {
        let error = format!("ERR {}: at byte {}", vector["error"].as_str().unwrap(), vector["at"]);
        assert_eq!(reply!(client, "GW.CACHEKEY", "llm", vector["json"].as_str()), error, "{vector}");
    }
}

fn key_of(vector: &Value) -> String {
    format!("llm:{}", vector["sha256"].as_str().unwrap())
}

/// Calls a key function of the documentation for each vector.
fn keys_by(program: &str, name: &str, driver: &str) -> Vec<String> {
    let vectors = serde_json::to_string(VECTORS).unwrap();
    serde_json::from_value(run_block(program, name, &driver.replace("VECTORS", &vectors))).unwrap()
}

const PYTHON: &str = r#"
vectors = json.loads(VECTORS)["keys"]
print(json.dumps([cache_key("llm", json.loads(v["json"]), v["ignore"]) for v in vectors]))
"#;

const JAVASCRIPT: &str = r#"
const vectors = JSON.parse(VECTORS).keys;
console.log(JSON.stringify(vectors.map((v) => cacheKey("llm", JSON.parse(v.json), v.ignore))));
"#;

#[test]
fn clients_make_the_same_keys_in_python_and_javascript() {
    let expected: Vec<String> = vectors("keys").iter().map(key_of).collect();
    assert_eq!(keys_by("python3", "cache-key-python", PYTHON), expected);
    assert_eq!(keys_by("node", "cache-key-js", JAVASCRIPT), expected);
}

/// The documentation's function, word for word.
mod client {
    use gateway_core::canonical::{Json, NotCanonical};
    use sha2::{Digest, Sha256};

    pub fn cache_key(prefix: &str, request: &[u8], ignore: &[&[u8]]) -> Result<String, NotCanonical> {
        let mut hash = Sha256::new();
        Json::parse(request)?.without(ignore).write(&mut |piece| hash.update(piece));
        Ok(format!("{prefix}:{:x}", hash.finalize()))
    }
}

#[test]
fn clients_make_the_same_keys_in_rust() {
    for vector in vectors("keys") {
        let ignored: Vec<_> = vector["ignore"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let ignored: Vec<_> = ignored.into_iter().map(str::as_bytes).collect();
        let key = client::cache_key("llm", vector["json"].as_str().unwrap().as_bytes(), &ignored);
        assert_eq!(key, Ok(key_of(&vector)), "{vector}");
    }
    let words = |text: &str| text.replace("pub ", "").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (here, there) = (words(include_str!("cachekey.rs")), words(&named("cache-key-rust").text()));
    assert!(
        here.windows(there.len()).any(|part| part == there),
        "the documentation's function is not the one tested here"
    );
}

#[test]
fn every_field_changes_the_key() {
    let (_server, mut client) = start();
    let request = |change: &str, to: &str| {
        let request = r#"{"model":"gpt-4o","messages":[{"role":"system","content":"Be terse."},{"role":"user","content":"Hi"}],
            "tools":[{"name":"f","parameters":{"a":{"type":"string"}}}],"temperature":0.7,"seed":42,"stop":null,"n":1}"#;
        assert!(request.contains(change), "{change}");
        request.replacen(change, to, 1)
    };
    let mut keys = HashSet::new();
    for (change, to) in [
        ("", ""),
        ("gpt-4o", "gpt-4o-mini"),
        ("system", "developer"),
        ("terse.", "terse"),
        ("Hi", "hi"),
        ("\"f\"", "\"g\""),
        ("string", "number"),
        ("0.7", "0.70000001"),
        ("42", "43"),
        ("null", "[]"),
        ("null", "false"),
        (",\"n\":1", ""),
        ("\"n\":1", "\"n\":\"1\""),
        ("\"n\"", "\"m\""),
        (
            r#"{"role":"system","content":"Be terse."},{"role":"user","content":"Hi"}"#,
            r#"{"role":"user","content":"Hi"},{"role":"system","content":"Be terse."}"#,
        ),
    ] {
        let key: String = call!(client, "GW.CACHEKEY", "llm", request(change, to));
        assert!(keys.insert(key), "{change} -> {to}");
    }
    // The same request in another form has the same key.
    for (change, to) in
        [("0.7", "7e-1"), ("\"n\":1", "\"n\":1.0"), (",\n            \"tools\"", ",\"tools\""), ("Hi", "\\u0048i")]
    {
        let key: String = call!(client, "GW.CACHEKEY", "llm", request(change, to));
        assert!(keys.contains(&key), "{change} -> {to}");
    }
}

#[test]
fn arguments_that_are_too_long_are_refused() {
    let (_server, mut client) = start();
    let text = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
    assert!(reply!(client, "GW.CACHEKEY", "p".repeat(256), text(131_072)).starts_with("\"ppp"));
    assert_eq!(reply!(client, "GW.CACHEKEY", "p".repeat(257), "{}"), "ERR longer than 256 bytes: prefix");
    assert_eq!(reply!(client, "GW.CACHEKEY", "p", text(131_073)), "ERR longer than 131072 bytes: json");
}
