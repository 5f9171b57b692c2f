//! The guard: a bug in the module is an error reply for one client, and does not crash the server.

use crate::support::run;
use gw_testkit::Server;

#[test]
#[ignore = "needs a build with the feature fault-injection, which `make test` makes and names in GW_MODULE_FAULTY"]
fn a_panic_is_an_error_and_the_server_lives() {
    let module = std::env::var_os("GW_MODULE_FAULTY").expect("GW_MODULE_FAULTY names the faulty build");
    let mut server = Server::options().module(module).start().unwrap();
    let mut client = server.connect().unwrap();
    run(&mut client, "GW.ADDCOST k 1");
    for _ in 0..3 {
        let error = run(&mut client, "GW._PANIC");
        assert!(error.starts_with("ERR internal "), "{error}");
    }
    assert!(server.is_running());
    assert_eq!(run(&mut client, "GW.SPENT k"), "\"1\"");
    // The log has the panic's message and place.
    let log = server.log();
    let line = log.lines().find(|line| line.contains("internal error")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(".rs:") && log.contains("on purpose"), "{log}");
    let stats = run(&mut client, "GW.STATS");
    assert!(stats.contains("\"internal_errors\", 3"), "{stats}");
}

#[test]
fn the_release_build_does_not_panic_on_demand() {
    let (_server, mut client) = crate::support::start();
    let error = run(&mut client, "GW._PANIC");
    assert!(error.starts_with("ERR unknown command"), "{error}");
}
