//! One connection of a gateway: two round trips for each request, one before the model is called and one after.

use crate::admission::{Admission, RawAdmission, on_accounts};
use crate::clock::{Clock, Pace, Timed};
use crate::content;
use crate::latency::{Latencies, Trip};
use crate::workload::{Request, Workload};
use anyhow::{Context, Result, ensure};
use redis::{Connection, FromRedisValue, Pipeline, cmd};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The queue of log records on their way to storage.
pub const LOG_KEY: &str = "logs:gateway";

/// The category of all cached responses: the part of their keys before the first colon.
pub const CACHE_CATEGORY: &str = "chat";

/// The queue's bound: more records than ever wait in a run, so that none is dropped.
const LOG_RECORDS_MAX: usize = 10_000_000;

/// What happened to one request.
pub struct Journey {
    /// Index into [`Workload::requests`].
    pub request: usize,
    /// How long after its due time the request was begun, because every connection was busy.
    pub late: Duration,
    pub admission: Timed<Admission>,
    /// Whether the cache had the response, even if the request was not admitted.
    pub cached: bool,
    /// When it was settled, if it was admitted.
    pub settled: Option<Timed<()>>,
}

impl Journey {
    pub fn admitted(&self) -> bool {
        self.admission.reply.admitted
    }

    pub fn answered_by_model(&self) -> bool {
        self.admitted() && !self.cached
    }
}

pub struct Gateway<'a> {
    workload: &'a Workload,
    pace: Pace,
    clock: Clock,
    stop: &'a AtomicBool,
    connection: Connection,
    pub latencies: Latencies,
    pub journeys: Vec<Journey>,
}

impl<'a> Gateway<'a> {
    pub fn new(workload: &'a Workload, pace: Pace, clock: Clock, stop: &'a AtomicBool, connection: Connection) -> Self {
        Self { workload, pace, clock, stop, connection, latencies: Latencies::default(), journeys: Vec::new() }
    }

    /// Serves one request: asks for admission and looks into the cache, waits as long as the model takes, and then
    /// settles, logs and caches the answer.
    ///
    /// # Errors
    /// An error of the server or the connection, or a reply that cannot be right.
    pub fn serve(&mut self, index: usize) -> Result<()> {
        let workload = self.workload;
        let request = &workload.requests[index];
        let cache_key = content::cache_key(&workload.models[request.model], request);
        let late = self.clock.elapsed().saturating_sub(self.pace.shortened(request.at));

        let (admission, cached) = self.admit(index, request, &cache_key)?;
        if let Some(response) = &cached {
            let expected = content::response_id(request);
            ensure!(response.contains(&expected), "the cache has another prompt's response under {cache_key}");
        }
        let cached = cached.is_some();
        let mut took = admission.received - admission.sent;
        let mut settled = None;
        if admission.reply.admitted {
            if !cached {
                let answered = self.clock.elapsed() + self.pace.shortened(request.model_time());
                self.clock.sleep_until(answered, self.stop);
            }
            let settlement = self.settle(index, request, &cache_key, cached)?;
            took += settlement.received - settlement.sent;
            settled = Some(settlement);
        }
        self.latencies.record_request(took);
        self.journeys.push(Journey { request: index, late, admission, cached, settled });
        Ok(())
    }

    /// The first round trip: whether the request is admitted, and the cached response.
    fn admit(
        &mut self,
        index: usize,
        request: &Request,
        cache_key: &str,
    ) -> Result<(Timed<Admission>, Option<String>)> {
        let mut admit = on_accounts("GW.ADMIT", self.workload, request);
        admit.arg("LEASE").arg(lease_id(index)).arg("TTL").arg(self.pace.lease_ms());
        admit.arg("tokens").arg(request.estimated_tokens()).arg("usd").arg(request.estimated_cost.to_string());
        let mut look = cmd("GW.CACHEGET");
        look.arg(cache_key);
        let mut pipeline = redis::pipe();
        pipeline.add_command(admit).add_command(look);
        let Timed { sent, received, reply } = self.ask::<(RawAdmission, Option<String>)>(Trip::Admit, &pipeline)?;
        let admission = Admission::new(reply.0, self.workload, request)?;
        Ok((Timed { sent, received, reply: admission }, reply.1))
    }

    /// The second round trip: the usage that replaces the estimates, the log record, and the response for the cache.
    fn settle(&mut self, index: usize, request: &Request, cache_key: &str, cached: bool) -> Result<Timed<()>> {
        let workload = self.workload;
        let model = &workload.models[request.model];
        let (tokens, cost) = request.used(cached);
        let mut settle = on_accounts("GW.SETTLE", workload, request);
        settle.arg("LEASE").arg(lease_id(index)).arg("tokens").arg(tokens).arg("usd").arg(cost.to_string());
        let record = content::log_record(index, model, workload.key(request), request, cached);
        let mut push = cmd("GW.LOGPUSH");
        push.arg(LOG_KEY).arg("MAXLEN").arg(LOG_RECORDS_MAX).arg("JSON").arg("RECORDS").arg(record);
        let mut pipeline = redis::pipe();
        pipeline.add_command(settle).add_command(push);

        let Timed { sent, received, reply } = if cached {
            let Timed { sent, received, reply } = self.ask::<(String, (u64, u64))>(Trip::SettleHit, &pipeline)?;
            Timed { sent, received, reply: (reply.0, reply.1, "OK".to_owned()) }
        } else {
            let mut store = cmd("GW.CACHESET");
            store.arg(cache_key).arg(content::response(model, request));
            pipeline.add_command(store);
            self.ask::<(String, (u64, u64), String)>(Trip::Settle, &pipeline)?
        };
        let (outcome, (_, dropped), stored) = reply;
        ensure!(outcome == "SETTLED", "GW.SETTLE replied {outcome}");
        ensure!(dropped == 0, "GW.LOGPUSH dropped {dropped} records of a queue that is not full");
        ensure!(stored == "OK", "GW.CACHESET replied {stored}");
        Ok(Timed { sent, received, reply: () })
    }

    fn ask<T: FromRedisValue>(&mut self, trip: Trip, pipeline: &Pipeline) -> Result<Timed<T>> {
        let sent = self.clock.elapsed();
        let reply = pipeline.query(&mut self.connection).with_context(|| trip.name())?;
        let received = self.clock.elapsed();
        self.latencies.record(trip, received - sent);
        Ok(Timed { sent, received, reply })
    }
}

/// The request's id, which a retry would repeat.
fn lease_id(index: usize) -> String {
    format!("req-{index}")
}
