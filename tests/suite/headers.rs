//! The documentation's code that turns a limiter's reply into HTTP headers, run in the languages it is written in.

use crate::examples::go;
use crate::markdown::{named, run_block};
use crate::support::{start, verdict};
use std::collections::BTreeMap;

/// 2026-11-21T12:00:00.250Z
const NOW_MS: i64 = 1_795_262_400_250;

type Headers = Vec<BTreeMap<String, String>>;

/// A header function called for each reply; what it gave, by reply.
fn headers(program: &str, name: &str, driver: &str, replies: &[[i64; 5]]) -> Headers {
    serde_json::from_value(run_block(program, name, &filled(driver, replies))).unwrap()
}

fn filled(driver: &str, replies: &[[i64; 5]]) -> String {
    let replies = serde_json::to_string(replies).unwrap();
    driver.replace("REPLIES", &replies).replace("NOW_MS", &NOW_MS.to_string())
}

const PYTHON: &str = r#"
import json
now = datetime.fromtimestamp(NOW_MS / 1000, timezone.utc)
print(json.dumps([rate_limit_headers("requests", reply, 60000, now) for reply in REPLIES]))
"#;

const JAVASCRIPT: &str = r#"
console.log(JSON.stringify(REPLIES.map((reply) => rateLimitHeaders("requests", reply, 60000, NOW_MS))));
"#;

const GO: &str = r#"package main

import (
	"encoding/json"
	"net/http"
	"os"
	"time"
)

func main() {
	var replies [][]int64
	_ = json.Unmarshal([]byte(`REPLIES`), &replies)
	headers := []map[string]string{}
	for _, reply := range replies {
		h := http.Header{}
		RateLimitHeaders(h, "requests", reply, 60000, time.UnixMilli(NOW_MS))
		one := map[string]string{}
		for name := range h {
			one[name] = h.Get(name)
		}
		headers = append(headers, one)
	}
	_ = json.NewEncoder(os.Stdout).Encode(headers)
}
"#;

#[test]
fn replies_become_the_same_headers_in_every_language() {
    let (_server, mut client) = start();
    let mut replies = vec![
        verdict(&mut client, "GW.ALLOW k 2"),
        verdict(&mut client, "GW.ALLOW k 2"),
        verdict(&mut client, "GW.ALLOW k 2"),
        verdict(&mut client, "GW.ALLOW k 2 COST 3"),
        verdict(&mut client, "GW.TOKENS t 100 50 COST 7"),
    ];
    // Durations of every size, and waits that are not whole seconds.
    for ms in [0, 1, 999, 1_000, 1_001, 59_999, 60_000, 90_500, 3_599_999, 3_600_000, 90_061_001] {
        replies.push([0, 10, 0, ms, ms]);
    }
    let python = headers("python3", "headers-python", PYTHON, &replies);
    assert_eq!(python.len(), replies.len());
    assert_eq!(headers("node", "headers-js", JAVASCRIPT, &replies), python);
    let block = named("headers-go").text().replace("package gateway", "package main");
    if let Some(printed) = go(&[("headers.go", &block), ("main.go", &filled(GO, &replies))], &[]) {
        let headers: Headers = serde_json::from_str(&printed).unwrap();
        // Go writes names in its own case, and the case of a header's name means nothing.
        let lower = |headers: Headers| -> Headers {
            let lower = |(name, value): (String, String)| (name.to_lowercase(), value);
            headers.into_iter().map(|headers| headers.into_iter().map(lower).collect()).collect()
        };
        assert_eq!(lower(headers), lower(python.clone()));
    }

    let expect = |reply: usize, expected: &[(&str, Option<&str>)]| {
        for (name, value) in expected {
            assert_eq!(python[reply].get(*name).map(String::as_str), *value, "{name} of {:?}", replies[reply]);
        }
    };
    expect(
        0,
        &[
            ("Retry-After", None),
            ("RateLimit-Policy", Some("\"requests\";q=2;w=60")),
            ("RateLimit", Some("\"requests\";r=1;t=60")),
            ("x-ratelimit-limit-requests", Some("2")),
            ("x-ratelimit-remaining-requests", Some("1")),
            ("x-ratelimit-reset-requests", Some("1m0s")),
            ("anthropic-ratelimit-requests-limit", Some("2")),
            ("anthropic-ratelimit-requests-remaining", Some("1")),
            ("anthropic-ratelimit-requests-reset", Some("2026-11-21T12:01:00.250Z")),
        ],
    );
    // Denied: the wait is rounded up, so that whoever keeps to it is admitted.
    let retry_after_s = (replies[2][3] + 999) / 1_000;
    expect(2, &[("Retry-After", Some(&retry_after_s.to_string()))]);
    // A cost above the limit never passes: there is nothing to wait for.
    assert_eq!(replies[3][3], -1);
    expect(3, &[("Retry-After", None)]);
    let durations: Vec<_> = python[5..].iter().map(|headers| &*headers["x-ratelimit-reset-requests"]).collect();
    let expected =
        ["0s", "1ms", "999ms", "1s", "1.001s", "59.999s", "1m0s", "1m30.5s", "59m59.999s", "1h0m0s", "25h1m1.001s"];
    assert_eq!(durations, expected);
    let waits: Vec<_> = python[5..].iter().map(|headers| &*headers["Retry-After"]).collect();
    assert_eq!(waits, ["0", "1", "1", "1", "2", "60", "60", "91", "3600", "3600", "90062"]);
}
