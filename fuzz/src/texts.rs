//! Targets for texts: JSON, policies, patterns, numbers, times.

use gateway_core::admission::document::{self, DOCUMENT_BYTES_MAX, Named};
use gateway_core::admission::form::{Draft, Form, Given, Said, Takes};
use gateway_core::admission::{POLICIES_MAX, Policy};
use gateway_core::calendar::{Calendar, CivilDate, Day, Period};
use gateway_core::canonical::{Json, NotCanonical, Reason};
use gateway_core::integer::parse_int;
use gateway_core::money::{Amount, AmountError, TEXT_MAX_BYTES};
use gateway_core::{TIME_MAX_MS, glob as patterns, json as grammar};

use crate::memory::bounded;
use crate::server::START_MS;

/// JSON's grammar, and the place of a mistake.
pub fn json(data: &[u8]) {
    let checked = grammar::check(data);
    let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok() && std::str::from_utf8(data).is_ok();
    assert_eq!(checked.is_ok(), parsed, "not what the parser says");
    let Err(error) = checked else { return };
    assert!(error.at <= data.len());
    // No JSON text begins with the bytes up to the wrong one.
    if let Some(up_to) = data.get(..=error.at) {
        for rest in [&b""[..], b" ", b"\"", b"]", b"}", b"0", b"}]\"", &data[error.at + 1..]] {
            assert!(grammar::check(&[up_to, rest].concat()).is_err(), "a JSON text begins with a mistake");
        }
    }
    // The bytes before it are the beginning of one, so that the mistake is not earlier.
    if let Err(earlier) = grammar::check(&data[..error.at]) {
        assert!(earlier.at >= error.at || std::str::from_utf8(data).is_err(), "the mistake is earlier");
    }
}

fn written(json: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    json.write(&mut |piece| out.extend_from_slice(piece));
    out
}

/// Canonical JSON: the same value, in a form that is its own.
pub fn canonical(data: &[u8]) {
    let parsed = bounded(data.len(), || Json::parse(data));
    let json = match parsed {
        Ok(json) => json,
        Err(NotCanonical { reason, at }) => {
            assert!(at <= data.len());
            assert_eq!(reason == Reason::Malformed, grammar::check(data).is_err());
            return;
        }
    };
    let text = written(&json);
    // A character needs at most six bytes as an escape, a number at most 25.
    assert!(text.len() <= 26 * data.len());
    let again = Json::parse(&text).expect("the canonical form is refused");
    assert!(written(&again) == text, "the canonical form is not its own");
    // serde_json nests less deep.
    if let (Ok(one), Ok(other)) = (serde_json::from_slice(data), serde_json::from_slice(&text)) {
        assert!(same(&one, &other), "the canonical form is another value");
    }
    let all: Vec<Vec<u8>> = match serde_json::from_slice(&text) {
        Ok(serde_json::Value::Object(members)) => members.keys().map(|name| name.clone().into_bytes()).collect(),
        _ => return,
    };
    let names: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    assert_eq!(written(&again.without(&names)), b"{}");
}

/// Equal, with numbers as doubles.
fn same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value as V;
    match (one, other) {
        (V::Number(one), V::Number(other)) => one.as_f64() == other.as_f64(),
        (V::Array(one), V::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (V::Object(one), V::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
        }
        (one, other) => one == other,
    }
}

/// Policies as a document, or as the words of GW.POLICYSET.
pub fn policies(data: &[u8]) {
    if let Ok(policies) = bounded(data.len(), || document::read(data, START_MS)) {
        assert!(data.len() <= DOCUMENT_BYTES_MAX && policies.len() <= POLICIES_MAX);
        check_policies(&policies);
    }
    let mut words = data.split(|byte| *byte == b' ');
    let Some(form) = words.next().and_then(Form::named) else { return };
    let mut draft = Draft::new(form);
    for (index, word) in form.words.iter().enumerate().filter(|(_, word)| word.option.is_none()) {
        let Some(given) = words.next() else { return };
        assert!(draft.give(index, Given::Argument(given)), "{} is given twice", word.member);
    }
    while let Some(option) = words.next() {
        let index = form.words.iter().position(|word| word.option.is_some_and(|name| name.as_bytes() == option));
        let Some(index) = index else { return };
        let given = match form.words[index].takes {
            Takes::Nothing => Given::Word,
            _ => match words.next() {
                Some(given) => Given::Argument(given),
                None => return,
            },
        };
        draft.give(index, given);
    }
    if let Ok(policy) = draft.policy(START_MS) {
        assert_eq!(of_words(&policy), Some(policy.clone()), "its own words make another policy");
        check_policies(&[(b"name".as_slice().into(), policy)]);
    }
}

/// The policy of a policy's own words.
fn of_words(policy: &Policy) -> Option<Policy> {
    let form = Form::of(&policy.kind);
    let mut draft = Draft::new(form);
    let said: Vec<_> = policy.words().map(|(word, said)| (word, text(&said))).collect();
    for (word, text) in &said {
        let index = form.words.iter().position(|other| other == *word)?;
        draft.give(index, text.as_deref().map_or(Given::Word, Given::Argument));
    }
    draft.policy(0).ok()
}

fn text(said: &Said) -> Option<Vec<u8>> {
    match said {
        Said::Word => None,
        Said::Integer(value) => Some(value.to_string().into_bytes()),
        Said::Amount(amount) => Some(amount.to_text().as_bytes().to_vec()),
        Said::Period(period) => Some(period.name().into()),
        Said::Name(name) => Some(name.to_vec()),
    }
}

fn check_policies(policies: &[Named]) {
    for (index, (name, policy)) in policies.iter().enumerate() {
        assert!(policies[..index].iter().all(|(other, _)| other != name), "a name twice");
        assert_eq!(of_words(policy).as_ref(), Some(policy), "its own words make another policy");
    }
    let Ok(text) = document::write(policies.iter().map(|(name, policy)| (&**name, policy))) else { return };
    if text.len() > DOCUMENT_BYTES_MAX {
        return;
    }
    let again = document::read(text.as_bytes(), START_MS + 1).expect("what was written is refused");
    assert_eq!(again, policies, "what was written is read as other policies");
}

/// Patterns, against a matcher that follows the definition. The pattern ends at the first newline.
pub fn glob(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (pattern, text) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    assert!(patterns::matches(b"*", text));
    let found = patterns::matches(pattern, text);
    assert_eq!(found, matches_by_definition(pattern, text));
    assert!(!found || patterns::matches(&[pattern, b"*"].concat(), text) || is_open(pattern));
}

/// Whether the pattern ends inside a class or an escape, so that a star behind it belongs to that.
fn is_open(pattern: &[u8]) -> bool {
    pattern.contains(&b'[') || pattern.ends_with(b"\\")
}

enum Element {
    Star,
    /// One byte of these.
    One(Box<[bool; 256]>),
}

fn elements(mut pattern: &[u8]) -> Vec<Element> {
    let only = |byte: u8| {
        let mut set = Box::new([false; 256]);
        set[usize::from(byte)] = true;
        Element::One(set)
    };
    let mut elements = Vec::new();
    loop {
        let (element, rest) = match pattern {
            [] => return elements,
            [b'*', rest @ ..] => (Element::Star, rest),
            [b'?', rest @ ..] => (Element::One(Box::new([true; 256])), rest),
            [b'[', class @ ..] => {
                let (set, rest) = class_of(class);
                (Element::One(set), rest)
            }
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (only(*byte), rest),
        };
        elements.push(element);
        pattern = rest;
    }
}

fn class_of(class: &[u8]) -> (Box<[bool; 256]>, &[u8]) {
    let (is_inverted, mut class) = class.strip_prefix(b"^").map_or((false, class), |class| (true, class));
    let mut set = Box::new([false; 256]);
    loop {
        let (range, rest) = match class {
            [] => break,
            [b']', rest @ ..] => {
                class = rest;
                break;
            }
            [b'\\', byte, rest @ ..] => (*byte..=*byte, rest),
            [from, b'-', to, rest @ ..] => (*from.min(to)..=*from.max(to), rest),
            [byte, rest @ ..] => (*byte..=*byte, rest),
        };
        range.for_each(|byte| set[usize::from(byte)] = true);
        class = rest;
    }
    if is_inverted {
        set.iter_mut().for_each(|is_in| *is_in = !*is_in);
    }
    (set, class)
}

fn matches_by_definition(pattern: &[u8], text: &[u8]) -> bool {
    // For each length of the text: whether that much of it matches the elements so far.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for element in elements(pattern) {
        let mut next = vec![false; text.len() + 1];
        for len in 0..=text.len() {
            next[len] = match &element {
                Element::Star => reached[..=len].contains(&true),
                Element::One(set) => len > 0 && reached[len - 1] && set[usize::from(text[len - 1])],
            };
        }
        reached = next;
    }
    reached[text.len()]
}

/// Integers and amounts.
pub fn numbers(data: &[u8]) {
    match parse_int(data) {
        Some(value) => assert_eq!(value.to_string().as_bytes(), data),
        None => {
            let parsed = std::str::from_utf8(data).ok().and_then(|text| text.parse::<i64>().ok());
            assert!(parsed.is_none_or(|value| value.to_string().as_bytes() != data), "an integer is refused");
        }
    }
    let amount = match Amount::parse(data) {
        Ok(amount) => amount,
        Err(error) => {
            assert_eq!(error == AmountError::TooLong, data.len() > TEXT_MAX_BYTES);
            return;
        }
    };
    assert!(-Amount::MAX.picos() <= amount.picos() && amount.picos() <= Amount::MAX.picos());
    let text = amount.to_text();
    let text = text.as_bytes();
    assert_eq!(Amount::parse(text), Ok(amount), "another amount when written and read");
    assert!(text.len() <= 33 && text != b"-0" && !text.contains(&b'e') && !text.starts_with(b"."));
    assert!(!text.contains(&b'.') || !matches!(text.last(), Some(b'0' | b'.')), "a place too many");
    let negated = match data {
        [b'-', rest @ ..] => rest.to_vec(),
        [b'+', rest @ ..] => [b"-", rest].concat(),
        rest => [b"-", rest].concat(),
    };
    if negated.len() <= TEXT_MAX_BYTES {
        assert_eq!(Amount::parse(&negated).map(Amount::picos), Ok(-amount.picos()));
    }
    if let Some(picos) = picos_of_plain(data) {
        assert_eq!(amount.picos(), picos, "rounded otherwise");
    }
    assert_eq!(amount.checked_sub(amount), Some(Amount::ZERO));
    assert_eq!(amount.checked_add(amount).is_some(), 2 * amount.picos().abs() <= Amount::MAX.picos());
}

/// By the definition, for a short decimal without an exponent: half to even at the twelfth place.
fn picos_of_plain(text: &[u8]) -> Option<i128> {
    let (sign, number) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        rest => (1, rest),
    };
    if number.len() > 30 {
        return None;
    }
    let mut parts = number.split(|byte| *byte == b'.');
    let (whole, places) = (parts.next()?, parts.next().unwrap_or_default());
    let digits = std::str::from_utf8(whole).ok()?.to_owned() + std::str::from_utf8(places).ok()?;
    let value: i128 = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    if places.len() <= 12 {
        return Some(sign * value * 10i128.pow(12 - places.len() as u32));
    }
    let unit = 10i128.pow(places.len() as u32 - 12);
    let (down, rest) = (value / unit, value % unit);
    let is_up = 2 * rest > unit || (2 * rest == unit && down % 2 == 1);
    Some(sign * (down + i128::from(is_up)))
}

/// Dates and periods as texts, and the calendar of any time zone at any time: 16 bytes of two times, then a zone's name
/// or a date.
pub fn times(data: &[u8]) {
    if let Ok(date) = CivilDate::parse(data) {
        let (text, day) = match date {
            CivilDate::Month(month) => (month.to_string(), month.first_day()),
            CivilDate::Day(day) => (day.to_string(), day),
        };
        assert_eq!(text.as_bytes(), data);
        check_day(day);
    }
    if let Some(period) = Period::parse(data) {
        assert!(period.name().as_bytes().eq_ignore_ascii_case(data));
    }
    let Some((times, name)) = data.split_first_chunk::<16>() else { return };
    let time = |half: &[u8]| i64::from_le_bytes(half.try_into().expect("eight bytes"));
    let (one, other) = (time(&times[..8]), time(&times[8..]));
    let zone = std::str::from_utf8(name).ok().and_then(|name| Calendar::new(name).ok());
    let mut calendar = zone.unwrap_or_else(Calendar::utc);
    assert!(Calendar::new(calendar.name()).is_ok() || calendar.name() == "UTC", "its own name is unknown");
    // Mostly within the range, and sometimes far outside.
    for at_ms in [one.rem_euclid(TIME_MAX_MS + 1), other.rem_euclid(4_000_000_000_000), one, other] {
        let mut fresh = calendar.clone();
        let day = calendar.day_of(at_ms);
        check_day(day);
        let within = at_ms.clamp(0, TIME_MAX_MS);
        let mut outer = None;
        for period in Period::ALL {
            let (start_ms, end_ms) = calendar.bounds(period, at_ms);
            assert!(start_ms <= within && within < end_ms, "{period:?} of {start_ms} to {end_ms} without {at_ms}");
            assert_eq!(fresh.bounds(period, at_ms), (start_ms, end_ms), "another answer when asked later");
            assert!(
                end_ms - start_ms <= 33 * 86_400_000
                    || period == Period::Total
                    || end_ms > TIME_MAX_MS - 3 * 86_400_000
            );
            if period != Period::Total && start_ms >= 0 {
                assert_eq!(period.first_day(calendar.day_of(start_ms)), period.first_day(day));
                let before = calendar.day_of(start_ms - 1);
                assert!(
                    start_ms == 0 || period.first_day(before) < period.first_day(day),
                    "a period that began earlier"
                );
            }
            if end_ms <= TIME_MAX_MS {
                assert!(period.first_day(calendar.day_of(end_ms)) > period.first_day(day), "a period that goes on");
            }
            // A day is in its week and its month.
            if period == Period::Day {
                outer = Some((start_ms, end_ms));
            } else if let Some((day_start_ms, day_end_ms)) = outer {
                assert!(start_ms <= day_start_ms.max(0) && day_end_ms <= end_ms, "a day that is not in its {period:?}");
            }
        }
    }
}

fn check_day(day: Day) {
    assert!((Day::MIN..=Day::MAX).contains(&day));
    assert_eq!(Day::from_number(day.number()), Some(day));
    assert_eq!(CivilDate::parse(day.to_string().as_bytes()), Ok(CivilDate::Day(day)));
    let month = day.month();
    assert!((month.first_day()..=month.last_day()).contains(&day));
    assert_eq!(CivilDate::parse(month.to_string().as_bytes()), Ok(CivilDate::Month(month)));
    let (monday, sunday) = day.week();
    assert!((monday..=sunday).contains(&day) && sunday.number() - monday.number() <= 6);
    for period in Period::ALL {
        let first = period.first_day(day);
        assert!(first <= day && period.first_day(first) == first);
        assert_eq!(Period::parse(period.name().to_ascii_lowercase().as_bytes()), Some(period));
    }
}
