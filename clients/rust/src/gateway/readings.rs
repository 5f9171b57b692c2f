use std::sync::{Arc, Weak};

use super::core::Core;
use super::node::Node;
use super::observer::Reading;

type Read = fn(&Core) -> Vec<Reading>;

/// Has the figures of a gateway read whenever they are collected, until it closes.
pub(super) fn watch(core: &Arc<Core>) {
    let Some(observer) = &core.settings.observer else { return };
    let figures: [(&'static str, Read); 4] = [
        ("kept.waiting", |core| vec![Reading::new(core.kept.count() as f64, None)]),
        ("log.buffered", |core| vec![Reading::new(core.log_records() as f64, None)]),
        ("circuit.open", |core| of_servers(core, |node| f64::from(node.circuit.is_open()))),
        ("away.seconds", |core| of_servers(core, |node| node.circuit.away_for().as_secs_f64())),
    ];
    for (name, read) in figures {
        let core: Weak<Core> = Arc::downgrade(core);
        observer.watch(name, Box::new(move || core.upgrade().filter(|core| !core.is_closed()).map(|core| read(&core))));
    }
}

fn of_servers(core: &Core, read: fn(&Node) -> f64) -> Vec<Reading> {
    core.transport.nodes().iter().map(|node| Reading::new(read(node), Some(node.address.clone()))).collect()
}
