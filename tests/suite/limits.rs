//! GW.ALLOW and GW.TOKENS.

use crate::support::{DEADLINE, at_once, lifetime_ms, run, server_time_ms, start, time_ms, verdict};
use gw_testkit::{await_until, redis::Connection};

#[test]
fn a_window_counts_down_to_its_limit_and_denials_do_not_count() {
    let (_server, mut client) = start();
    for remaining in (0..3).rev() {
        assert_eq!(verdict(&mut client, "GW.ALLOW k 3"), [1, 3, remaining, 0, 60_000]);
    }
    for _ in 0..10 {
        let [allowed, limit, remaining, retry_after_ms, reset_after_ms] = verdict(&mut client, "GW.ALLOW k 3");
        assert_eq!((allowed, limit, remaining), (0, 3, 0));
        assert!((1..=60_000).contains(&retry_after_ms) && retry_after_ms <= reset_after_ms, "{retry_after_ms}");
    }
    // If denials counted, less would be left under a higher limit.
    assert_eq!(verdict(&mut client, "GW.ALLOW k 10 PEEK")[..3], [1, 10, 7]);
}

#[test]
fn a_window_admits_again_after_retry_after_ms_and_no_sooner() {
    let (_server, mut client) = start();
    let words = "GW.ALLOW k 2 WINDOW 1000";
    let (first, time, second): ([i64; 5], [i64; 2], [i64; 5]) =
        at_once(&mut client, &[&format!("{words} COST 2"), "TIME", words]);
    assert_eq!(first[..3], [1, 2, 0]);
    let (before_ms, [allowed, _, _, retry_after_ms, reset_after_ms]) = (time_ms(time), second);
    assert_eq!(allowed, 0);
    assert_eq!(retry_after_ms, reset_after_ms, "both units came at once");
    // Denied calls meanwhile must not postpone it.
    let admitted = || verdict(&mut client, words)[0] == 1;
    await_until("the window to open", DEADLINE, admitted).unwrap();
    let waited_ms = server_time_ms(&mut client) - before_ms;
    assert!(waited_ms >= retry_after_ms, "admitted after {waited_ms} ms instead of {retry_after_ms}");
}

#[test]
fn costs_of_any_size_are_weighed_against_the_limit() {
    let (_server, mut client) = start();
    assert_eq!(verdict(&mut client, "GW.ALLOW k 10 COST 4"), [1, 10, 6, 0, 60_000]);
    // More than what is left must wait; more than the limit is never admitted.
    let [allowed, _, remaining, retry_after_ms, _] = verdict(&mut client, "GW.ALLOW k 10 COST 7");
    assert!(allowed == 0 && remaining == 6 && retry_after_ms > 0);
    assert_eq!(verdict(&mut client, "GW.ALLOW k 10 COST 11")[..4], [0, 10, 6, -1]);
    assert_eq!(verdict(&mut client, "GW.ALLOW none 0"), [0, 0, 0, -1, 0]);
    // A cost of 0 asks without taking.
    assert_eq!(verdict(&mut client, "GW.ALLOW k 10 COST 0")[..4], [1, 10, 6, 0]);
    assert_eq!(verdict(&mut client, "GW.ALLOW k 10 COST 6")[..3], [1, 10, 0]);
    // The largest numbers that are allowed.
    let max = 1i64 << 53;
    assert_eq!(verdict(&mut client, &format!("GW.ALLOW big {max} COST {max} WINDOW 31622400000"))[..4], [1, max, 0, 0]);
    assert_eq!(verdict(&mut client, &format!("GW.ALLOW big {max} WINDOW 31622400000"))[..3], [0, max, 0]);
}

#[test]
fn peeking_takes_nothing() {
    let (_server, mut client) = start();
    assert_eq!(verdict(&mut client, "GW.ALLOW k 10 PEEK"), [1, 10, 10, 0, 0]);
    assert_eq!(verdict(&mut client, "GW.TOKENS t 10 10 PEEK"), [1, 10, 10, 0, 0]);
    assert_eq!(run(&mut client, "EXISTS k t"), "0");
    verdict(&mut client, "GW.ALLOW k 10 COST 10");
    let [allowed, _, remaining, retry_after_ms, _] = verdict(&mut client, "GW.ALLOW k 10 COST 3 PEEK");
    assert!(allowed == 0 && remaining == 0 && retry_after_ms > 0);
}

#[test]
fn options_come_in_any_order_and_case() {
    let (_server, mut client) = start();
    assert_eq!(verdict(&mut client, "gw.allow k 10 cost 2 Window 60000"), [1, 10, 8, 0, 60_000]);
    assert_eq!(verdict(&mut client, "GW.ALLOW k 10 pEEk window 60000")[..3], [1, 10, 8]);
    assert_eq!(verdict(&mut client, "gw.tokens t 10 10 cost 5 per 1000"), [1, 10, 5, 0, 500]);
}

#[test]
fn limits_are_the_callers_and_may_change_from_call_to_call() {
    let (_server, mut client) = start();
    verdict(&mut client, "GW.ALLOW k 10 COST 8");
    assert_eq!(verdict(&mut client, "GW.ALLOW k 5 PEEK")[..3], [0, 5, 0]);
    assert_eq!(verdict(&mut client, "GW.ALLOW k 20 COST 12")[..3], [1, 20, 0]);
}

#[test]
fn deleting_resets_a_limiter_and_an_unused_one_expires() {
    let (_server, mut client) = start();
    for (words, kind) in [("GW.ALLOW w 1 WINDOW 60000", "gw-window"), ("GW.TOKENS b 1 1 PER 60000", "gw-bucket")] {
        let key = words.split(' ').nth(1).unwrap();
        assert_eq!(verdict(&mut client, words)[0], 1);
        assert_eq!(verdict(&mut client, words)[0], 0);
        assert_eq!(run(&mut client, &format!("TYPE {key}")), kind);
        assert_eq!(run(&mut client, &format!("DEL {key}")), "1");
        // At most twice the time for which the state matters, plus a minute.
        let lifetime_ms = lifetime_ms(&mut client, words, key);
        assert!(*lifetime_ms.start() <= 180_000 && *lifetime_ms.end() >= 60_000, "{lifetime_ms:?}");
    }
}

#[test]
fn the_expiry_covers_the_window_and_a_denial_does_not_move_it() {
    let (_server, mut client) = start();
    let before_ms = server_time_ms(&mut client);
    for words in ["GW.ALLOW w 1 WINDOW 100000", "GW.TOKENS b 1 1 PER 100000"] {
        let key = words.split(' ').nth(1).unwrap();
        verdict(&mut client, words);
        let expires_at_ms = run(&mut client, &format!("PEXPIRETIME {key}"));
        assert!(expires_at_ms.parse::<i64>().unwrap() >= before_ms + 100_000, "{expires_at_ms}");
        assert_eq!(verdict(&mut client, words)[0], 0);
        assert_eq!(run(&mut client, &format!("PEXPIRETIME {key}")), expires_at_ms);
    }
}

#[test]
fn a_bucket_starts_full_and_fills_at_its_rate() {
    let (_server, mut client) = start();
    // 60 per minute are one per second.
    let replies: [[i64; 5]; 3] =
        at_once(&mut client, &["GW.TOKENS k 60 100", "GW.TOKENS k 60 100 COST 99", "GW.TOKENS k 60 100 COST 10"]);
    assert_eq!(replies[0], [1, 100, 99, 0, 1_000]);
    let [allowed, _, remaining, _, reset_after_ms] = replies[1];
    assert!(allowed == 1 && remaining == 0 && (99_000..=100_000).contains(&reset_after_ms), "{reset_after_ms}");
    let [allowed, _, remaining, retry_after_ms, _] = replies[2];
    assert!(allowed == 0 && remaining == 0 && (9_000..=10_000).contains(&retry_after_ms), "{retry_after_ms}");
    assert_eq!(verdict(&mut client, "GW.TOKENS k 60 100 COST 101")[3], -1);
}

#[test]
fn a_bucket_admits_again_after_retry_after_ms_and_no_sooner() {
    let (_server, mut client) = start();
    let words = "GW.TOKENS k 1 1 PER 1000";
    let (first, time, second): ([i64; 5], [i64; 2], [i64; 5]) = at_once(&mut client, &[words, "TIME", words]);
    assert_eq!((first[0], second[0]), (1, 0));
    let (before_ms, retry_after_ms) = (time_ms(time), second[3]);
    let admitted = || verdict(&mut client, words)[0] == 1;
    await_until("the bucket to fill", DEADLINE, admitted).unwrap();
    let waited_ms = server_time_ms(&mut client) - before_ms;
    assert!(waited_ms >= retry_after_ms, "admitted after {waited_ms} ms instead of {retry_after_ms}");
}

#[test]
fn buckets_are_exact_at_both_ends_of_the_scale() {
    let (_server, mut client) = start();
    // One per day.
    let words = "GW.TOKENS daily 1 1 PER 86400000";
    assert_eq!(verdict(&mut client, words), [1, 1, 0, 0, 86_400_000]);
    let retry_after_ms = verdict(&mut client, words)[3];
    assert!((86_390_000..=86_400_000).contains(&retry_after_ms), "{retry_after_ms}");
    // A billion per second: a million flow in within a millisecond.
    assert_eq!(
        verdict(&mut client, "GW.TOKENS fast 1000000000 1000000000 PER 1000 COST 1000000"),
        [1, 1_000_000_000, 999_000_000, 0, 1]
    );
    // The largest value of every argument.
    let max = 1i64 << 53;
    let words = format!("GW.TOKENS big {max} {max} PER 31622400000 COST {max}");
    assert_eq!(verdict(&mut client, &words), [1, max, 0, 0, 31_622_400_000]);
}

#[test]
fn giving_back_to_an_unused_limiter_changes_nothing() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ALLOW window 5 WINDOW 3600000 COST 2");
    run(&mut client, "GW.TOKENS bucket 1 5 PER 3600000 COST 2");
    for command in ["GW.ALLOW window 5 WINDOW 3600000 COST -5 FORCE", "GW.TOKENS bucket 1 5 PER 3600000 COST -5 FORCE"]
    {
        let key = command.split(' ').nth(1).unwrap();
        let changed = |client: &mut Connection| {
            run(client, &format!("WATCH {key}"));
            run(client, command);
            run(client, "MULTI");
            run(client, "EXEC") == "nil"
        };
        assert!(changed(&mut client), "{command}");
        assert!(!changed(&mut client), "{command}");
    }
}
