//! The semantic cache: what is found, what no longer is, and the same on every node.

use crate::support::{DEADLINE, Random, command, run, server_time_ms, start, state};
use gw_testkit::redis::{self, Connection};
use gw_testkit::{Server, await_in_sync, await_until, call, reply};

/// A vector's bytes.
fn vector(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A vector of two dimensions, of so many degrees.
fn degrees(degrees: f32) -> Vec<u8> {
    vector(&[degrees.to_radians().cos(), degrees.to_radians().sin()])
}

fn set(client: &mut Connection, index: &str, id: &str, at: f32, rest: &str) {
    let mut set = redis::cmd("GW.SEMSET");
    set.arg(index).arg(id).arg(degrees(at)).arg(format!("answer {id}"));
    for word in rest.split_whitespace() {
        set.arg(word);
    }
    assert_eq!(set.query::<String>(client).unwrap(), "OK");
}

fn get(client: &mut Connection, index: &str, at: f32, rest: &str) -> String {
    let mut get = redis::cmd("GW.SEMGET");
    get.arg(index).arg(degrees(at));
    for word in rest.split_whitespace() {
        get.arg(word);
    }
    gw_testkit::reply_line(get.query(client))
}

/// The entries of a large index are freed in the background, and then no longer count.
fn await_freed(client: &mut Connection) {
    let freed = || run(client, "GW.CACHESTATS TOTAL").contains(r#""entries", 0, "bytes", 0"#);
    await_until("the entries to be freed", DEADLINE, freed).unwrap();
}

#[test]
fn the_nearest_answer_is_served_if_it_is_near_enough() {
    let (_server, mut client) = start();
    assert_eq!(get(&mut client, "i", 0.0, ""), "nil");
    assert_eq!(get(&mut client, "i", 0.0, "META"), r#"["MISS", nil, nil, nil, 0, 0, nil]"#);
    assert_eq!(get(&mut client, "i", 0.0, "COUNT 3"), "[]");
    set(&mut client, "i", "a", 0.0, "PX 60000");
    set(&mut client, "i", "b", 40.0, "PX 60000");
    assert_eq!(get(&mut client, "i", 5.0, ""), r#""answer a""#);
    // By default, about 26 degrees are the furthest.
    assert_eq!(get(&mut client, "i", -24.0, ""), r#""answer a""#);
    assert_eq!(get(&mut client, "i", -28.0, ""), "nil");
    assert!(get(&mut client, "i", -28.0, "META").starts_with(r#"["MISS", nil, "0.88"#));
    assert_eq!(get(&mut client, "i", -28.0, "THRESHOLD 0.8"), r#""answer a""#);
    assert_eq!(get(&mut client, "i", 5.0, "THRESHOLD 1"), "nil");
    let found = get(&mut client, "i", 5.0, "META");
    assert!(found.starts_with(r#"["HIT", "answer a", "0.99"#) && found.ends_with(r#"]"#), "{found}");
    assert!(found.contains(r#", "a", "#) && found.contains(r#", "0.81"#), "{found}");
    let all = get(&mut client, "i", 5.0, "COUNT 5 THRESHOLD -1");
    assert!(all.matches("HIT").count() == 2 && all.find("answer a") < all.find("answer b"), "{all}");
    assert_eq!(get(&mut client, "i", 5.0, "COUNT 1 THRESHOLD -1").matches("HIT").count(), 1);
    // The index's own threshold, and a call's before it.
    set(&mut client, "i", "c", 180.0, "DEFAULT 0.5");
    assert_eq!(get(&mut client, "i", -50.0, ""), r#""answer a""#);
    assert_eq!(get(&mut client, "i", -50.0, "THRESHOLD 0.9"), "nil");
    // An entry is replaced as a whole.
    set(&mut client, "i", "a", 90.0, "");
    assert_eq!(get(&mut client, "i", -50.0, ""), "nil");
    assert_eq!(call!(client, "GW.SEMDEL", "i", "a", "a", "none" => i64), 1);
    assert!(get(&mut client, "i", 90.0, "THRESHOLD 0.1").contains("answer b"));
    assert_eq!(call!(client, "GW.SEMDEL", "i", "b", "c" => i64), 2);
    assert_eq!(run(&mut client, "EXISTS i"), "0");
}

#[test]
fn the_first_vector_decides_the_dimensions() {
    let (_server, mut client) = start();
    set(&mut client, "i", "a", 0.0, "");
    let three = vector(&[1.0, 2.0, 3.0]);
    let refused = "ERR not of the index's 2 dimensions: vector";
    assert_eq!(reply!(client, "GW.SEMSET", "i", "b", &three, "v"), refused);
    assert_eq!(reply!(client, "GW.SEMGET", "i", &three), refused);
    for numbers in [&[0.0, 0.0][..], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0], &[], &[1.0; 4_097]] {
        let refused = "ERR not 1 to 4096 finite FP32 numbers of which one is not 0: vector";
        assert_eq!(reply!(client, "GW.SEMSET", "i", "b", vector(numbers), "v"), refused);
        assert_eq!(reply!(client, "GW.SEMGET", "i", vector(numbers)), refused);
    }
    assert_eq!(reply!(client, "GW.SEMSET", "i", "", degrees(1.0), "v"), "ERR not a name of 1 to 256 bytes: id");
    assert_eq!(reply!(client, "CONFIG", "SET", "gw.sem-max-bytes", "1kb"), "OK");
    let large = reply!(client, "GW.SEMSET", "i", "b", degrees(1.0), "v".repeat(2_000));
    assert_eq!(large, "ERR larger than gw.sem-max-bytes: value");
}

#[test]
fn an_expired_answer_is_not_served_and_the_key_ends_with_the_last() {
    let (_server, mut client) = start();
    let before_ms = server_time_ms(&mut client);
    set(&mut client, "i", "late", 10.0, "EX 600");
    set(&mut client, "i", "soon", 0.0, "PX 40");
    let at_ms: i64 = call!(client, "PEXPIRETIME", "i");
    assert!((before_ms + 600_000..=server_time_ms(&mut client) + 600_000).contains(&at_ms));
    let soon_ms = server_time_ms(&mut client) + 40;
    await_until("an answer to expire", DEADLINE, || server_time_ms(&mut client) > soon_ms).unwrap();
    assert_eq!(get(&mut client, "i", 0.0, ""), r#""answer late""#);
    assert_eq!(call!(client, "GW.SEMREJECT", "i", "soon", "1" => i64), 0);
    // The next set sheds it. Deleting the last to expire brings the key's end forward.
    set(&mut client, "i", "other", 90.0, "EX 60");
    assert!(run(&mut client, "GW.DESCRIBE i").contains(r#""entries", 2,"#));
    assert_eq!(call!(client, "GW.SEMDEL", "i", "late" => i64), 1);
    assert!(call!(client, "PTTL", "i" => i64) <= 60_000);
    // A key's own expiry ends an answer earlier.
    run(&mut client, "PEXPIRE i 30000");
    let found: (String, String, String, String, i64, i64, Option<String>) =
        redis::cmd("GW.SEMGET").arg("i").arg(degrees(90.0)).arg("META").query(&mut client).unwrap();
    assert!((1..=30_000).contains(&found.5), "{found:?}");
    // Without a time, that of the category, which is the key's beginning.
    run(&mut client, "CONFIG SET gw.cache-ttl sem=5");
    set(&mut client, "sem:i", "a", 0.0, "");
    assert!((1..=5_000).contains(&call!(client, "PTTL", "sem:i" => i64)));
}

#[test]
fn a_full_index_removes_what_was_not_used_for_longest() {
    let primary = Server::options().config("gw.sem-max-entries 3").start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().config("gw.sem-max-entries 9").replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    for (id, at) in [("a", 0.0), ("b", 90.0), ("c", 180.0)] {
        set(&mut client, "i", id, at, "");
    }
    assert_eq!(get(&mut client, "i", 0.0, ""), r#""answer a""#);
    set(&mut client, "i", "d", 270.0, "");
    for (at, answer) in [(0.0, r#""answer a""#), (90.0, "nil"), (180.0, r#""answer c""#), (270.0, r#""answer d""#)] {
        assert_eq!(get(&mut client, "i", at, ""), answer);
    }
    await_in_sync(&mut client, &mut reader);
    assert_eq!(get(&mut reader, "i", 90.0, ""), "nil");
    assert_eq!(state(&mut reader), state(&mut client));
    // By bytes, too: the large one makes two others go.
    run(&mut client, "CONFIG SET gw.sem-max-entries 100");
    run(&mut client, "CONFIG SET gw.sem-max-bytes 3kb");
    let mut large = redis::cmd("GW.SEMSET");
    large.arg("i").arg("e").arg(degrees(45.0)).arg("v".repeat(2_600)).exec(&mut client).unwrap();
    let left = get(&mut client, "i", 0.0, "COUNT 9 THRESHOLD -1").matches("HIT").count();
    assert!((1..4).contains(&left), "{left}");
    let stats = run(&mut client, "GW.STATS");
    assert!(stats.contains(&format!(r#""sem_evicted", {},"#, 5 - left)), "{stats}");
}

#[test]
fn a_rejected_answer_is_passed_over_up_to_that_similarity() {
    let (_server, mut client) = start();
    set(&mut client, "i", "wrong", 0.0, "");
    set(&mut client, "i", "right", 24.0, "");
    assert_eq!(get(&mut client, "i", 10.0, ""), r#""answer wrong""#);
    assert_eq!(run(&mut client, "GW.SEMREJECT i wrong 0.985"), "1");
    assert_eq!(get(&mut client, "i", 10.0, ""), r#""answer right""#);
    assert_eq!(get(&mut client, "i", 0.0, ""), r#""answer wrong""#);
    // A lower one changes nothing.
    assert_eq!(run(&mut client, "GW.SEMREJECT i wrong 0.5"), "1");
    assert_eq!(get(&mut client, "i", 10.0, ""), r#""answer right""#);
    assert_eq!(run(&mut client, "GW.SEMREJECT i none 1"), "0");
    assert_eq!(run(&mut client, "GW.SEMREJECT none none 1"), "0");
    // What is set anew is another answer.
    set(&mut client, "i", "wrong", 0.0, "");
    assert_eq!(get(&mut client, "i", 10.0, ""), r#""answer wrong""#);
}

#[test]
fn guards_pass_over_answers_to_other_questions() {
    let (_server, mut client) = start();
    for (id, at, text) in
        [("ten", 0.0, "Can I pay 10 euros?"), ("not", 1.0, "Can't I pay 100 euros?"), ("none", 2.0, "")]
    {
        let mut set = redis::cmd("GW.SEMSET");
        set.arg("i").arg(id).arg(degrees(at)).arg(id).arg("TEXT").arg(text).exec(&mut client).unwrap();
    }
    let mut ask = |text: &str, guards: &[&str]| {
        let mut get = redis::cmd("GW.SEMGET");
        get.arg("i").arg(degrees(2.0)).arg("TEXT").arg(text);
        for guard in guards {
            get.arg("GUARD").arg(guard);
        }
        gw_testkit::reply_line(get.query(&mut client))
    };
    assert_eq!(ask("may I pay 10 euros", &["digits"]), r#""ten""#);
    assert_eq!(ask("may I pay 100 euros", &["digits"]), r#""not""#);
    assert_eq!(ask("may I pay 100 euros", &["digits", "NEGATION"]), "nil");
    assert_eq!(ask("may I pay a lot", &["negation"]), r#""ten""#);
    assert_eq!(ask("", &["digits"]), "nil");
}

#[test]
fn clears_and_figures_are_those_of_the_response_cache() {
    let (_server, mut client) = start();
    for number in 0..2_500 {
        set(
            &mut client,
            "sem:a",
            &format!("a{number}"),
            number as f32 / 10.0,
            &format!("TAG t{} SAVED 0.5", number % 2),
        );
    }
    set(&mut client, "sem:b", "b", 0.0, "TAG t0");
    set(&mut client, "other:c", "c", 0.0, "TAG t0");
    run(&mut client, "GW.CACHESET sem:plain v TAG t0");
    assert_eq!(get(&mut client, "sem:a", 10.1, "THRESHOLD 0.9"), r#""answer a101""#);
    assert_eq!(get(&mut client, "sem:none", 10.1, ""), "nil");
    let stats = run(&mut client, "GW.CACHESTATS CATEGORY sem");
    assert!(stats.starts_with(r#"["hits", 1, "stale_hits", 0, "misses", 1,"#), "{stats}");
    assert!(stats.contains(r#""sets", 2502,"#) && stats.contains(r#""entries", 2502,"#), "{stats}");
    assert!(stats.contains(r#""saved", "0.5""#), "{stats}");

    assert_eq!(run(&mut client, "GW.CACHECLEAR TAG t0"), "1253");
    // At once; the memory is freed afterwards.
    assert_eq!(get(&mut client, "sem:a", 10.0, "COUNT 100 THRESHOLD -1").matches("HIT").count(), 100);
    assert!(!get(&mut client, "sem:a", 10.0, "COUNT 100 THRESHOLD -1").contains("answer a100\""));
    assert_eq!(get(&mut client, "sem:b", 0.0, ""), "nil");
    await_until("the memory to be reclaimed", DEADLINE, || {
        let described = run(&mut client, "GW.DESCRIBE sem:a");
        described.contains(r#""entries", 1250,"#)
            && call!(client, "EXISTS", "sem:b", "other:c", "sem:plain" => i64) == 0
    })
    .unwrap();
    set(&mut client, "sem:a", "new", 10.0, "TAG t0");
    assert_eq!(get(&mut client, "sem:a", 10.0, ""), r#""answer new""#);
    assert_eq!(run(&mut client, "GW.CACHECLEAR PATTERN sem:?"), "1251");
    assert_eq!(run(&mut client, "DBSIZE"), "0");
    await_freed(&mut client);
    set(&mut client, "sem:a", "a", 0.0, "");
    assert_eq!(run(&mut client, "GW.CACHECLEAR CATEGORY sem"), "1");
    assert_eq!(get(&mut client, "sem:a", 0.0, "META"), r#"["MISS", nil, nil, nil, 0, 0, nil]"#);
    set(&mut client, "sem:a", "b", 0.0, "");
    assert_eq!(run(&mut client, "GW.CACHECLEAR ALL"), "1");
    await_until("the memory to be reclaimed", DEADLINE, || run(&mut client, "DBSIZE") == "0").unwrap();
}

#[test]
fn a_cleared_answer_stays_cleared_when_it_is_saved_copied_or_moved() {
    let (_server, mut client) = start();
    set(&mut client, "i", "kept", 90.0, "");
    set(&mut client, "i", "gone", 0.0, "TAG t");
    let payload: Vec<u8> = call!(client, "DUMP", "i");
    let mut both = redis::pipe();
    both.atomic()
        .cmd("GW.CACHECLEAR")
        .arg("TAG")
        .arg("t")
        .cmd("COPY")
        .arg("i")
        .arg("copy")
        .cmd("RENAME")
        .arg("i")
        .arg("j");
    both.cmd("DUMP").arg("copy");
    let (cleared, _, _, copied): (i64, i64, String, Vec<u8>) = both.query(&mut client).unwrap();
    assert_eq!(cleared, 1);
    for key in ["copy", "j"] {
        assert_eq!(get(&mut client, key, 0.0, ""), "nil");
        assert_eq!(get(&mut client, key, 90.0, ""), r#""answer kept""#);
    }
    call!(client, "RESTORE", "late", 0, copied => String);
    assert_eq!(get(&mut client, "late", 0.0, ""), "nil");
    let one_left = |described: String| described.contains(r#""entries", 1,"#);
    await_until("the entries to be removed", DEADLINE, || {
        ["copy", "j", "late"].iter().all(|key| one_left(run(&mut client, &format!("GW.DESCRIBE {key}"))))
    })
    .unwrap();
    // One that was saved before is as it was then.
    call!(client, "RESTORE", "early", 0, payload => String);
    assert_eq!(get(&mut client, "early", 0.0, ""), r#""answer gone""#);
}

/// Random sets, deletions and rejections, with bounds, expiries and clears; then the same index in every form it can take.
#[test]
fn an_index_is_the_same_on_every_node_and_in_every_file() {
    let options = || Server::options().config("gw.sem-max-entries 60").config("gw.cache-compress-bytes 64");
    let mut primary = options().aof().config("aof-use-rdb-preamble no").start().unwrap();
    let mut client = primary.connect().unwrap();
    // The replica packs no values.
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    let mut random = Random(0x5e_a2c4);
    for step in 0..4_000 {
        let (index, id) = (format!("sem:{}", random.below(3)), format!("id{}", random.below(120)));
        let numbers: Vec<f32> = (0..8).map(|_| random.below(2_000) as f32 - 999.5).collect();
        let mut command = match random.below(10) {
            0 => command(&format!("GW.SEMDEL {index} {id}")),
            1 => command(&format!("GW.SEMREJECT {index} {id} 0.{}", random.below(100))),
            2 => redis::cmd("GW.SEMGET").arg(index).arg(vector(&numbers)).arg("THRESHOLD").arg("0.1").take(),
            3 if step % 50 == 0 => command("GW.CACHECLEAR TAG x"),
            _ => {
                let mut set = redis::cmd("GW.SEMSET");
                set.arg(index).arg(id).arg(vector(&numbers)).arg("text ".repeat(random.below(60)));
                set.arg("PX").arg([20, 600_000][usize::from(random.below(8) > 0)]);
                if random.below(3) == 0 {
                    set.arg(&[
                        "TAG",
                        ["x", "y"][random.below(2)],
                        "SAVED",
                        "0.1",
                        "TEXT",
                        "a question",
                        "DEFAULT",
                        "0.3",
                    ]);
                }
                set.take()
            }
        };
        command.arg(&[] as &[&str]).query::<redis::Value>(&mut client).unwrap();
    }
    // Cleared entries are removed in the background.
    await_until("all nodes to agree", DEADLINE, || {
        await_in_sync(&mut client, &mut reader);
        state(&mut reader) == state(&mut client)
    })
    .unwrap();
    let before = state(&mut client);
    assert_eq!(before.len(), 3);
    run(&mut client, "DEBUG RELOAD");
    assert_eq!(state(&mut client), before);
    run(&mut client, "DEBUG LOADAOF");
    assert_eq!(state(&mut client), before);
    run(&mut client, "BGREWRITEAOF");
    await_until("the rewrite", DEADLINE, || {
        gw_testkit::info(&mut client, "persistence")["aof_rewrite_in_progress"] == "0"
    })
    .unwrap();
    run(&mut client, "DEBUG LOADAOF");
    assert_eq!(state(&mut client), before);
    assert_eq!(run(&mut client, "COPY sem:0 copy"), "1");
    let digest = |client: &mut Connection, key: &str| gw_testkit::digest(client, key);
    assert_eq!(digest(&mut client, "copy"), digest(&mut client, "sem:0"));
    assert!(primary.is_running());
}

#[test]
fn tenants_are_keys_so_the_acl_keeps_them_apart() {
    let (server, mut client) = start();
    set(&mut client, "sem:{one}:gpt", "a", 0.0, "");
    set(&mut client, "sem:{two}:gpt", "a", 0.0, "");
    run(&mut client, "ACL SETUSER one on >p ~sem:{one}:* -@all +gw.semget +gw.semset +gw.semreject +auth");
    let mut tenant = server.connect().unwrap();
    assert_eq!(run(&mut tenant, "AUTH one p"), "OK");
    assert_eq!(get(&mut tenant, "sem:{one}:gpt", 0.0, ""), r#""answer a""#);
    assert!(get(&mut tenant, "sem:{two}:gpt", 0.0, "").starts_with("NOPERM "));
    assert!(run(&mut tenant, "GW.SEMREJECT sem:{two}:gpt a 1").starts_with("NOPERM "));
    assert!(run(&mut tenant, "GW.SEMSET sem:{two}:gpt a aaaazzzz v").starts_with("NOPERM "));
}

#[test]
fn a_large_index_is_deleted_copied_and_counted_as_a_whole() {
    let (_server, mut client) = start();
    let mut pipe = redis::pipe();
    for number in 0..20_000 {
        let numbers = [number as f32, 1.0, -7.0, 0.5];
        pipe.cmd("GW.SEMSET").arg("i").arg(number).arg(vector(&numbers)).arg("v").ignore();
    }
    pipe.exec(&mut client).unwrap();
    let bytes: i64 = call!(client, "MEMORY", "USAGE", "i");
    assert!((20_000 * 100..20_000 * 300).contains(&bytes), "{bytes}");
    assert_eq!(run(&mut client, "COPY i j"), "1");
    assert_eq!(run(&mut client, "DEL i"), "1");
    assert_eq!(run(&mut client, "UNLINK j"), "1");
    await_freed(&mut client);
}

#[test]
fn it_works_in_transactions_and_scripts() {
    let (_server, mut client) = start();
    let script = "redis.call('GW.SEMSET', KEYS[1], 'a', ARGV[1], 'v') return redis.call('GW.SEMGET', KEYS[1], ARGV[1])";
    assert_eq!(reply!(client, "EVAL", script, 1, "i", degrees(0.0)), r#""v""#);
    let mut transaction = redis::pipe();
    transaction.atomic().cmd("GW.SEMSET").arg("i").arg("b").arg(degrees(90.0)).arg("w");
    transaction.cmd("GW.SEMGET").arg("i").arg(degrees(80.0));
    let answers: (String, String) = transaction.query(&mut client).unwrap();
    assert_eq!(answers, ("OK".to_owned(), "w".to_owned()));
}
