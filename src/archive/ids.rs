//! Ids of rows: the same row has the same id whenever and however often it is archived.
//!
//! ```text
//! bytes  0..6   milliseconds of the row, big-endian       6   0111 and 4 bits     8   10 and 6 bits
//! bits that are left: a hash of where the row comes from
//! ```
//! The layout is UUIDv7 (RFC 9562). A record of Kafka is known by cluster, topic id, partition and
//! offset, so that one that is consumed again gets its id again, and one of a topic that was made
//! anew gets another. A pushed row is known by its log and its LSN.

use streamgauge_api::{PartitionKey, TopicId};
use xxhash_rust::xxh3::xxh3_128;

/// Where rows come from: a partition, or the pushes of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin(u128);

impl Origin {
    /// Records of a partition.
    pub(super) fn partition(key: &PartitionKey) -> Self {
        let mut bytes = b"record".to_vec();
        // The length keeps two names apart that are one text together.
        bytes.extend_from_slice(&(key.cluster.len() as u64).to_le_bytes());
        bytes.extend_from_slice(key.cluster.as_bytes());
        bytes.extend_from_slice(&key.topic_id.0);
        if key.topic_id == TopicId::NONE {
            bytes.extend_from_slice(key.topic.as_bytes());
        }
        bytes.extend_from_slice(&key.partition.to_le_bytes());
        Self(xxh3_128(&bytes))
    }

    /// Pushed rows of a log.
    pub(super) fn pushes(log_id: u128) -> Self {
        Self(xxh3_128(&[&b"push"[..], &log_id.to_le_bytes()].concat()))
    }

    /// The id of the row at an offset or LSN. Times before 1970 count as 1970.
    pub(super) fn event_id(self, place: u64, time_ms: i64) -> [u8; 16] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.0.to_le_bytes());
        bytes[16..].copy_from_slice(&place.to_le_bytes());
        let mut id = xxh3_128(&bytes).to_be_bytes();
        let millis = u64::try_from(time_ms).unwrap_or(0).to_be_bytes();
        id[..6].copy_from_slice(&millis[2..]);
        id[6] = id[6] & 0x0F | 0x70;
        id[8] = id[8] & 0x3F | 0x80;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_version_7_and_hangs_on_where_the_row_comes_from_alone() {
        let key = |topic_id, partition| PartitionKey {
            event: "Payment".into(),
            cluster: "c".into(),
            topic: "payments".into(),
            topic_id: TopicId(topic_id),
            partition,
        };
        let one = key([7; 16], 0);
        let ms = 1_700_000_000_123;
        let id = Origin::partition(&one).event_id(5, ms);
        // The event that records become is no part of it.
        assert_eq!(id, Origin::partition(&PartitionKey { event: "Other".into(), ..one.clone() }).event_id(5, ms));
        assert_eq!((id[6] >> 4, id[8] >> 6), (7, 2));
        assert_eq!(u64::from_be_bytes([0, 0, id[0], id[1], id[2], id[3], id[4], id[5]]), 1_700_000_000_123);
        let others = [
            Origin::partition(&one).event_id(6, ms),
            Origin::partition(&key([8; 16], 0)).event_id(5, ms),
            Origin::partition(&key([7; 16], 1)).event_id(5, ms),
            Origin::pushes(9).event_id(5, ms),
            Origin::pushes(9).event_id(6, ms),
            Origin::pushes(8).event_id(5, ms),
        ];
        let all: std::collections::BTreeSet<_> = others.into_iter().chain([id]).collect();
        assert_eq!(all.len(), 7);
        assert_eq!(Origin::pushes(9).event_id(5, -1)[..6], [0; 6]);
    }
}
