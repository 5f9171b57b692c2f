//! `gw apply` and `gw export`.

use gw_testkit::{Cluster, Server, project_root, reply};

use crate::{file, gw, path, printed, refused};

const PLANS: &str = r#"plans:
  free:
    policies:
      - {name: rpm, kind: window, limit: 20, per_ms: 60000}
    idle_ms: 86400000
    accounts: ["user:1", "user:2"]
  pro:
    policies:
      - name: rpm
        kind: window
        limit: 500
        per_ms: 60000
      - name: month
        kind: budget
        amount: 19.90
        period: month
        soft_percent: 80
    accounts: ["{ml}:key:7"]
"#;

/// The example of the documentation.
#[test]
fn the_page_shows_what_its_file_does() {
    let server = Server::start().unwrap();
    let page = std::fs::read_to_string(project_root().join("docs/src/companion/apply.md")).unwrap();
    let block = |kind: &str| {
        let (_, rest) = page.split_once(&format!("```{kind}\n")).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let plans = file(&server, "plans.yaml", &block("yaml"));
    assert_eq!(printed(gw(server.port(), &["apply", path(&plans), "--dry-run"])), block("text"));
}

#[test]
fn accounts_get_what_the_file_says() {
    let server = Server::start().unwrap();
    let (port, mut client) = (server.port(), server.connect().unwrap());
    let plans = file(&server, "plans.yaml", PLANS);
    let plans = path(&plans);
    // Nothing is changed by looking, nor while nobody has agreed.
    let shown = printed(gw(port, &["apply", "--dry-run", plans]));
    assert!(shown.contains("user:1 (free): new\n  + rpm: window limit=20 per_ms=60000 meter=requests\n"), "{shown}");
    assert!(shown.ends_with("3 new, 0 changed, 0 as they are to be\n"), "{shown}");
    let (code, told) = refused(gw(port, &["apply", plans]));
    assert!(code == Some(2) && told.contains("give --yes"), "{told}");
    assert_eq!(reply!(client, "DBSIZE"), "0");

    assert!(printed(gw(port, &["apply", "--yes", plans])).ends_with("3 applied\n"));
    let pro = reply!(client, "GW.POLICYLIST", "{ml}:key:7", "JSON");
    assert!(pro.contains("19.9") && pro.contains("soft_percent"), "{pro}");
    // The second time there is nothing to do, whoever agrees.
    assert_eq!(printed(gw(port, &["apply", plans])), "0 new, 0 changed, 3 as they are to be\n");
}

#[test]
fn what_differs_is_shown_and_what_was_counted_stays() {
    let server = Server::start().unwrap();
    let (port, mut client) = (server.port(), server.connect().unwrap());
    let plans = file(&server, "plans.yaml", PLANS);
    printed(gw(port, &["apply", "--yes", path(&plans)]));
    reply!(client, "GW.ADMIT", "{ml}:key:7", "LEASE", "a", "TTL", 30_000, "usd", 1);
    reply!(client, "GW.POLICYSET", "user:2", "extra", "INFLIGHT", 3);

    let plans = file(&server, "plans.yaml", &PLANS.replace("limit: 500", "limit: 600").replace("86400000", "3600000"));
    let report = printed(gw(port, &["apply", "--yes", "--json", path(&plans)]));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["applied"], 3);
    let account = |name: &str| {
        let accounts = report["accounts"].as_array().unwrap();
        accounts.iter().find(|account| account["account"] == name).unwrap().clone()
    };
    assert_eq!(account("user:1")["idle_ms"], serde_json::json!([86_400_000, 3_600_000]));
    assert_eq!(account("user:2")["policies"][0]["before"], "inflight max=3");
    assert_eq!(account("{ml}:key:7")["policies"][0]["after"], "window limit=600 per_ms=60000 meter=requests");
    let counts = reply!(client, "GW.DESCRIBE", "{ml}:key:7");
    assert!(counts.contains("\"counts\", [\"rpm\", 1]") || counts.contains("rpm, 1"), "{counts}");
}

#[test]
fn a_file_that_is_wrong_is_told_with_its_line() {
    let server = Server::start().unwrap();
    let plans = file(&server, "plans.yaml", &PLANS.replace("amount: 19.90", "amount: -1"));
    let (code, told) = refused(gw(server.port(), &["apply", "--yes", path(&plans)]));
    assert!(code == Some(2) && told.ends_with("plans.yaml:15: negative amount: -1\n"), "{told}");
}

#[test]
fn what_the_server_refuses_of_one_account_does_not_hold_up_the_others() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    reply!(client, "SET", "user:1", "text");
    let plans = file(&server, "plans.yaml", PLANS);
    let (code, told) = refused(gw(server.port(), &["apply", "--yes", path(&plans)]));
    assert!(code == Some(1) && told.contains("user:1: WRONGTYPE"), "{told}");
    assert_eq!(reply!(client, "EXISTS", "user:2", "{ml}:key:7"), "2");
}

#[test]
fn what_is_exported_changes_nothing_and_makes_another_server_the_same() {
    let (server, other) = (Server::start().unwrap(), Server::start().unwrap());
    let mut client = server.connect().unwrap();
    let plans = file(&server, "plans.yaml", PLANS);
    printed(gw(server.port(), &["apply", "--yes", path(&plans)]));
    reply!(
        client,
        "GW.POLICYSET",
        "odd: \"key\" # é",
        "hour",
        "WINDOW",
        "1.50",
        "PER",
        3_600_000,
        "METER",
        "usd",
        "DECIMAL"
    );
    reply!(client, "GW.POLICYSET", "odd: \"key\" # é", "until", "BLOCK", "UNTIL", 5, "SHADOW");
    reply!(client, "GW.POLICYSET", "cb", "cb", "BREAKER", 3, "PER", 1_000, "OPEN", 2_000);
    reply!(client, "SET", "text", 1);

    let exported = printed(gw(server.port(), &["export"]));
    let written = file(&server, "exported.yaml", &exported);
    let unchanged = printed(gw(server.port(), &["apply", path(&written)]));
    assert_eq!(unchanged, "0 new, 0 changed, 5 as they are to be\n", "{exported}");
    printed(gw(other.port(), &["apply", "--yes", path(&written)]));
    assert_eq!(printed(gw(other.port(), &["export"])), exported);
    // Equal lists are one plan, and the largest is the first.
    assert_eq!(exported.matches("policies:").count(), 4, "{exported}");
    assert!(exported.find("user:1") < exported.find("{ml}"), "{exported}");
    // By a pattern.
    let some = printed(gw(server.port(), &["export", "user:*"]));
    assert!(some.contains("user:2") && !some.contains("{ml}"), "{some}");
}

#[test]
fn in_a_cluster_every_account_is_found_where_it_is() {
    let cluster = Cluster::start(&Server::options(), 3, 0).unwrap();
    let (node, ports) = (&cluster.nodes()[0], cluster.ports());
    let accounts: Vec<String> = (0..30).map(|number| format!("user:{number}")).collect();
    let text =
        format!("plans:\n  p:\n    policies: [{{name: in, kind: inflight, max: 2}}]\n    accounts: {accounts:?}\n");
    let plans = file(node, "plans.yaml", &text);
    assert!(printed(gw(ports[0], &["apply", "--yes", path(&plans)])).ends_with("30 applied\n"));
    let exported = printed(gw(ports[1], &["export"]));
    let written = file(node, "exported.yaml", &exported);
    assert_eq!(printed(gw(ports[2], &["apply", path(&written)])), "0 new, 0 changed, 30 as they are to be\n");
}
