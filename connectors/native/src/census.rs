//! How many connections are open, in all and per peer: the caps are taken at accept and given back at close.
//!
//! Shared by all I/O threads behind one lock that is held for a map update; never touched per request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct Counts {
    open: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// The counts and their caps.
#[derive(Debug)]
pub(crate) struct Census {
    counts: Mutex<Counts>,
    open_max: usize,
    per_peer_max: usize,
}

/// A counted connection; dropping it gives its place back.
#[derive(Debug)]
pub(crate) struct Place {
    census: Arc<Census>,
    peer: IpAddr,
}

impl Census {
    pub(crate) fn new(open_max: usize, per_peer_max: usize) -> Arc<Self> {
        Arc::new(Self { counts: Mutex::default(), open_max, per_peer_max })
    }

    /// A place for one more connection of `peer`, if both caps allow it.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut counts = self.lock();
        if counts.open >= self.open_max || counts.by_peer.get(&peer).is_some_and(|open| *open >= self.per_peer_max) {
            return None;
        }
        counts.open += 1;
        *counts.by_peer.entry(peer).or_default() += 1;
        Some(Place { census: Arc::clone(self), peer })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are sound between statements, so a panic elsewhere does not spoil them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.census.lock();
        counts.open -= 1;
        if let Some(open) = counts.by_peer.get_mut(&self.peer) {
            *open -= 1;
            if *open == 0 {
                counts.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn caps_hold_and_places_come_back() {
        let census = Census::new(3, 2);
        let (ours, theirs) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = census.admit(ours).unwrap();
        let _second = census.admit(ours).unwrap();
        assert!(census.admit(ours).is_none(), "per peer");
        let _third = census.admit(theirs).unwrap();
        assert!(census.admit(theirs).is_none(), "in all");
        drop(first);
        assert!(census.admit(ours).is_some());
    }
}
