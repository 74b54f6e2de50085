//! What both protocols tell their connection.

/// Why a parser stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The next request is not complete.
    NeedMore,
    /// No further request may be taken now; complete ones may be left.
    Blocked,
    /// No further request will be taken: the connection ends when everything is answered.
    Ended,
    /// The next request is the other lane's: the connection goes there when everything is answered.
    Moves,
}

/// Which requests a thread serves. Each connection is where its next request belongs, so that nobody who sends light
/// requests waits for a body of megabytes to be parsed, or for its answer to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Light,
    Bulk,
}

impl Lane {
    /// The lane of a request with this many bytes of body or frame.
    pub(crate) fn of(bytes: usize) -> Self {
        if bytes < crate::config::BULK_BYTES { Self::Light } else { Self::Bulk }
    }
}

/// What one pass of a parser did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes that are done with.
    pub(crate) consumed: usize,
    pub(crate) stop: Stop,
}

/// What is being waited for; each has its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A new request.
    Idle,
    /// The rest of a request head.
    Head,
    /// The rest of a body or frame.
    Body,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config::NativeConfig;
    use crate::deadlines::ConnectionId;
    use crate::desk::Desk;
    use crate::desk::fake::{Notes, shared};
    use crate::framed::Framed;
    use crate::http::Http;
    use crate::slots::Slots;
    use proptest::prelude::*;

    /// Everything that comes of `wire` when it arrives in pieces of `sizes`, over and over.
    fn outcome(wire: &[u8], sizes: &[usize], mut parse: impl FnMut(&[u8], &mut Desk<'_>) -> Progress) -> (Vec<String>, Vec<u8>, bool) {
        let config = NativeConfig { body_max: 1_000, frame_max: 1_000, ..NativeConfig::default() };
        let mut shared = shared(config);
        let (mut port, mut slots, mut out) = (Notes::default(), Slots::default(), Vec::new());
        let (mut buffer, mut rest) = (Vec::new(), wire);
        for size in sizes.iter().cycle() {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            rest = later;
            buffer.extend_from_slice(now);
            let id = ConnectionId { place: 0, tenant: 0 };
            let mut pass = |buffer: &mut Vec<u8>| {
                let mut desk =
                    Desk { port: &mut port, slots: &mut slots, out: &mut out, sent: 0, shared: &shared, id, unanswered_max: 1_000 };
                let progress = parse(buffer, &mut desk);
                buffer.drain(..progress.consumed);
                if progress.stop == Stop::Moves {
                    shared.lane = if shared.lane == Lane::Light { Lane::Bulk } else { Lane::Light };
                }
                if progress.stop != Stop::NeedMore {
                    // A fence: everything that is open is answered, with nothing.
                    for sequence in 0..1_000 {
                        let _answered = slots.fill(sequence, &mut out, |_, _| {});
                    }
                }
                progress
            };
            let mut progress = pass(&mut buffer);
            while matches!(progress.stop, Stop::Blocked | Stop::Moves) {
                progress = pass(&mut buffer);
            }
            if progress.stop == Stop::Ended {
                return (port.0, out, true);
            }
            assert_eq!(progress.stop, Stop::NeedMore);
            if rest.is_empty() {
                break;
            }
        }
        (port.0, out, false)
    }

    fn http(wire: &[u8], sizes: &[usize]) -> (Vec<String>, Vec<u8>, bool) {
        let mut http = Http::default();
        outcome(wire, sizes, |bytes, desk| http.parse(bytes, desk))
    }

    fn framed(wire: &[u8], sizes: &[usize]) -> (Vec<String>, Vec<u8>, bool) {
        let mut framed = Framed::default();
        outcome(wire, sizes, |bytes, desk| framed.parse(bytes, desk))
    }

    const REQUESTS: [&str; 9] = [
        "GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /push HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n{\"event\":\"E\",\"data\":{}}  ",
        "POST /push/E HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x\r\n}\r\n0\r\nT: u\r\n\r\n",
        "GET /tables/T/k HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /push/E HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n",
        "POST /push/E HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.1\nHost: x\r\n\r\n",
        "\u{e4}",
    ];

    proptest! {
        /// However the network cuts a stream, the engine sees the same requests and the client the same answers.
        #[test]
        fn cutting_a_stream_changes_nothing(
            picks in prop::collection::vec(0..REQUESTS.len(), 1..6),
            frames in prop::collection::vec((0u16..0x42, 0u8..4, prop::collection::vec(any::<u8>(), 0..40)), 1..6),
            sizes in prop::collection::vec(1usize..30, 1..8),
        ) {
            let wire: String = picks.iter().map(|pick| REQUESTS[*pick]).collect();
            prop_assert_eq!(http(wire.as_bytes(), &sizes), http(wire.as_bytes(), &[usize::MAX]));
            let mut wire = Vec::new();
            for (opcode, content_type, payload) in frames {
                wire.extend_from_slice(&(payload.len() as u32 + 3).to_be_bytes());
                wire.extend_from_slice(&opcode.to_be_bytes());
                wire.push(content_type);
                wire.extend_from_slice(&payload);
            }
            prop_assert_eq!(framed(&wire, &sizes), framed(&wire, &[usize::MAX]));
        }

        #[test]
        fn any_bytes_are_survived(wire in prop::collection::vec(any::<u8>(), 1..400), sizes in prop::collection::vec(1usize..30, 1..8)) {
            prop_assert_eq!(http(&wire, &sizes), http(&wire, &[usize::MAX]));
            prop_assert_eq!(framed(&wire, &sizes), framed(&wire, &[usize::MAX]));
        }
    }
}
