use std::fmt;
use std::fmt::Write;

use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

/// The deepest nesting of arrays and objects that has a canonical form.
const DEPTH: usize = 128;

/// Why a request has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// A colon in the category or the tenant.
    Colon,
    /// It is not JSON, or not UTF-8.
    NotJson,
    /// Arrays and objects are nested deeper than 128.
    Depth,
    /// An object has a name twice.
    RepeatedName,
    /// Half of a surrogate pair.
    HalfPair,
    /// A number that a double cannot hold: too large, or an integer that it would change into another.
    Number,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Colon => "a colon in the category or the tenant of a cache key",
            Self::NotJson => "no canonical form: not valid JSON",
            Self::Depth => "no canonical form: nested deeper than 128",
            Self::RepeatedName => "no canonical form: a name that repeats",
            Self::HalfPair => "no canonical form: half of a surrogate pair",
            Self::Number => "no canonical form: a number that a double cannot hold",
        })
    }
}

impl std::error::Error for KeyError {}

/// The key of a request in the cache, the same as GW.CACHEKEY's: `category:tenant:hash`, or `category:hash` without a tenant.
///
/// `request` is JSON text. `ignore` are members of the request that do not change the answer, at its top alone. Two tenants never
/// share a key: neither the category nor the tenant may contain a colon, and an empty tenant is not the same as none.
///
/// ```
/// let request = r#"{"model": "small", "messages": ["Hi"], "user": "u1"}"#;
/// let key = redis_gateway_client::cache_key("chat", Some("acme"), request, &["user", "stream"])?;
/// assert_eq!(key, redis_gateway_client::cache_key("chat", Some("acme"), r#"{"messages":["Hi"],"model":"small"}"#, &[])?);
/// # Ok::<(), redis_gateway_client::KeyError>(())
/// ```
pub fn cache_key(
    category: &str,
    tenant: Option<&str>,
    request: impl AsRef<[u8]>,
    ignore: &[&str],
) -> Result<String, KeyError> {
    if category.contains(':') || tenant.is_some_and(|tenant| tenant.contains(':')) {
        return Err(KeyError::Colon);
    }
    let hash = Sha256::digest(made(request.as_ref(), ignore)?);
    let mut key = category.to_owned();
    if let Some(tenant) = tenant {
        key.push(':');
        key.push_str(tenant);
    }
    key.push(':');
    for byte in hash {
        let _ = write!(key, "{byte:02x}");
    }
    Ok(key)
}

/// The canonical form (RFC 8785) of a JSON text.
pub fn canonical(json: impl AsRef<[u8]>) -> Result<String, KeyError> {
    made(json.as_ref(), &[])
}

fn made(json: &[u8], ignore: &[&str]) -> Result<String, KeyError> {
    let text = std::str::from_utf8(json).map_err(|_| KeyError::NotJson)?;
    depth_of(text)?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| KeyError::NotJson)?;
    let mut reader = Reader { text, at: 0, ignore };
    let mut out = String::with_capacity(text.len());
    reader.value(0, &mut out)?;
    Ok(out)
}

/// What is nested too deep is refused before anything reads it by recursion.
fn depth_of(text: &str) -> Result<(), KeyError> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for letter in text.bytes() {
        match letter {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                if depth > DEPTH {
                    return Err(KeyError::Depth);
                }
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Writes the canonical form of a text that is known to be valid, so it looks for no mistakes of the grammar.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    ignore: &'a [&'a str],
}

impl Reader<'_> {
    /// Skips white space, and returns the byte that follows.
    fn next(&mut self) -> u8 {
        while matches!(self.text.as_bytes()[self.at], b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
        self.text.as_bytes()[self.at]
    }

    fn value(&mut self, depth: usize, out: &mut String) -> Result<(), KeyError> {
        match self.next() {
            b'{' => self.object(depth, out),
            b'[' => self.array(depth, out),
            b'"' => {
                write_string(out, &self.string()?);
                Ok(())
            }
            first @ (b't' | b'f' | b'n') => {
                let end = self.at + if first == b'f' { 5 } else { 4 };
                out.push_str(&self.text[self.at..end]);
                self.at = end;
                Ok(())
            }
            _ => {
                let rest = &self.text[self.at..];
                let end = rest.find(|letter| !"+-.0123456789eE".contains(letter)).unwrap_or(rest.len());
                self.at += end;
                write_number(out, &rest[..end])
            }
        }
    }

    fn array(&mut self, depth: usize, out: &mut String) -> Result<(), KeyError> {
        out.push('[');
        self.at += 1;
        let mut first = true;
        while self.next() != b']' {
            if !first {
                self.at += 1; // The comma.
                out.push(',');
            }
            first = false;
            self.value(depth + 1, out)?;
        }
        self.at += 1;
        out.push(']');
        Ok(())
    }

    fn object(&mut self, depth: usize, out: &mut String) -> Result<(), KeyError> {
        self.at += 1;
        let mut members: Vec<(String, String)> = Vec::new();
        let mut first = true;
        while self.next() != b'}' {
            if !first {
                self.at += 1; // The comma.
                self.next();
            }
            first = false;
            let name = self.string()?;
            self.next();
            self.at += 1; // The colon.
            let mut value = String::new();
            self.value(depth + 1, &mut value)?;
            members.push((name, value));
        }
        self.at += 1;
        members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
        if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(KeyError::RepeatedName);
        }
        if depth == 0 {
            members.retain(|(name, _)| !self.ignore.contains(&name.as_str()));
        }
        out.push('{');
        for (at, (name, value)) in members.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_string(out, name);
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        Ok(())
    }

    fn string(&mut self) -> Result<String, KeyError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while bytes[self.at] != b'"' {
            self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        // The text is valid JSON, so the only thing that can be wrong with a string is half of a surrogate pair.
        serde_json::from_str(&self.text[start..self.at]).map_err(|_| KeyError::HalfPair)
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            ..' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    out.push('"');
}

fn write_number(out: &mut String, text: &str) -> Result<(), KeyError> {
    let value: f64 = text.parse().map_err(|_| KeyError::Number)?;
    if !value.is_finite() {
        return Err(KeyError::Number);
    }
    let start = out.len();
    write_double(out, value);
    // An integer that the double would change into another, such as a seed.
    let integer = !text.contains(['.', 'e', 'E']);
    if integer && value.abs() >= 9_007_199_254_740_992.0 && !same_integer(text, &out[start..]) {
        return Err(KeyError::Number);
    }
    Ok(())
}

/// Whether a text that may have an exponent is the same number as an integer without one.
fn same_integer(integer: &str, written: &str) -> bool {
    let (digits, power) = written.split_once("e+").unwrap_or((written, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let Ok(power) = power.parse::<usize>() else { return false };
    power >= fraction.len() && integer == format!("{whole}{fraction}{}", "0".repeat(power - fraction.len()))
}

/// Writes a number as ECMAScript does: the shortest digits that read as the same double.
fn write_double(out: &mut String, value: f64) {
    if value == 0.0 {
        out.push('0');
        return;
    }
    if value < 0.0 {
        out.push('-');
    }
    let (digits, point) = digits_of(value.abs());
    let count = digits.len() as i32;
    if !(-5..=21).contains(&point) {
        out.push_str(&digits[..1]);
        if count > 1 {
            out.push('.');
            out.push_str(&digits[1..]);
        }
        let _ = write!(out, "e{}{}", if point > 0 { "+" } else { "" }, point - 1);
    } else if point <= 0 {
        let _ = write!(out, "0.{}{digits}", "0".repeat(point.unsigned_abs() as usize));
    } else if count <= point {
        let _ = write!(out, "{digits}{}", "0".repeat((point - count) as usize));
    } else {
        let (whole, fraction) = digits.split_at(point as usize);
        let _ = write!(out, "{whole}.{fraction}");
    }
}

/// The digits of a number above 0 without zeros at either end, and the place of the point among them.
///
/// Of two shortest texts at the same distance ECMAScript wants the even one, as serde_json writes it; the standard library writes the
/// other.
fn digits_of(value: f64) -> (String, i32) {
    let text = serde_json::to_string(&value).unwrap_or_default();
    let (number, power) = text.split_once('e').unwrap_or((&text, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let point = whole.len() as i32 - leading as i32 + power.parse::<i32>().unwrap_or_default();
    (digits.trim_matches('0').to_owned(), point)
}
