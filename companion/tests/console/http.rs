//! As much of an HTTP client as these tests need: one request a connection.

use std::io::{Read, Write};
use std::net::TcpStream;

#[derive(Debug, Clone)]
pub struct Client {
    pub address: String,
    pub host: String,
    pub cookie: String,
    pub csrf: String,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Client {
    pub fn new(address: &str) -> Self {
        Self { address: address.into(), host: address.into(), cookie: String::new(), csrf: String::new() }
    }

    /// A client with a session.
    pub fn signed_in(&self, token: &str) -> Self {
        let answer = self.post("/console/api/sign-in", &format!(r#"{{"token":"{token}"}}"#));
        assert_eq!(answer.status, 200, "{answer:?}");
        let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        let signed_in = Self { cookie: cookie.split(';').next().unwrap().to_owned(), ..self.clone() };
        let csrf = signed_in.get("/console/api/session").json()["csrf"].as_str().unwrap().to_owned();
        Self { csrf, ..signed_in }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, body)
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let Self { address, host, cookie, csrf } = self;
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncookie: {cookie}\r\nx-gw-csrf: {csrf}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.replace("\r\n", "\n"), body: body.to_owned() }
    }
}
