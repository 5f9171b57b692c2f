//! Each page in headless Chromium, driven by Playwright: scripts/companion.sh installs it and sets GW_PLAYWRIGHT.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gw_testkit::{Server, project_root, reply};

use crate::{Companion, TOKENS, busy, dead_letter};

#[test]
fn every_page_works_in_a_browser() {
    let Ok(playwright) = std::env::var("GW_PLAYWRIGHT") else {
        println!("SKIPPED: the console in a browser: GW_PLAYWRIGHT does not name Playwright's folder");
        return;
    };
    let server = busy();
    let mut client = server.connect().unwrap();
    dead_letter(&mut client);
    for number in 0..30 {
        reply!(client, "GW.LOGPUSH", format!("log:many:{number}"), "RECORDS", "{}");
    }
    let replica = Server::options().replica_of(&server).start().unwrap();
    gw_testkit::await_in_sync(&mut client, &mut replica.connect().unwrap());
    let companion = Companion::start(&server, TOKENS);
    let script = project_root().join("companion/tests/console/browser.mjs");
    let shots = std::env::var("GW_SHOTS").unwrap_or_else(|_| server.dir().display().to_string());
    let address = format!("http://{}/", companion.address);
    // Something goes on all the time, so that there is something to see.
    let ended = AtomicBool::new(false);
    let output = thread::scope(|scope| {
        let mut client = server.connect().unwrap();
        scope.spawn({
            let ended = &ended;
            move || {
                while !ended.load(Ordering::Relaxed) {
                    reply!(client, "GW.ALLOW", "rpm:user:42", 400);
                    reply!(client, "GW.ADDCOST", "spend:team:ml", "0.001");
                    reply!(client, "GW.CACHEGET", "embed:1");
                    reply!(client, "GW.CACHESET", "embed:1", "[0.1]", "PX", 70, "SAVED", "0.0001");
                    thread::sleep(Duration::from_millis(50));
                }
            }
        });
        let output = Command::new("node").arg(script).args([&playwright, &address, &shots]).output();
        ended.store(true, Ordering::Relaxed);
        output.unwrap()
    });
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    // What its actions have done.
    assert_eq!(reply!(client, "GW.CREDIT", "{acme}:key:7", "MONTH", 0), "\"5\"");
    assert!(reply!(client, "GW.POLICYLIST", "{acme}:key:7", "JSON").contains("10"));
    assert_eq!(reply!(client, "GW.LOGDEAD", "log:requests", "LIST"), "[]");
    assert_eq!(reply!(client, "GW.CACHEGET", "chat:1"), "nil");
}
