use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn canonical(text: impl AsRef<[u8]>) -> Result<String, NotCanonical> {
    written(&Json::parse(text.as_ref())?)
}

fn written(json: &Json) -> Result<String, NotCanonical> {
    let mut out = Vec::new();
    json.write(&mut |piece| out.extend_from_slice(piece));
    Ok(String::from_utf8(out).unwrap())
}

/// RFC 8785, 3.2.2 and 3.2.3: the sample, and the order of names.
#[test]
fn the_samples_of_the_standard() {
    let sample = r#"{
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"#;
    let expected = r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#;
    assert_eq!(canonical(sample).as_deref(), Ok(expected));

    let names = r#"{
        "\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
        "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"
    }"#;
    let sorted = canonical(names).unwrap();
    let mut places = [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]
    .map(|value| sorted.find(value).unwrap());
    assert!(places.is_sorted(), "{sorted}");
    places.reverse();
    assert!(!places.is_sorted());
}

/// RFC 8785, appendix B: doubles and how they are written.
#[test]
fn the_numbers_of_the_standard() {
    for (bits, text) in [
        (0x0000000000000000, "0"),
        (0x8000000000000000, "0"),
        (0x0000000000000001, "5e-324"),
        (0x8000000000000001, "-5e-324"),
        (0x7fefffffffffffff, "1.7976931348623157e+308"),
        (0xffefffffffffffff, "-1.7976931348623157e+308"),
        (0x4340000000000000, "9007199254740992"),
        (0xc340000000000000, "-9007199254740992"),
        (0x4430000000000000, "295147905179352830000"),
        (0x44b52d02c7e14af5, "9.999999999999997e+22"),
        (0x44b52d02c7e14af6, "1e+23"),
        (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
        (0x444b1ae4d6e2ef4e, "999999999999999700000"),
        (0x444b1ae4d6e2ef4f, "999999999999999900000"),
        (0x444b1ae4d6e2ef50, "1e+21"),
        (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
        (0x3eb0c6f7a0b5ed8d, "0.000001"),
        (0x41b3de4355555553, "333333333.3333332"),
        (0x41b3de4355555554, "333333333.33333325"),
        (0x41b3de4355555555, "333333333.3333333"),
        (0x41b3de4355555556, "333333333.3333334"),
        (0x41b3de4355555557, "333333333.33333343"),
        (0xbecbf647612f3696, "-0.0000033333333333333333"),
        (0x43143ff3c1cb0959, "1424953923781206.2"),
    ] {
        let number = f64::from_bits(bits);
        // In another notation: with an exponent, since an integer must be written as its double is.
        assert_eq!(canonical(format!("{number:e}")).as_deref(), Ok(text), "{bits:x}");
        assert_eq!(canonical(text).as_deref(), Ok(text), "{bits:x}");
    }
}

#[test]
fn texts_that_could_give_two_requests_one_key_are_refused() {
    use Reason::*;
    for (marked, reason) in [
        ("{|", Malformed),
        ("[1,|]", Malformed),
        ("\"\u{1}", Malformed),
        (r#"{"a":1,|"a":1}"#, RepeatedName),
        (r#"{"a":1,"b":{"x":0,|"\u0078":1}}"#, RepeatedName),
        (r#"["|\ud800"]"#, LoneSurrogate),
        (r#"["ok","\ud83d\ude00|\udc00"]"#, LoneSurrogate),
        (r#"["|\ud800\ud800"]"#, LoneSurrogate),
        (r#"["|\ud800\n"]"#, LoneSurrogate),
        (r#"{"|\udfff":1}"#, LoneSurrogate),
        ("[1,|1e400]", InexactNumber),
        ("|-1e999", InexactNumber),
        ("[|9007199254740993]", InexactNumber),
        ("{\"seed\":|18446744073709551615}", InexactNumber),
        ("|1152921504606846976", InexactNumber),
        ("|1000000000000000000000001", InexactNumber),
    ] {
        let at = marked.find('|').unwrap_or(1);
        assert_eq!(canonical(marked.replacen('|', "", 1)), Err(NotCanonical { reason, at }), "{marked}");
    }
    for (text, expected) in [
        ("9007199254740992", "9007199254740992"),
        ("1152921504606847000", "1152921504606847000"),
        ("-295147905179352830000", "-295147905179352830000"),
        ("1000000000000000000000", "1e+21"),
        ("123000000000000000000000", "1.23e+23"),
        ("-0", "0"),
        ("0.1000000000000000055511151231257827", "0.1"),
        ("1e-400", "0"),
        ("1.0", "1"),
    ] {
        assert_eq!(canonical(text).as_deref(), Ok(expected));
    }
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(canonical(nested(DEPTH_MAX)).is_ok());
    assert_eq!(canonical(nested(DEPTH_MAX + 1)), Err(NotCanonical { reason: TooDeep, at: DEPTH_MAX }));
    assert_eq!(canonical(nested(1_000_000)), Err(NotCanonical { reason: TooDeep, at: DEPTH_MAX }));
}

#[test]
fn names_at_the_top_can_be_left_out() {
    let without = |names: &[&[u8]]| {
        written(&Json::parse(br#"{"user":"u","a":{"user":1},"\u0073tream":true}"#).unwrap().without(names)).unwrap()
    };
    assert_eq!(without(&[]), r#"{"a":{"user":1},"stream":true,"user":"u"}"#);
    assert_eq!(without(&[b"stream", b"none"]), r#"{"a":{"user":1},"user":"u"}"#);
    assert_eq!(without(&[b"a", b"user", b"stream"]), "{}");
    assert_eq!(written(&Json::parse(b"[1]").unwrap().without(&[b"1"])).as_deref(), Ok("[1]"));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1i64 << 53)..=1 << 53).prop_map(Value::from),
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    /// White space does not matter, and a canonical text is its own canonical form.
    #[test]
    fn one_value_has_one_form(value in value()) {
        let form = canonical(serde_json::to_string(&value).unwrap()).unwrap();
        prop_assert_eq!(canonical(serde_json::to_string_pretty(&value).unwrap()), Ok(form.clone()));
        prop_assert_eq!(canonical(&form), Ok(form));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>, text in r#"[\[\]{}",:0-9eE.\-\\ud8 ]{0,40}"#) {
        for input in [&bytes[..], text.as_bytes()] {
            if let Err(error) = Json::parse(input) {
                prop_assert!(error.at <= input.len());
            }
        }
    }
}
