//! Arrival and apply rates of partitions, from two looks at their gauges at least a second apart.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use streamgauge_api::control::PartitionStatus;
use streamgauge_api::source::PartitionGauge;

/// Rates are taken over at least this long.
const OVER_US: i64 = 1_000_000;

/// An end of which no broker has spoken for this long is where the partition waits, not an end.
const AWAY_US: i64 = 5_000_000;

#[derive(Debug, Clone, Copy)]
struct Look {
    at_us: i64,
    end: i64,
    applied: i64,
    in_per_second: f64,
    applied_per_second: f64,
}

/// Looks at partitions by event, topic and number.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    looks: HashMap<(String, String, i32), Look>,
    most_behind: i64,
}

impl Rates {
    /// Status of every partition now.
    pub(crate) fn statuses(&mut self, partitions: &[Arc<PartitionGauge>], now_us: i64) -> Vec<PartitionStatus> {
        partitions.iter().map(|gauge| self.status(gauge, now_us)).collect()
    }

    /// Share of the largest backlog seen that is done.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub(crate) fn catch_up_progress(&mut self, behind: i64) -> f64 {
        self.most_behind = self.most_behind.max(behind);
        if self.most_behind == 0 { 0.0 } else { 1.0 - behind as f64 / self.most_behind as f64 }
    }

    #[expect(clippy::cast_precision_loss, reason = "rates and times for people")]
    fn status(&mut self, gauge: &PartitionGauge, now_us: i64) -> PartitionStatus {
        let known = |number: i64| (number >= 0).then_some(number);
        let position = gauge.applied_offset.load(Ordering::Relaxed);
        let end = gauge.end_offset.load(Ordering::Relaxed);
        let look = self.look(gauge, now_us, end, position);
        let incident = gauge.incident();
        let lag_records = gauge.lag_records();
        let stopped = incident.as_ref().is_some_and(|open| open.kind.stops());
        let state = match lag_records {
            _ if stopped => "stopped",
            _ if !gauge.reading.load(Ordering::Relaxed) => "waiting",
            Some(0) if now_us - gauge.end_known_us.load(Ordering::Relaxed) > AWAY_US => "waiting",
            Some(0) => "at_end",
            _ => "reading",
        };
        let closing = look.applied_per_second - look.in_per_second;
        let eta_s = lag_records.filter(|&lag| lag > 0 && closing > 0.0 && !stopped).map(|lag| lag as f64 / closing);
        PartitionStatus {
            source: gauge.source.clone(),
            event: gauge.key.event.clone(),
            topic: gauge.key.topic.clone(),
            partition: gauge.key.partition,
            state: state.to_owned(),
            position,
            end: known(end),
            stable_end: known(gauge.stable_offset.load(Ordering::Relaxed)),
            log_start: known(gauge.start_offset.load(Ordering::Relaxed)),
            lag_records,
            lag_seconds: gauge.lag_ms(now_us).map(|ms| ms as f64 / 1000.0),
            in_per_second: look.in_per_second,
            applied_per_second: look.applied_per_second,
            eta_s,
            incident,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    fn look(&mut self, gauge: &PartitionGauge, now_us: i64, end: i64, applied: i64) -> Look {
        let key = (gauge.key.event.clone(), gauge.key.topic.clone(), gauge.key.partition);
        let fresh = Look { at_us: now_us, end, applied, in_per_second: 0.0, applied_per_second: 0.0 };
        let last = self.looks.entry(key).or_insert(fresh);
        let elapsed_us = now_us - last.at_us;
        if elapsed_us >= OVER_US {
            let per_second = |from: i64, to: i64| if from < 0 || to < from { 0.0 } else { (to - from) as f64 * 1e6 / elapsed_us as f64 };
            *last = Look { in_per_second: per_second(last.end, end), applied_per_second: per_second(last.applied, applied), ..fresh };
        }
        *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamgauge_api::{PartitionKey, TopicId};

    /// Before, a partition was `at_end` for as long as its broker was away.
    #[test]
    fn a_partition_is_at_its_end_while_a_broker_says_so() {
        let key = PartitionKey { event: "E".into(), cluster: "c".into(), topic: "t".into(), topic_id: TopicId::NONE, partition: 0 };
        let gauge = Arc::new(PartitionGauge::new("s", key, 7));
        gauge.reading.store(true, Ordering::Relaxed);
        gauge.saw_end(7, 100_000_000);
        for (now_us, state) in [(100_600_000, "at_end"), (105_000_000, "at_end"), (105_000_001, "waiting")] {
            let statuses = Rates::default().statuses(std::slice::from_ref(&gauge), now_us);
            assert_eq!(statuses.first().map(|status| status.state.as_str()), Some(state), "{now_us}");
        }
    }
}
