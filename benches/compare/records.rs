//! Log records as a gateway writes them.

use crate::random::Random;

/// Passages of it stand for prompts and answers. In blocks of 64 records they compress a little better than text
/// without repeated passages: to 318 bytes a record instead of 343.
const ENGLISH: &str = include_str!("../../README.md");
const MODELS: [&str; 4] = ["gpt-4o-mini", "gpt-4o", "claude-3-5-sonnet", "llama-3.1-70b"];
pub const BYTES: usize = 1_024;

/// A record of 1,024 bytes of JSON, different for each number.
pub fn record(number: u64) -> String {
    let mut random = Random(number);
    let mut below = |end| random.below(end);
    let model = MODELS[below(MODELS.len() as u64) as usize];
    let status = if below(10) == 0 { "error" } else { "success" };
    let mut text = format!(
        r#"{{"id":"chatcmpl-{:016x}{:016x}","time_ms":{},"api_key":"sk-team-{:02}","user":"user-{:05}","#,
        below(u64::MAX),
        below(u64::MAX),
        1_770_000_000_000 + number,
        below(40),
        below(20_000),
    );
    text += &format!(
        r#""model":"{model}","status":"{status}","cost":"0.{:08}","latency_ms":{},"ip":"10.{}.{}.{}","#,
        below(1_000_000),
        200 + below(9_000),
        below(256),
        below(256),
        below(256),
    );
    text += &format!(
        r#""usage":{{"prompt_tokens":{},"completion_tokens":{}}},"request":""#,
        20 + below(4_000),
        1 + below(900)
    );
    let (separator, end) = (r#"","response":""#, r#""}"#);
    let words = BYTES - text.len() - separator.len() - end.len();
    for (bytes, behind) in [(words / 3, separator), (words - words / 3, end)] {
        passage(below(ENGLISH.len() as u64 - BYTES as u64) as usize, bytes, &mut text);
        text += behind;
    }
    text
}

/// Adds `bytes` bytes of the text, starting at `from`, escaped for a JSON string.
fn passage(from: usize, bytes: usize, text: &mut String) {
    let plain = |&byte: &u8| match byte {
        b'"' => '\'',
        b'\\' => '/',
        b' '..=b'~' => char::from(byte),
        _ => ' ',
    };
    text.extend(ENGLISH.as_bytes().iter().skip(from).take(bytes).map(plain));
}
