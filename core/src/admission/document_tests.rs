use std::borrow::Cow;

use super::document::{DOCUMENT_BYTES_MAX, Named, Refused, read, write};
use super::form::{Draft, Form, Given, Said, Takes};
use super::*;
use crate::breaker::Threshold;
use crate::bucket::Flow;
use crate::calendar::Period;
use crate::money::Amount;
use crate::window::{Rule, Shape};
use crate::{PERIOD_MAX_MS, TIME_MAX_MS, UNITS_MAX};
use proptest::prelude::*;

const NOW: i64 = 1_700_000_000_000;

fn written(policies: &[Named]) -> String {
    write(policies.iter().map(|(name, policy)| (&**name, policy))).unwrap()
}

fn policies() -> impl Strategy<Value = Policy> {
    let shape = prop_oneof![Just(Shape::Sliding), Just(Shape::Fixed), (0..=TIME_MAX_MS).prop_map(Shape::Anchored),];
    let units = || prop_oneof![Just(0u64), 0u64..100, 0..=BILLIONTHS_MAX];
    let per_ms = || 1..=PERIOD_MAX_MS;
    let kind = prop_oneof![
        (units(), per_ms(), shape).prop_map(|(limit, window_ms, shape)| Kind::Window(Rule { limit, window_ms, shape })),
        (units(), units(), per_ms()).prop_map(|(rate, burst, per_ms)| Kind::Bucket(Flow {
            rate: rate.max(1),
            burst,
            per_ms
        })),
        (0..=UNITS_MAX).prop_map(|max| Kind::InFlight { max }),
        (0..=Amount::MAX.picos(), prop::sample::select(Period::ALL.to_vec()), 0u8..=100).prop_map(
            |(picos, period, soft_percent)| Kind::Budget {
                amount: Amount::from_picos(picos).unwrap(),
                period,
                soft_percent
            }
        ),
        prop::option::of(0..=TIME_MAX_MS).prop_map(|until_ms| Kind::Block { until_ms }),
        (1..=UNITS_MAX, per_ms(), per_ms()).prop_map(|(failures, per_ms, open_ms)| Kind::Breaker(Threshold {
            failures,
            per_ms,
            open_ms
        })),
    ];
    (kind, names(), any::<[bool; 3]>()).prop_map(|(kind, meter, [shadow, give_back, decimal])| {
        let counts_units = matches!(kind, Kind::Window(_) | Kind::Bucket(_));
        let (give_back, decimal) = (give_back && counts_units, decimal && counts_units);
        let meter = if kind.has_meter() { meter } else { ShortName::new() };
        Policy { kind, meter, shadow, give_back, decimal }
    })
}

/// Names with all characters that JSON escapes.
fn names() -> impl Strategy<Value = ShortName> {
    prop_oneof![Just("usd".to_owned()), "[a-z\\\\\"/\u{0}-\u{20}é\u{2028}😀]{1,16}"]
        .prop_map(|name| ShortName::from_slice(name.as_bytes()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A policy that is written, as JSON or as arguments, is read as the same policy, and written in the same way
    /// again.
    #[test]
    fn a_policy_comes_back_as_it_was_written(mut policies in prop::collection::vec((names(), policies()), 0..5)) {
        policies.sort_by(|one, other| one.0.cmp(&other.0));
        policies.dedup_by(|one, other| one.0 == other.0);
        let document = written(&policies);
        let back = read(document.as_bytes(), NOW).unwrap();
        prop_assert_eq!(&back, &policies);
        prop_assert_eq!(written(&back), document);
        for (_, policy) in &policies {
            let form = Form::of(&policy.kind);
            let mut draft = Draft::new(form);
            let texts: Vec<_> = policy.words().map(|(word, said)| (word, text(&said))).collect();
            for (word, text) in &texts {
                let index = form.words.iter().position(|other| other == *word).unwrap();
                let given = if word.takes == Takes::Nothing { Given::Word } else { Given::Argument(text) };
                prop_assert!(draft.give(index, given));
            }
            prop_assert_eq!(&draft.policy(NOW).unwrap(), policy);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes: Vec<u8>, at: prop::sample::Index, byte: u8, policies in prop::collection::vec((names(), policies()), 1..3)) {
        let _ = read(&bytes, NOW);
        let mut document = written(&policies).into_bytes();
        let at = at.index(document.len());
        document[at] = byte;
        let _ = read(&document, NOW);
        document.truncate(at);
        let _ = read(&document, NOW);
    }
}

fn text(said: &Said) -> Vec<u8> {
    match said {
        Said::Word => Vec::new(),
        Said::Integer(value) => value.to_string().into_bytes(),
        Said::Amount(amount) => amount.to_string().into_bytes(),
        Said::Period(period) => period.name().into(),
        Said::Name(name) => name.to_vec(),
    }
}

/// The mistake in a document, and its place.
fn refused(document: &str) -> String {
    match read(document.as_bytes(), NOW) {
        Err(Refused::Wrong { mistake, shown, place }) => {
            let (mut mistake, shown) = (format!("{mistake:?}"), String::from_utf8_lossy(&shown));
            mistake.truncate(mistake.find("(Word").unwrap_or(mistake.len()));
            format!("{mistake}: {shown} ({place})")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn each_mistake_is_told_with_its_place() {
    for (document, told) in [
        ("[]", "NotAnObject: [] (json)"),
        ("7", "NotAnObject: 7 (json)"),
        ("{}", "MissingWord: policies (json)"),
        (r#"{"policies":[],"policy":[]}"#, "UnknownWord: policy (json)"),
        (r#"{"policies":[],"policies":[]}"#, "RepeatedWord: policies (json)"),
        (r#"{"policies":{"rpm":1}}"#, r#"NotAnArray: {"rpm":1} (policies)"#),
        (r#"{"policies":[null]}"#, "NotAnObject: null (policies[0])"),
    ] {
        assert_eq!(refused(document), told, "{document}");
    }
    // Mistakes in the second of two policies.
    for (policy, told) in [
        (r#""kind":"block""#, "MissingWord: name (policies[1])"),
        (r#""name":"a""#, "MissingWord: kind (policies[1])"),
        (r#""name":7,"kind":"block""#, "NotAString: 7 (policies[1].name)"),
        (r#""name":"","kind":"block""#, "NotAName:  (policies[1].name)"),
        (r#""name":"rpm","kind":"block""#, "Repeated: rpm (policies[1].name)"),
        (r#""name":"r\u0070m","kind":"block""#, "Repeated: rpm (policies[1].name)"),
        (r#""name":"a","kind":"blocked""#, "NotAKind: blocked (policies[1].kind)"),
        (r#""name":"a","kind":"block","kind":"block""#, "RepeatedWord: kind (policies[1])"),
        (r#""name":"a","kind":"block","limit":1"#, "UnknownWord: limit (policies[1])"),
        (r#""name":"a","kind":"block","for_ms":1,"until_ms":2"#, "ConflictingWord: until_ms (policies[1])"),
        (r#""name":"a","kind":"block","for_ms":0"#, "NotAnInteger(1, 31622400000): 0 (policies[1].for_ms)"),
        (r#""name":"a","kind":"block","shadow":1"#, "NotABoolean: 1 (policies[1].shadow)"),
        (r#""name":"a","kind":"window","limit":1"#, "MissingWord: per_ms (policies[1])"),
        (r#""name":"a","kind":"window","limit":1,"per_ms":1,"anchor_ms":1"#, "OnlyWith: anchor_ms (policies[1])"),
        (
            r#""name":"a","kind":"window","limit":1.5,"per_ms":1"#,
            "NotAnInteger(0, 9007199254740992): 1.5 (policies[1].limit)",
        ),
        (
            r#""name":"a","kind":"window","limit":1e2,"per_ms":1"#,
            "NotAnInteger(0, 9007199254740992): 1e2 (policies[1].limit)",
        ),
        (
            r#""name":"a","kind":"window","limit":"1","per_ms":1"#,
            "NotAnInteger(0, 9007199254740992): 1 (policies[1].limit)",
        ),
        (
            r#""name":"a","kind":"window","limit":9000000.1,"per_ms":1,"decimal":true"#,
            "NotAnAmountFrom(0): 9000000.1 (policies[1].limit)",
        ),
        (
            r#""name":"a","kind":"window","limit":"0.0000000001","per_ms":1,"decimal":true"#,
            "FinerThanBillionths: 0.0000000001 (policies[1].limit)",
        ),
        (
            r#""name":"a","kind":"bucket","rate":0,"burst":1,"per_ms":1,"decimal":true"#,
            "NotAnAmountFrom(1): 0 (policies[1].rate)",
        ),
        (r#""name":"a","kind":"window","limit":1,"per_ms":1,"meter":"TTL""#, "Reserved: TTL (policies[1].meter)"),
        (r#""name":"a","kind":"budget","amount":"1","period":"mounth""#, "NotAPeriod: mounth (policies[1].period)"),
        (r#""name":"a","kind":"budget","amount":"1","period":7"#, "NotAPeriod: 7 (policies[1].period)"),
        (
            r#""name":"a","kind":"budget","amount":true,"period":"day""#,
            "NotAnAmount(NotANumber): true (policies[1].amount)",
        ),
        (r#""name":"a","kind":"budget","amount":-1,"period":"day""#, "NegativeAmount: -1 (policies[1].amount)"),
        (
            r#""name":"a","kind":"budget","amount":1e400,"period":"day""#,
            "NotAnAmount(OutOfRange): 1e400 (policies[1].amount)",
        ),
        (
            r#""name":"a","kind":"budget","amount":"1","period":"day","soft_percent":101"#,
            "NotAnInteger(1, 100): 101 (policies[1].soft_percent)",
        ),
        (r#""name":"a","kind":"budget","amount":"1","period":"day","mounth":1"#, "UnknownWord: mounth (policies[1])"),
    ] {
        let document = format!(r#"{{"policies":[{{"name":"rpm","kind":"inflight","max":2}},{{{policy}}}]}}"#);
        assert_eq!(refused(&document), told, "{document}");
    }
}

#[test]
fn hostile_documents_are_refused_at_once() {
    assert_eq!(read(b"{\"policies\":[\xff]}", NOW), Err(Refused::NotJson(13)));
    assert_eq!(read(b"{\"policies\":[", NOW), Err(Refused::NotJson(13)));
    assert_eq!(read(&[b' '; DOCUMENT_BYTES_MAX + 1], NOW), Err(Refused::TooLong));
    let deep = "[".repeat(30_000) + &"]".repeat(30_000);
    assert!(refused(&deep).starts_with("NotAnObject"));
    assert!(refused(&format!(r#"{{"policies":{deep}}}"#)).starts_with("NotAnObject: [["));
    assert!(refused(&format!(r#"{{"policies":[{{"name":{deep}}}]}}"#)).starts_with("NotAString: [["));
    let many = vec!["{}"; POLICIES_MAX + 1].join(",");
    assert_eq!(read(format!(r#"{{"policies":[{many}]}}"#).as_bytes(), NOW), Err(Refused::TooMany));
    let digits = "9".repeat(60_000);
    assert!(refused(&format!(r#"{{"policies":[{{"name":"a","kind":"inflight","max":{digits}}}]}}"#)).contains("max"));
    // Half a surrogate pair is valid by JSON's grammar, but it is not a string.
    assert!(refused(r#"{"policies":[{"name":"\ud800","kind":"block"}]}"#).starts_with("NotAString"));
    assert!(refused(r#"{"policies":[{"\ud800":1}]}"#).starts_with("NotAString"));
}

/// The largest document of any account's policies can be read.
#[test]
fn the_largest_account_fits_a_document() {
    let name = |index: usize| {
        let text = format!("{}{index:03}", "\u{1}".repeat(NAME_BYTES_MAX - 3));
        ShortName::from_slice(text.as_bytes())
    };
    let rule = Rule { limit: UNITS_MAX, window_ms: PERIOD_MAX_MS, shape: Shape::Anchored(TIME_MAX_MS) };
    let policy =
        |index| Policy { kind: Kind::Window(rule), meter: name(index), shadow: true, give_back: true, decimal: false };
    let policies: Vec<Named> = (0..POLICIES_MAX).map(|index| (name(index), policy(index))).collect();
    let document = written(&policies);
    assert!(document.len() < DOCUMENT_BYTES_MAX, "{}", document.len());
    assert_eq!(read(document.as_bytes(), NOW).unwrap(), policies);
}

#[test]
fn for_is_counted_from_now_and_money_is_exact() {
    let read_one = |policy: &str| read(format!(r#"{{"policies":[{policy}]}}"#).as_bytes(), NOW).unwrap().remove(0).1;
    let block = read_one(r#"{"name":"b","kind":"Block","for_ms":1000,"shadow":false}"#);
    assert_eq!(block.kind, Kind::Block { until_ms: Some(NOW + 1_000) });
    // A float would turn this into 0.30000000000000004, or into less.
    for amount in ["0.3", "\"0.3\"", "3e-1", "0.300000000000000000000"] {
        let hourly = read_one(&format!(
            r#"{{"name":"h","kind":"window","limit":{amount},"per_ms":3600000,"meter":"usd","decimal":true}}"#
        ));
        assert!(matches!(hourly.kind, Kind::Window(Rule { limit: 300_000_000, .. })), "{amount}");
        let budget = read_one(&format!(r#"{{"name":"m","kind":"budget","amount":{amount},"period":"month"}}"#));
        let amount = Amount::parse(b"0.3").unwrap();
        assert_eq!(budget.kind, Kind::Budget { amount, period: Period::Month, soft_percent: 0 });
    }
    assert!(matches!(Given::Text(Cow::Borrowed("x")).shown(), b"x"));
    let binary = Policy {
        meter: ShortName::from_slice(b"\xff"),
        ..read_one(r#"{"name":"w","kind":"window","limit":1,"per_ms":1}"#)
    };
    assert_eq!(write([(&b"w"[..], &binary)].into_iter()), Err(&b"\xff"[..]));
}
