//! The simulation of routing, small and fast: what it checks of each run holds, however busy the machine is.

use std::process::Command;

#[test]
fn limits_hold_and_failing_deployments_are_left_alone_and_come_back() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_gw-demo"));
    let output = demo.args(["--routing", "--connections", "24", "--speed", "16"]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{printed}");
    // Four runs by the module for each of two loads, the second of which has outages.
    assert_eq!(printed.lines().filter(|line| line.starts_with("ok ")).count(), 4 * 2 + 4 * 4, "{printed}");
}
