//! One subscriber: its queue, what it asked for, how far it was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use streamgauge_api::ApiError;
use streamgauge_api::subscribe::{Message, Offer, SubscribeRequest, SubscriberQueue};

/// A subscriber whose filter passes nothing hears so often how far was looked.
const POSITION_EVERY: Duration = Duration::from_secs(5);

/// One of the places that there are for subscribers.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    /// One of `max`; none when all are taken.
    pub(super) fn take(taken: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let free = |taken: usize| (taken < max).then_some(taken + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).ok()?;
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a place is given back by who took it");
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) queue: Arc<SubscriberQueue>,
    pub(super) request: Arc<SubscribeRequest>,
    /// The first LSN that it is shown.
    pub(super) from_lsn: u64,
    /// Up to here it knows: the last id that it was given.
    pub(super) told_lsn: u64,
    pub(super) told: Instant,
    pub(super) _place: Place,
}

impl Member {
    /// Offers messages, of which the last one has this id if any.
    pub(super) fn offer(&mut self, messages: &[Message], lsn: Option<u64>, now: Instant) -> Offer {
        let offer = self.queue.offer(messages);
        if offer == Offer::Taken {
            self.note(lsn, now);
        }
        offer
    }

    /// Puts a message in whose room was asked for.
    pub(super) fn put(&mut self, message: Message, lsn: Option<u64>, now: Instant) {
        self.queue.put(message);
        self.note(lsn, now);
    }

    fn note(&mut self, lsn: Option<u64>, now: Instant) {
        if let Some(lsn) = lsn {
            assert!(lsn > self.told_lsn, "ids ascend: {lsn} after {}", self.told_lsn);
            self.told_lsn = lsn;
        }
        self.told = now;
    }

    /// Says how far was looked, when nothing else was said for a while; false when the client has gone. With a full
    /// queue it is said later.
    pub(super) fn position(&mut self, passed_lsn: u64, now: Instant) -> bool {
        let due = passed_lsn > self.told_lsn && now.saturating_duration_since(self.told) >= POSITION_EVERY;
        if due {
            return self.offer(&[Message::Position(passed_lsn)], Some(passed_lsn), now) != Offer::Gone;
        }
        !self.queue.is_gone()
    }

    /// Its last message.
    pub(super) fn end(self, error: ApiError) {
        let error = error.with("last_lsn", self.told_lsn.into());
        self.queue.put(Message::Closed(Arc::new(error)));
    }
}
