//! Spaces out the connections that one broker thread of librdkafka opens.
//!
//! librdkafka backs off between attempts, but forgets it whenever somebody asks for a broker that is
//! not connected, and its own main thread asks for the group's coordinator at each change of that
//! broker's state. While the coordinator refuses connections, that is a loop of 8,000 attempts a
//! second on two threads. Here every attempt passes a gate that no wish expedites: an address is
//! tried at most once per [`SPACING`]. What the gate refuses fails at once, which librdkafka answers
//! with a pause of up to a second, so a broker that is down costs about one attempt a second.
//!
//! The bound is that of one connection. A client has one for each address in `brokers`, one for each
//! broker of the cluster that it knows and one for the coordinator of its group, and a source has two
//! clients: with one broker, five or six connections that try about once a second each, at most twice.
//! They do not share a gate, because the one that got in first would hold the others up when the
//! broker is back.
//!
//! Pure; one gate per broker thread, asked in `ext::on_connect`.

use std::time::{Duration, Instant};

/// The least time between two attempts on one address. A connection that lived for longer than this
/// may be opened anew at once.
pub const SPACING: Duration = Duration::from_millis(500);

/// Addresses that are remembered: a broker thread has one, or those of one host name.
const ADDRESSES_MAX: usize = 16;

/// When each address was last tried.
#[derive(Debug, Default)]
pub struct Gate {
    tried: Vec<(Vec<u8>, Instant)>,
}

impl Gate {
    /// Whether this address may be tried now; it counts as tried then.
    pub fn admits(&mut self, address: &[u8], now: Instant) -> bool {
        if let Some((_, last)) = self.tried.iter_mut().find(|(known, _)| known == address) {
            let open = now.duration_since(*last) >= SPACING;
            if open {
                *last = now;
            }
            return open;
        }
        if self.tried.len() == ADDRESSES_MAX {
            self.tried.remove(0);
        }
        self.tried.push((address.to_vec(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts that pass when an address is asked for as fast as librdkafka can: every 100 us.
    fn passed(gate: &mut Gate, from: Instant, asked: u32) -> usize {
        (0..asked).filter(|step| gate.admits(b"a", from + Duration::from_micros(100) * *step)).count()
    }

    #[test]
    fn a_loop_of_attempts_passes_twice_a_second() {
        let start = Instant::now();
        assert_eq!(passed(&mut Gate::default(), start, 10_000), 2);
        assert_eq!(passed(&mut Gate::default(), start, 100_000), 20);
    }

    #[test]
    fn a_connection_that_lived_is_opened_anew_at_once_and_addresses_do_not_wait_for_each_other() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        assert!(gate.admits(b"a", start) && gate.admits(b"b", start));
        assert!(!gate.admits(b"a", start + SPACING / 2) && !gate.admits(b"b", start + SPACING / 2));
        assert!(gate.admits(b"a", start + SPACING));
    }

    #[test]
    fn a_host_of_many_addresses_is_forgotten_from_its_oldest() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        for address in 0..=ADDRESSES_MAX {
            assert!(gate.admits(&address.to_le_bytes(), start));
        }
        assert_eq!(gate.tried.len(), ADDRESSES_MAX);
        assert!(!gate.admits(&ADDRESSES_MAX.to_le_bytes(), start));
    }
}
