//! What clients of all languages must pass: clients/spec/vectors, a test for each file.

mod arguments;
mod calls;
mod plain;

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use redis::{RedisError, Value};
use redis_gateway_client::commands::{admit, allow};
use redis_gateway_client::{
    Amount, Error, HeaderFamily, HeaderOptions, KeyError, ReplyError, ReplyErrorKind, admission_headers, cache_key,
    canonical, verdict_headers,
};
use serde_json::{Map, Value as Json};

use arguments::{Arguments, Call, any_bytes};
use calls::CALLS;

fn load(name: &str) -> Json {
    let path = format!("{}/../spec/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn list<'a>(value: &'a Json, name: &str) -> &'a [Json] {
    let found = value[name].as_array().unwrap_or_else(|| panic!("no {name}"));
    assert!(!found.is_empty(), "{name} is empty");
    found
}

fn text<'a>(value: &'a Json, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn strings(value: &Json) -> Vec<&str> {
    value.as_array().map(|found| found.iter().map(|one| one.as_str().unwrap()).collect()).unwrap_or_default()
}

/// The call of a vector. All of its arguments are taken.
fn call_of(case: &Json) -> Call {
    let method = text(case, "method");
    let (_, make) = CALLS.iter().find(|(name, _)| *name == method).unwrap_or_else(|| panic!("no method {method}"));
    let mut arguments = Arguments::of(&case["arguments"]);
    let call = make(&mut arguments);
    arguments.finish();
    call
}

#[test]
fn replies() {
    let vectors = load("replies.json");
    for case in list(&vectors, "cases") {
        let name = text(case, "name");
        let call = call_of(case);
        let words: Vec<Vec<u8>> = list(case, "request").iter().map(any_bytes).collect();
        assert_eq!(call.words, words, "{name}");
        assert_eq!(call.repeatable, case["repeatable"].as_bool().unwrap(), "{name}");
        for protocol in ["resp2", "resp3"] {
            let recorded = &case[protocol];
            let reply = redis::parse_redis_value(&any_bytes(&recorded["reply"])).unwrap();
            let mut expected = recorded["value"].clone();
            let mut got = (call.decode)(reply).unwrap_or_else(|error| panic!("{name}, {protocol}: {error}"));
            equal_decimals(&mut got, &mut expected);
            assert_eq!(got, expected, "{name}, {protocol}");
        }
    }
}

/// Decimals of one value are written alike: the server writes some with zeros at the end.
fn equal_decimals(got: &mut Json, expected: &mut Json) {
    match (got, expected) {
        (Json::Object(got), Json::Object(expected)) => {
            for (name, value) in got {
                if let Some(other) = expected.get_mut(name) {
                    equal_decimals(value, other);
                }
            }
        }
        (Json::Array(got), Json::Array(expected)) => {
            got.iter_mut().zip(expected).for_each(|(one, other)| equal_decimals(one, other));
        }
        (Json::String(got), Json::String(expected)) => {
            if let (Ok(one), Ok(other)) = (got.parse::<Amount>(), expected.parse::<Amount>())
                && expected.contains('.')
                && one == other
            {
                expected.clone_from(got);
            }
        }
        _ => {}
    }
}

#[test]
fn every_method_is_recorded() {
    let vectors = load("replies.json");
    let recorded: BTreeSet<_> = list(&vectors, "cases").iter().map(|case| text(case, "method")).collect();
    assert_eq!(recorded, CALLS.iter().map(|(name, _)| *name).collect());
    let sent: BTreeSet<_> = list(&vectors, "cases").iter().map(|case| case["request"][0].as_str().unwrap()).collect();
    assert_eq!(sent, redis_gateway_client::commands::all_commands().iter().map(|command| command.name).collect());
}

/// The error as redis-rs raises it.
fn raised(line: &str) -> Error {
    match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).and_then(Value::extract_error) {
        Ok(Value::ServerError(error)) => Error::from(RedisError::from(error)),
        Err(error) => Error::from(error),
        Ok(other) => panic!("{other:?}"),
    }
}

#[test]
fn errors() {
    let vectors = load("errors.json");
    for case in list(&vectors, "cases") {
        let (line, code, body) = (text(case, "line"), text(case, "code"), text(case, "text"));
        let mut made = vec![ReplyError::of(line), ReplyError::new(code, body), raised(line).reply().unwrap().clone()];
        if code == "ERR" {
            made.push(ReplyError::of(body)); // Some libraries leave this code out.
        }
        for error in made {
            let name = if text(case, "type") == "GatewayError" { "Other" } else { text(case, "type") };
            assert_eq!(error.kind.name(), name, "{line}");
            assert_eq!((error.code.as_str(), error.text.as_str()), (code, body));
            assert_eq!(
                (Json::from(error.away), Json::from(error.retry)),
                (case["away"].clone(), case["retry"].clone())
            );
            assert_eq!(error.to_string(), line);
            for (field, value) in fields_of(&error.kind) {
                let expected = &case["fields"][field];
                assert!(expected.is_null() || *expected == value, "{line}: {field} is {value}");
            }
        }
    }
}

fn fields_of(kind: &ReplyErrorKind) -> Vec<(&'static str, &str)> {
    match kind {
        ReplyErrorKind::LeaseEnded { lease_id } => vec![("lease_id", lease_id)],
        ReplyErrorKind::NoAccount { account } => vec![("account", account)],
        ReplyErrorKind::InvalidArgument { problem, argument } => vec![("problem", problem), ("argument", argument)],
        ReplyErrorKind::Redirected { slot, address } => vec![("slot", slot), ("address", address)],
        _ => vec![],
    }
}

#[test]
fn amounts() {
    let vectors = load("amounts.json");
    for case in list(&vectors, "texts") {
        let made = text(case, "given").parse::<Amount>();
        match case["value"].as_str() {
            Some(value) => assert_eq!(made.unwrap().to_string(), value, "{case}"),
            None => assert_eq!(made.unwrap_err().to_string(), text(case, "error"), "{case}"),
        }
    }
    for case in list(&vectors, "floats") {
        let made = Amount::try_from(case["given"].as_f64().unwrap()).unwrap();
        assert_eq!(made.to_string(), text(case, "value"), "{case}");
    }
    for case in list(&vectors, "sums") {
        let sum: Amount = strings(&case["given"]).into_iter().map(|text| text.parse::<Amount>().unwrap()).sum();
        assert_eq!(sum.to_string(), text(case, "value"), "{case}");
    }
}

#[test]
fn cache_keys() {
    let vectors = load("cache-keys.json");
    for case in ["keys", "not_objects", "large"].into_iter().flat_map(|name| list(&vectors, name)) {
        let (json, ignore) = (text(case, "json"), strings(&case["ignore"]));
        if ignore.is_empty() {
            assert_eq!(canonical(json).as_deref(), Ok(text(case, "canonical")), "{case}");
        }
        let key = cache_key("llm", None, json, &ignore).unwrap_or_else(|error| panic!("{error}: {case}"));
        assert_eq!(key, format!("llm:{}", text(case, "sha256")), "{case}");
    }
    for case in list(&vectors, "tenants") {
        let ignore = strings(&case["ignore"]);
        let key = cache_key(text(case, "category"), case["tenant"].as_str(), text(case, "json"), &ignore);
        assert_eq!(key.as_deref(), Ok(text(case, "key")));
    }
    let refused = list(&vectors, "refused").iter().map(|case| &case["json"]).chain(list(&vectors, "refused_bytes"));
    for json in refused {
        assert!(canonical(any_bytes(json)).is_err(), "{json}");
    }
    for tenant in strings(&vectors["refused_tenants"]) {
        assert_eq!(cache_key("chat", Some(tenant), "{}", &[]), Err(KeyError::Colon));
    }
    for category in strings(&vectors["refused_categories"]) {
        assert_eq!(cache_key(category, None, "{}", &[]), Err(KeyError::Colon));
    }
}

/// A reply in JSON as redis-rs reads it.
fn as_read(value: &Json) -> Value {
    match value {
        Json::Number(number) => Value::Int(number.as_i64().unwrap()),
        Json::String(text) => Value::BulkString(text.as_bytes().to_vec()),
        Json::Array(items) => Value::Array(items.iter().map(as_read).collect()),
        other => panic!("{other}"),
    }
}

fn same_headers(made: Vec<(String, String)>, expected: &Map<String, Json>, case: &Json) {
    let made: Map<_, _> = made.into_iter().map(|(name, value)| (name, Json::from(value))).collect();
    assert_eq!(&made, expected, "{case}");
}

#[test]
fn headers() {
    let vectors = load("headers.json");
    let now = UNIX_EPOCH + Duration::from_millis(vectors["now_ms"].as_u64().unwrap());
    for case in list(&vectors, "verdicts") {
        let verdict = allow("k", 1, &Default::default()).decode(as_read(&case["reply"])).unwrap();
        let period = case["period_ms"].as_i64().unwrap();
        let made = verdict_headers(text(case, "name"), &verdict, period, now, &HeaderOptions::default());
        same_headers(made, case["headers"].as_object().unwrap(), case);
    }
    for case in list(&vectors, "admissions") {
        let admission = admit(&["a"], "l", 1, &Default::default()).decode(as_read(&case["reply"])).unwrap();
        let meters: Vec<_> = case["meters"].as_object().into_iter().flatten().collect();
        let meters: Vec<_> = meters.iter().map(|(own, usual)| (own.as_str(), usual.as_str().unwrap())).collect();
        let families: Option<Vec<_>> = case["families"].as_array().map(|found| found.iter().map(family).collect());
        let options = HeaderOptions { meters: &meters, families: families.as_deref() };
        same_headers(admission_headers(&admission, now, &options), case["headers"].as_object().unwrap(), case);
    }
}

fn family(name: &Json) -> HeaderFamily {
    match name.as_str().unwrap() {
        "ietf" => HeaderFamily::Ietf,
        "openai" => HeaderFamily::OpenAi,
        "anthropic" => HeaderFamily::Anthropic,
        other => panic!("{other}"),
    }
}
