//! Framed TCP: one connection's frames from bytes to the engine.
//!
//! ```text
//! [u32 length][u16 opcode][u8 content type][payload]      big-endian; length = 3 + payload
//! content type 1 = JSON, 2 = MessagePack
//! ```
//! Replies leave in request order. A frame that cannot be answered sensibly (`length` < 3, or beyond the bound) ends the connection after its
//! error; every other error leaves it usable. Keeps no bytes; called on the I/O thread, knows no socket.

pub(crate) mod handle;
pub(crate) mod write;

use crate::desk::Desk;
use crate::protocol::{Lane, Phase, Progress, Stop};
use streamgauge_api::{ApiError, Code};

/// Bytes of a frame before its payload.
pub(crate) const HEAD_BYTES: usize = 7;

/// Bytes that the length counts besides the payload.
pub(crate) const LENGTH_MIN: usize = 3;

/// What is known of the frame that is arriving.
#[derive(Debug, Default)]
pub(crate) struct Framed {
    frames: u64,
}

impl Framed {
    /// Takes all frames that are complete in `bytes`.
    pub(crate) fn parse(&mut self, bytes: &[u8], desk: &mut Desk<'_>) -> Progress {
        let mut rest = bytes;
        let stop = loop {
            if desk.blocked() {
                break Stop::Blocked;
            }
            let Some((length, after)) = rest.split_first_chunk::<4>() else { break Stop::NeedMore };
            let length = u32::from_be_bytes(*length) as usize;
            if let Err(error) = within(length, desk.shared.config.frame_max) {
                self.refuse(&error, desk);
                break Stop::Ended;
            }
            if Lane::of(length) != desk.shared.lane {
                break Stop::Moves;
            }
            let Some((frame, following)) = after.split_at_checked(length) else { break Stop::NeedMore };
            // `length` is at least 3, so this always matches.
            if let [high, low, content_type, payload @ ..] = frame {
                handle::frame(u16::from_be_bytes([*high, *low]), *content_type, payload, desk);
            }
            self.frames += 1;
            rest = following;
        };
        Progress { consumed: bytes.len() - rest.len(), stop }
    }

    /// What is being waited for, when `buffered` bytes are not consumed.
    pub(crate) fn phase(&self, buffered: usize) -> Phase {
        if buffered > 0 { Phase::Body } else { Phase::Idle }
    }

    /// Number of frames taken.
    pub(crate) fn requests(&self) -> u64 {
        self.frames
    }

    /// Answers an error that ends the connection.
    pub(crate) fn refuse(&self, error: &ApiError, desk: &mut Desk<'_>) {
        tracing::debug!(%error, "a TCP connection is closed");
        desk.shared.tally.borrow().refused(error.code);
        desk.answer(|out| write::error(out, error, None));
    }
}

fn within(length: usize, frame_max: usize) -> Result<(), ApiError> {
    let limit = frame_max + LENGTH_MIN;
    if length < LENGTH_MIN {
        return Err(ApiError::new(Code::FrameError, format!("the frame's length is {length}; at least {LENGTH_MIN} is needed")));
    }
    if length > limit {
        let message = format!("the frame declares {length} bytes; the limit is {limit}");
        let error = ApiError::new(Code::FrameTooLarge, message.clone()).with("message", message.into());
        return Err(error.with("limit", limit.into()).with("declared", length.into()));
    }
    Ok(())
}
