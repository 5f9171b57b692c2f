//! RESP: commands as they come, and replies as they go, in both versions of the protocol.

use std::io::{BufRead, Error, ErrorKind, Read};

use crate::{Amount, Text};

/// The longest word of a command, and the most words: what a server takes.
const LONGEST: usize = 512 << 20;
const MOST: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Nil,
    Ok,
    Int(i64),
    Bulk(Vec<u8>),
    Array(Vec<Reply>),
    /// Names and values in turn.
    Map(Vec<Reply>),
    Error(String),
}

impl From<i64> for Reply {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Reply {
    fn from(found: bool) -> Self {
        Self::Int(found.into())
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::Bulk(text.as_bytes().to_vec())
    }
}

impl From<Text> for Reply {
    fn from(text: Text) -> Self {
        Self::Bulk(text.into_bytes())
    }
}

impl From<Amount> for Reply {
    fn from(amount: Amount) -> Self {
        Self::Bulk(amount.to_string().into_bytes())
    }
}

impl From<Vec<Reply>> for Reply {
    fn from(all: Vec<Reply>) -> Self {
        Self::Array(all)
    }
}

impl Reply {
    pub(super) fn write(&self, resp3: bool, to: &mut Vec<u8>) {
        match self {
            Self::Nil => to.extend_from_slice(if resp3 { b"_\r\n" } else { b"$-1\r\n" }),
            Self::Ok => to.extend_from_slice(b"+OK\r\n"),
            Self::Int(number) => to.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Self::Bulk(bytes) => {
                to.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
                to.extend_from_slice(bytes);
                to.extend_from_slice(b"\r\n");
            }
            Self::Array(all) => {
                to.extend_from_slice(format!("*{}\r\n", all.len()).as_bytes());
                all.iter().for_each(|one| one.write(resp3, to));
            }
            Self::Map(all) if resp3 => {
                to.extend_from_slice(format!("%{}\r\n", all.len() / 2).as_bytes());
                all.iter().for_each(|one| one.write(resp3, to));
            }
            Self::Map(all) => Self::Array(all.clone()).write(resp3, to),
            Self::Error(line) => to.extend_from_slice(format!("-{}\r\n", line.replace(['\r', '\n'], " ")).as_bytes()),
        }
    }
}

/// Reads a command's words: at least its name.
pub(super) fn read_words(from: &mut impl BufRead) -> std::io::Result<Vec<Text>> {
    let count = number(from, b'*', MOST)?;
    if count == 0 {
        return Err(ErrorKind::InvalidData.into());
    }
    (0..count)
        .map(|_| {
            let length = number(from, b'$', LONGEST)?;
            // Room is made as the bytes come: a length alone takes no memory.
            let mut word = Vec::new();
            from.by_ref().take(length as u64 + 2).read_to_end(&mut word)?;
            if word.len() != length + 2 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            word.truncate(length);
            Ok(word.into())
        })
        .collect()
}

fn number(from: &mut impl BufRead, sign: u8, most: usize) -> std::io::Result<usize> {
    let mut line = String::new();
    from.by_ref().take(32).read_line(&mut line)?;
    let digits = if line.as_bytes().first() == Some(&sign) { line[1..].trim_end() } else { "" };
    digits.parse().ok().filter(|&found| found <= most).ok_or_else(|| Error::from(ErrorKind::InvalidData))
}
