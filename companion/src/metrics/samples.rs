//! The series of a scrape, and their text.

use std::collections::{BTreeMap, HashSet};

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::table::{self, Family, Kind};

/// Values by metric and labels. Each series is there once: the second one would make Prometheus refuse the scrape.
#[derive(Default)]
pub struct Samples {
    series: BTreeMap<&'static str, Vec<Metric>>,
    known: HashSet<(&'static str, Vec<String>)>,
    dropped: BTreeMap<&'static str, u64>,
}

impl Samples {
    /// Adds a series, with the values of the metric's labels in their order.
    pub fn add(&mut self, family: &Family, labels: &[&str], value: f64) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let values: Vec<String> = labels.iter().map(|&value| value.to_owned()).collect();
        if !self.known.insert((family.name, values)) {
            self.drop(family, 1);
            return;
        }
        let mut metric = Metric::default();
        metric.set_label(family.labels.iter().zip(labels).map(|(name, value)| label(name, value)).collect());
        match family.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.series.entry(family.name).or_default().push(metric);
    }

    /// Counts series that are left out.
    pub fn drop(&mut self, family: &Family, count: usize) {
        if count > 0 {
            *self.dropped.entry(family.name).or_default() += count as u64;
        }
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// If a metric of the table has no valid name.
    pub fn text(mut self) -> prometheus::Result<String> {
        for (name, count) in std::mem::take(&mut self.dropped) {
            self.add(&table::DROPPED, &[name], count as f64);
        }
        let families = table::all().filter_map(|family| {
            let mut shown = MetricFamily::default();
            shown.set_name(family.name.to_owned());
            shown.set_help(family.help.to_owned());
            shown.set_field_type(match family.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
            });
            shown.set_metric(self.series.remove(family.name)?);
            Some(shown)
        });
        let mut text = Vec::new();
        TextEncoder::new().encode(&families.collect::<Vec<_>>(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

/// A key or name as a label: what is not UTF-8 is written as `\xff`.
pub fn label_of(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_there_once() {
        let mut samples = Samples::default();
        samples.add(&table::UP, &["a:1", "primary"], 1.0);
        samples.add(&table::UP, &["a:1", "primary"], 0.0);
        samples.drop(&table::TOP_USED, 3);
        let text = samples.text().unwrap();
        assert!(text.contains("# TYPE gw_up gauge\ngw_up{node=\"a:1\",role=\"primary\"} 1\n"), "{text}");
        assert!(text.contains("gw_exporter_dropped_series{metric=\"gw_up\"} 1\n"), "{text}");
        assert!(text.contains("gw_exporter_dropped_series{metric=\"gw_top_used\"} 3\n"), "{text}");
    }

    #[test]
    fn labels_may_have_any_bytes() {
        assert_eq!(label_of(b"a\xffb"), "a\\xffb");
        let mut samples = Samples::default();
        samples.add(&table::JOB_UP, &["a\"b\\\n"], 1.0);
        assert!(samples.text().unwrap().contains(r#"gw_job_up{job="a\"b\\\n"} 1"#));
    }

    #[test]
    fn names_are_there_once() {
        let names: HashSet<_> = table::all().map(|family| family.name).collect();
        assert_eq!(names.len(), table::all().count());
    }
}
