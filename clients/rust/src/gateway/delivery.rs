use std::time::{Duration, SystemTime};

use redis::Cmd;

use super::ids::new_id;
use super::node::Call;
use super::settings::Kept as Settings;
use crate::commands::Request;

/// For so long what was sent may still be on its way to a server that has frozen.
const GRACE: Duration = Duration::from_secs(5);

pub(super) type Words = Vec<Vec<u8>>;

/// A call that can be repeated, and what is sent instead if the server does not know what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) id: String,
    pub(super) words: Words,
    /// Sent if the reply is UNKNOWN or NOHOLD: charges, each with an id of its own.
    pub(super) fallback: Vec<Words>,
    /// When it may have arrived for the first time; none if it certainly has not.
    pub(super) first_sent: Option<SystemTime>,
    /// What it is about may still be on its way to the server. Then UNKNOWN is no answer yet.
    pub(super) early: bool,
    /// The end of that: some time after the first answer. None before that answer.
    pub(super) again_until: Option<SystemTime>,
}

pub(super) fn words_of<T>(request: &Request<T>) -> Words {
    request.words().map(<[u8]>::to_vec).collect()
}

pub(super) fn passed(since: SystemTime) -> Duration {
    SystemTime::now().duration_since(since).unwrap_or_default()
}

impl Delivery {
    pub(super) fn new(words: Words) -> Self {
        Self { id: new_id(), words, fallback: Vec::new(), first_sent: None, early: false, again_until: None }
    }

    pub(super) fn call(&self) -> Call {
        let mut cmd = Cmd::new();
        for word in &self.words {
            cmd.arg(&word[..]);
        }
        // All that is kept names a key.
        Call { cmd, key: self.words.get(1).cloned(), repeatable: true, longest: None }
    }

    pub(super) fn name(&self) -> String {
        self.words.first().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
    }

    pub(super) fn is_settlement(&self) -> bool {
        matches!(self.words.first().map(Vec::as_slice), Some(b"GW.SETTLE" | b"GW.COMMIT" | b"GW.CANCEL"))
    }

    pub(super) fn may_have_arrived(&mut self, at: SystemTime) {
        self.first_sent.get_or_insert(at);
    }

    /// The reply is UNKNOWN: whether that is no answer yet. A server that was frozen may read this before what was sent earlier on
    /// another connection, so the time counts from its first answer.
    pub(super) fn ask_again(&mut self) -> bool {
        let now = SystemTime::now();
        self.early && now < *self.again_until.get_or_insert(now + GRACE)
    }

    /// What is sent instead.
    pub(super) fn charges(&self) -> Vec<Delivery> {
        self.fallback.iter().cloned().map(Self::new).collect()
    }

    /// It may have arrived, and the server may have forgotten that: to send it again could charge it twice.
    pub(super) fn is_too_old(&self, settings: &Settings) -> bool {
        let within = if self.is_settlement() { settings.settle_within } else { settings.charge_within };
        self.first_sent.is_some_and(|at| passed(at) > within)
    }

    /// UNKNOWN certainly means that it was never settled. A busy account forgets what was settled before an hour has passed.
    pub(super) fn may_book(&self, settings: &Settings) -> bool {
        self.first_sent.is_none_or(|at| passed(at) <= settings.book_within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::default()
    }

    #[test]
    fn what_may_have_arrived_long_ago_is_too_old() {
        let mut settlement = Delivery::new(vec![b"GW.SETTLE".to_vec(), b"a".to_vec()]);
        assert!(!settlement.is_too_old(&settings()) && settlement.may_book(&settings()));
        settlement.may_have_arrived(SystemTime::now() - Duration::from_secs(700));
        assert!(!settlement.is_too_old(&settings()) && !settlement.may_book(&settings()));
        settlement.first_sent = Some(SystemTime::now() - Duration::from_secs(3_301));
        assert!(settlement.is_too_old(&settings()));
        let mut charge = Delivery::new(vec![b"GW.ADDCOST".to_vec(), b"a".to_vec()]);
        charge.first_sent = settlement.first_sent;
        assert!(!charge.is_too_old(&settings()));
        charge.first_sent = Some(SystemTime::now() - Duration::from_secs(80_001));
        assert!(charge.is_too_old(&settings()));
    }

    #[test]
    fn the_first_time_that_it_may_have_arrived_counts() {
        let mut delivery = Delivery::new(vec![b"GW.SETTLE".to_vec(), b"a".to_vec()]);
        let first = SystemTime::now() - Duration::from_secs(10);
        delivery.may_have_arrived(first);
        delivery.may_have_arrived(SystemTime::now());
        assert_eq!(delivery.first_sent, Some(first));
    }
}
