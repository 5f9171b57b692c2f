//! JSON in one form: the JSON Canonicalization Scheme (RFC 8785). A request has the same cache key whatever client wrote
//! it, in any order of members and with any white space.
//!
//! Texts that are no I-JSON (RFC 7493), on which RFC 8785 builds, are refused, because two different requests must never
//! have the same key: repeated names, halves of surrogate pairs, and numbers that are no IEEE 754 doubles.

use std::borrow::Cow;

use crate::json;

/// The deepest nesting of brackets. Tool schemas come to about 20.
pub const DEPTH_MAX: usize = 128;

/// JSON that has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotCanonical {
    /// Why.
    pub reason: Reason,
    /// The offset in bytes of what is wrong.
    pub at: usize,
}

/// Why JSON has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not JSON (RFC 8259): [`json::check`].
    Malformed,
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// An object has two members of the same name (RFC 7493, 2.3).
    RepeatedName,
    /// A `\u` escape that is half of a surrogate pair (RFC 7493, 2.1).
    LoneSurrogate,
    /// A number beyond the doubles (RFC 7493, 2.2), or an integer that a double would change into another: `1e400`,
    /// `9007199254740993`.
    InexactNumber,
}

impl Reason {
    /// The reason in words, for an error.
    pub fn text(self) -> &'static str {
        // The text below names it.
        const { assert!(DEPTH_MAX == 128) };
        match self {
            Reason::Malformed => "not valid JSON",
            Reason::TooDeep => "JSON nested deeper than 128",
            Reason::RepeatedName => "a name that repeats in JSON",
            Reason::LoneSurrogate => "half of a surrogate pair in JSON",
            Reason::InexactNumber => "a number that no double holds in JSON",
        }
    }
}

/// A parsed JSON text. It refers to the text's bytes.
#[derive(Debug)]
pub struct Json<'a>(Node<'a>);

#[derive(Debug)]
enum Node<'a> {
    /// `null`, `true`, `false`: canonical as they are.
    Word(&'a str),
    Number(f64),
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    /// Sorted by the UTF-16 code units of the names.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Json<'a> {
    /// Takes time O(n log n) in the bytes.
    pub fn parse(text: &'a [u8]) -> Result<Self, NotCanonical> {
        json::check(text).map_err(|error| NotCanonical { reason: Reason::Malformed, at: error.at })?;
        let text = std::str::from_utf8(text)
            .map_err(|error| NotCanonical { reason: Reason::Malformed, at: error.valid_up_to() })?;
        let mut parser = Parser { text, at: 0 };
        parser.value(0).map(Self)
    }

    /// Removes members of the outermost object; those of objects inside it stay. A text that is not an object has no members.
    pub fn without(mut self, names: &[&[u8]]) -> Self {
        if let Node::Object(members) = &mut self.0 {
            members.retain(|(name, _)| !names.contains(&name.as_bytes()));
        }
        self
    }

    /// Passes the canonical text on, piece by piece.
    pub fn write(&self, out: &mut impl FnMut(&[u8])) {
        self.0.write(out);
    }
}

impl Node<'_> {
    fn write(&self, out: &mut impl FnMut(&[u8])) {
        match self {
            Node::Word(word) => out(word.as_bytes()),
            Node::Number(number) => out(ryu_js::Buffer::new().format_finite(*number).as_bytes()),
            Node::String(string) => write_string(string, out),
            Node::Array(items) => {
                out(b"[");
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out(b",");
                    }
                    item.write(out);
                }
                out(b"]");
            }
            Node::Object(members) => {
                out(b"{");
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out(b",");
                    }
                    write_string(name, out);
                    out(b":");
                    value.write(out);
                }
                out(b"}");
            }
        }
    }
}

/// As ECMAScript's JSON.stringify does (RFC 8785, 3.2.2.2): the shortest escapes, and only for what needs one.
fn write_string(string: &str, out: &mut impl FnMut(&[u8])) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out(b"\"");
    let bytes = string.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out(bytes.get(written..at).unwrap_or_default());
        written = at + 1;
        match byte {
            b'"' => out(b"\\\""),
            b'\\' => out(b"\\\\"),
            0x08 => out(b"\\b"),
            b'\t' => out(b"\\t"),
            b'\n' => out(b"\\n"),
            0x0c => out(b"\\f"),
            b'\r' => out(b"\\r"),
            _ => out(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    out(bytes.get(written..).unwrap_or_default());
    out(b"\"");
}

/// Reads a text that [`json::check`] has passed. Should the two ever disagree, the text is malformed.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Node<'a>, NotCanonical> {
        self.space();
        match self.peek() {
            Some(b'[' | b'{') if depth == DEPTH_MAX => self.fail(Reason::TooDeep, self.at),
            Some(b'[') => self.array(depth),
            Some(b'{') => self.object(depth),
            Some(b'"') => Ok(Node::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'a'..=b'z') => Ok(Node::Word(self.take_while(|byte| byte.is_ascii_lowercase()))),
            _ => self.fail(Reason::Malformed, self.at),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Node<'a>, NotCanonical> {
        self.expect(b'[')?;
        let mut items = Vec::new();
        if !self.closes(b']') {
            loop {
                items.push(self.value(depth + 1)?);
                if self.closes(b']') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        Ok(Node::Array(items))
    }

    fn object(&mut self, depth: usize) -> Result<Node<'a>, NotCanonical> {
        self.expect(b'{')?;
        let mut members = Vec::new();
        if !self.closes(b'}') {
            loop {
                self.space();
                let at = self.at;
                let name = self.string()?;
                self.space();
                self.expect(b':')?;
                members.push((at, (name, self.value(depth + 1)?)));
                if self.closes(b'}') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        // Stable, so that of equal names the second in the text stands behind the first.
        members.sort_by(|(_, (one, _)), (_, (other, _))| utf16_order(one, other));
        for pair in members.windows(2) {
            if let [(_, (one, _)), (at, (other, _))] = pair
                && one == other
            {
                return self.fail(Reason::RepeatedName, *at);
            }
        }
        Ok(Node::Object(members.into_iter().map(|(_, member)| member).collect()))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, NotCanonical> {
        self.expect(b'"')?;
        let mut string = Cow::Borrowed(self.take_while(|byte| byte != b'"' && byte != b'\\'));
        while self.peek() == Some(b'\\') {
            let character = self.escape()?;
            let string = string.to_mut();
            string.push(character);
            string.push_str(self.take_while(|byte| byte != b'"' && byte != b'\\'));
        }
        self.expect(b'"')?;
        Ok(string)
    }

    fn escape(&mut self) -> Result<char, NotCanonical> {
        let start = self.at;
        self.at += 1;
        let letter = self.peek();
        self.at += 1;
        Ok(match letter {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let mut units = vec![self.hex(start)?];
                if units.iter().any(|unit| (0xd800..0xdc00).contains(unit)) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    units.push(self.hex(start)?);
                }
                match char::decode_utf16(units.iter().copied()).collect::<Result<Vec<_>, _>>().as_deref() {
                    Ok(&[character]) => character,
                    _ => return self.fail(Reason::LoneSurrogate, start),
                }
            }
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            _ => return self.fail(Reason::Malformed, start),
        })
    }

    fn hex(&mut self, start: usize) -> Result<u16, NotCanonical> {
        let digits = self.text.get(self.at..self.at + 4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        self.at += 4;
        digits.ok_or(NotCanonical { reason: Reason::Malformed, at: start })
    }

    fn number(&mut self) -> Result<Node<'a>, NotCanonical> {
        let start = self.at;
        let text = self.take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let number: f64 = text.parse().or_else(|_| self.fail(Reason::Malformed, start))?;
        // A fraction is read as the nearest double, as every client reads it. An integer that a double would change would
        // give two requests (with two seeds, say) the same key; so it must be written as the double is.
        let integer = !text.contains(['.', 'e', 'E']);
        if !number.is_finite() || (integer && number.abs() >= INTEGER_MAX && !written_as(number, text)) {
            return self.fail(Reason::InexactNumber, start);
        }
        Ok(Node::Number(number))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The bytes up to the first that does not fit. That is an ASCII byte or the first of a character, never one inside.
    fn take_while(&mut self, fits: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = rest.bytes().position(|byte| !fits(byte)).map_or(rest, |end| rest.get(..end).unwrap_or_default());
        self.at += taken.len();
        taken
    }

    fn space(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn closes(&mut self, bracket: u8) -> bool {
        self.space();
        let closes = self.peek() == Some(bracket);
        self.at += usize::from(closes);
        closes
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotCanonical> {
        if self.peek() != Some(byte) {
            return self.fail(Reason::Malformed, self.at);
        }
        self.at += 1;
        Ok(())
    }

    fn fail<T>(&self, reason: Reason, at: usize) -> Result<T, NotCanonical> {
        Err(NotCanonical { reason, at })
    }
}

/// 2^53: all integers below are doubles.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Is the integer `text` the number as ECMAScript writes it, digit by digit?
fn written_as(number: f64, text: &str) -> bool {
    let mut buffer = ryu_js::Buffer::new();
    let written = buffer.format_finite(number);
    let significant = |text: &str| text.trim_end_matches('0').to_owned();
    match written.split_once('e') {
        // From 1e21 on: `1.5e+21`, whose digits are those of 1500….
        Some((digits, exponent)) => {
            let digits: String = digits.chars().filter(|&c| c != '.').collect();
            let places = exponent.trim_start_matches('+').parse::<usize>().unwrap_or(0) + 1;
            let unsigned = text.trim_start_matches('-');
            significant(unsigned) == significant(digits.trim_start_matches('-')) && unsigned.len() == places
        }
        None => written == text,
    }
}

fn utf16_order(one: &str, other: &str) -> std::cmp::Ordering {
    if one.is_ascii() && other.is_ascii() {
        return one.cmp(other);
    }
    one.encode_utf16().cmp(other.encode_utf16())
}

#[cfg(test)]
#[path = "canonical_tests.rs"]
mod tests;
