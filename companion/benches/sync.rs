//! How many changed ledgers a second reach PostgreSQL. Prints it, and judges nothing: a measurement on a machine that does
//! other things as well says little.

use std::time::Instant;

use gw_testkit::{Server, redis};

use crate::companion::Companion;
use crate::database::Database;

const LEDGERS: usize = 40_000;

#[test]
#[ignore = "a measurement"]
fn changed_ledgers_a_second() {
    let Some(database) = Database::postgres() else { return };
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let companion = Companion::new(server.dir(), &format!("redis://127.0.0.1:{}", server.port()), &database.address());
    companion.catch_up();
    for round in ["new", "known"] {
        for first in (0..LEDGERS).step_by(1_000) {
            let mut pipe = redis::pipe();
            for account in first..first + 1_000 {
                pipe.cmd("GW.ADDCOST").arg(format!("account:{account}")).arg("0.000123").ignore();
            }
            pipe.exec(&mut client).unwrap();
        }
        let mut child = companion.command(&["sync"]).spawn().unwrap();
        let start = Instant::now();
        // The process is there until it is waited for, so its memory can still be read.
        let (mut most, mut cpu) = (0, 0.0);
        while child.try_wait().unwrap().is_none() {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
            most = line.trim().trim_end_matches(" kB").parse().unwrap_or(most);
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
            // User and system time, in hundredths of a second.
            let times = stat.split(' ').skip(13).take(2).filter_map(|field| field.parse::<f64>().ok());
            cpu = times.sum::<f64>().max(cpu);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{round}: {:.0} ledgers a second; {:.0} for each second of its own processor time; {most} kB at most",
            LEDGERS as f64 / seconds,
            LEDGERS as f64 * 100.0 / cpu,
        );
        assert_eq!(database.rows().len(), LEDGERS * 4);
    }
}
