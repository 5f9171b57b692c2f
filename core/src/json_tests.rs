use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn break_at(text: impl AsRef<[u8]>) -> Option<usize> {
    check(text.as_ref()).err().map(|error| error.at)
}

#[test]
fn every_kind_of_value_is_a_text() {
    for text in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "10",
        "1.0",
        "1e5",
        "-1.25E-10",
        "1E+400",
        "\"\"",
        "[]",
        "{}",
        " [ ] ",
        "\t{ \"a\" : [ 1 , { } ] , \"a\" : null }\r\n",
        r#""\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00""#,
        r#""\ud800""#,
        "\"\u{7f}\u{e9}\u{20ac}\u{1f600}\u{2028}\"",
        r#"{"":""}"#,
        r#""\\u12""#,
        "123456789012345678901234567890123456789012345678901234567890",
    ] {
        assert_eq!(break_at(text), None, "{text}");
    }
}

#[test]
fn the_first_wrong_byte_is_named() {
    for marked in [
        // Not a value, or more than one.
        "|\u{feff}1",
        "|]",
        "|,",
        "|'a'",
        "|+1",
        "|.5",
        "|NaN",
        "|True",
        "|#",
        "1 |2",
        "{}|x",
        "null|,",
        r#""a"|"b""#,
        "1|\u{b}",
        "1|\u{a0}",
        "\n\n\n |x",
        // Names.
        "nul| ",
        "null|l",
        "tr|Ue",
        "fals|E",
        "[nul|]",
        // Numbers.
        "0|1",
        "-0|1",
        "-|-1",
        "-|a",
        "1.|",
        "1.|e5",
        "1.|.",
        "1.|x",
        "1e|",
        "1e+|",
        "1e+|+",
        "1e|x",
        "1e5|.",
        "-|",
        "[-|]",
        "[1.|]",
        "0|x1",
        "1e-|\n",
        // Strings.
        "\"a|\nb\"",
        "\"|\n\"",
        "\"|\u{0}\"",
        "\"abcdefghijklmnop|\t\"",
        r#""\|x""#,
        "\"\\|\n",
        r#""\u|Z000""#,
        r#""\u0|Z00""#,
        r#""\u00|Z0""#,
        r#""\u000|Z""#,
        r#""\u12|"}"#,
        r#""\u|Z"#,
        r#""\u|\u12"#,
        r#""\u1234\u5|""#,
        "\"\\\\u12|\n",
        "\"\\\\\\u12|\n",
        "\"\\u00e|\u{e9}\"",
        // Brackets.
        "[1,|]",
        "[|,1]",
        "[1 |2]",
        "[1|}",
        "{|1:2}",
        r#"{"a"|1}"#,
        r#"{"a":|}"#,
        r#"{"a":1,|}"#,
        r#"{"a":1 |"b""#,
        r#"{"a"|,"#,
        "[[[1]]]|]",
        "{|]",
        "{\n\"a\":\n\n1\n|]",
        // Ends early.
        "|",
        " |",
        "nul|",
        r#""|"#,
        r#""\|"#,
        r#""\u|"#,
        r#""\u00|"#,
        "[|",
        "[1,\n|",
        "{|",
        r#"{"a|"#,
        r#"{"a"|"#,
        r#"{"a":|"#,
        r#"{"a":1|"#,
        r#"["\\|"#,
    ] {
        let text = marked.replacen('|', "", 1);
        assert_eq!(break_at(text), marked.find('|'), "{marked:?}");
    }
}

#[test]
fn malformed_utf8_breaks_where_it_starts() {
    let cases: [(&[u8], usize); 11] = [
        (b"\"ab\xff\"", 3),
        (b"\"\xc3\x28\"", 1),
        (b"\"\xe2\x82\"", 1),
        (b"\"\xc0\x80\"", 1),
        (b"\"\xed\xa0\x80\"", 1),
        (b"\"\xf4\x90\x80\x80\"", 1),
        // The first mistake counts.
        (b"[1,]\xff", 3),
        (b"[\xc3", 1),
        (b"\"\\u\xc3", 3),
        // A character cut off by the end: there is more to come.
        (b"\"a\xc3", 3),
        (b"\"\xf0\x9f\x98", 4),
    ];
    for (text, at) in cases {
        assert_eq!(break_at(text), Some(at), "{text:?}");
    }
}

#[test]
fn depth_costs_neither_stack_nor_time() {
    const DEPTH: usize = 1_000_000;
    assert_eq!(break_at("[".repeat(DEPTH)), Some(DEPTH));
    assert_eq!(break_at("[".repeat(DEPTH) + &"]".repeat(DEPTH)), None);
    assert_eq!(break_at("[".repeat(DEPTH) + "}"), Some(DEPTH));
    assert_eq!(break_at("{\"a\":".repeat(DEPTH)), Some(5 * DEPTH));
    assert_eq!(break_at("\"".to_owned() + &"\\".repeat(2 * DEPTH) + "u12\n"), Some(2 * DEPTH + 4));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    (value(), any::<bool>()).prop_map(|(value, pretty)| match pretty {
        true => serde_json::to_vec_pretty(&value).unwrap(),
        false => serde_json::to_vec(&value).unwrap(),
    })
}

/// RFC 8259 once more for UTF-8 texts, with a function for each rule. A function takes the offset at which it starts,
/// and returns the offset after what it read, or that of the first wrong byte.
mod oracle {
    type Parsed = Result<usize, usize>;

    pub fn json_text(text: &[u8]) -> Result<(), usize> {
        let end = space(text, value(text, space(text, 0))?);
        (end == text.len()).then_some(()).ok_or(end)
    }

    fn at(text: &[u8], offset: usize) -> u8 {
        // A byte that no rule allows stands for the end.
        text.get(offset).copied().unwrap_or(0)
    }

    fn space(text: &[u8], mut offset: usize) -> usize {
        while b" \t\n\r".contains(&at(text, offset)) {
            offset += 1;
        }
        offset
    }

    fn literal(text: &[u8], start: usize, expected: &[u8]) -> Parsed {
        expected.iter().enumerate().try_fold(start, |_, (i, byte)| match at(text, start + i) == *byte {
            true => Ok(start + i + 1),
            false => Err(start + i),
        })
    }

    fn digits(text: &[u8], start: usize) -> Parsed {
        let count = (start..).take_while(|offset| at(text, *offset).is_ascii_digit()).count();
        if count == 0 { Err(start) } else { Ok(start + count) }
    }

    fn number(text: &[u8], mut offset: usize) -> Parsed {
        offset += usize::from(at(text, offset) == b'-');
        offset = if at(text, offset) == b'0' { offset + 1 } else { digits(text, offset)? };
        if at(text, offset) == b'.' {
            offset = digits(text, offset + 1)?;
        }
        if b"eE".contains(&at(text, offset)) {
            offset += 1;
            offset += usize::from(b"+-".contains(&at(text, offset)));
            offset = digits(text, offset)?;
        }
        Ok(offset)
    }

    fn string(text: &[u8], start: usize) -> Parsed {
        let mut offset = literal(text, start, b"\"")?;
        loop {
            match at(text, offset) {
                b'"' => return Ok(offset + 1),
                b'\\' if at(text, offset + 1) == b'u' => {
                    let digits = offset + 2..offset + 6;
                    offset = digits.end;
                    if let Some(wrong) = digits.into_iter().find(|i| !at(text, *i).is_ascii_hexdigit()) {
                        return Err(wrong);
                    }
                }
                b'\\' if b"\"\\/bfnrt".contains(&at(text, offset + 1)) => offset += 2,
                b'\\' => return Err(offset + 1),
                0..0x20 => return Err(offset),
                _ => offset += 1,
            }
        }
    }

    fn value(text: &[u8], start: usize) -> Parsed {
        match at(text, start) {
            b'n' => literal(text, start, b"null"),
            b't' => literal(text, start, b"true"),
            b'f' => literal(text, start, b"false"),
            b'"' => string(text, start),
            b'[' => members(text, start, b']', value),
            b'{' => members(text, start, b'}', |text, start| {
                let colon = literal(text, space(text, string(text, start)?), b":")?;
                value(text, space(text, colon))
            }),
            _ => number(text, start),
        }
    }

    fn members(text: &[u8], start: usize, close: u8, member: impl Fn(&[u8], usize) -> Parsed) -> Parsed {
        let mut offset = space(text, start + 1);
        if at(text, offset) == close {
            return Ok(offset + 1);
        }
        loop {
            offset = space(text, member(text, offset)?);
            match at(text, offset) {
                byte if byte == close => return Ok(offset + 1),
                b',' => offset = space(text, offset + 1),
                _ => return Err(offset),
            }
        }
    }
}

/// Characters that have a meaning in JSON, and one of two bytes.
const MEANINGFUL: &str = "[\\]\\[{}:,\"\\\\u0-9a-f.eE+\\- \n\u{e9}]";

/// Almost valid tokens in an almost valid order.
const TOKENS: &str = "([\\[\\]{}:,]|\"(\\\\[u\"\\\\nx]|[0-9a-f\n]){0,7}\"|[0-9.eE+-]{1,4}|null|true| ){1,9}";

proptest! {
    #[test]
    fn written_json_is_accepted_and_breaks_at_its_end_if_cut_short(text in text()) {
        prop_assert_eq!(break_at(&text), None);
        // Only a number can be cut short and stay valid.
        let scalar = !matches!(text[0], b'[' | b'{' | b'"');
        for len in 0..text.len() {
            let cut = break_at(&text[..len]);
            prop_assert!(cut == Some(len) || (cut.is_none() && scalar), "{} of {:?}", len, text);
        }
    }

    #[test]
    fn a_changed_text_breaks_where_the_grammar_says(
        text in text(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), MEANINGFUL), 1..4),
    ) {
        let mut text = String::from_utf8(text).unwrap();
        for (place, replace, with) in changes {
            let (start, old) = text.char_indices().nth(place.index(text.chars().count())).unwrap();
            text.replace_range(start..start + if replace { old.len_utf8() } else { 0 }, &with);
        }
        prop_assert_eq!(break_at(&text), oracle::json_text(text.as_bytes()).err(), "{}", text);
    }

    #[test]
    fn json_like_bytes_break_where_the_grammar_says(text in TOKENS) {
        prop_assert_eq!(break_at(&text), oracle::json_text(text.as_bytes()).err(), "{}", text);
    }

    #[test]
    fn any_bytes_are_checked_without_panic(bytes: Vec<u8>) {
        if let Err(error) = check(&bytes) {
            prop_assert!(error.at <= bytes.len());
        }
    }
}
