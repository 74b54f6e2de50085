//! HTTP/1.1: one connection's requests from bytes to the engine, by rules that refuse and never repair.
//!
//! `head` reads and judges a request head, `chunked` a chunked body, `coding` a compressed one, `route` the path, `query`
//! its parameters, `handle` does what a route says, `write` encodes replies. This file is the parser's state between reads: it keeps no bytes except a chunked body, is called on the I/O thread, and knows no socket.

pub(crate) mod chunked;
pub(crate) mod coding;
pub(crate) mod handle;
pub(crate) mod head;
pub(crate) mod query;
pub(crate) mod route;
pub(crate) mod write;

use crate::config::{HEAD_BYTES_MAX, NativeConfig};
use crate::desk::Desk;
use crate::protocol::{Lane, Phase, Progress, Stop};
use crate::shape::HttpReply;
use chunked::Chunked;
use head::{Body, Head, Scan};
use streamgauge_api::{ApiError, Code};

/// A chunked request whose body is not complete.
#[derive(Debug)]
struct Arriving {
    head: Vec<u8>,
    body: Chunked,
}

/// What is known of the request that is arriving.
#[derive(Debug, Default)]
pub(crate) struct Http {
    scan: Scan,
    /// Bytes that head and body take together, once the head is read.
    wanted: usize,
    continued: bool,
    arriving: Option<Box<Arriving>>,
    requests: u64,
}

impl Http {
    /// Takes all requests that are complete in `bytes`.
    pub(crate) fn parse(&mut self, bytes: &[u8], desk: &mut Desk<'_>) -> Progress {
        let mut consumed = 0;
        loop {
            if desk.blocked() {
                return Progress { consumed, stop: Stop::Blocked };
            }
            let rest = bytes.get(consumed..).unwrap_or_default();
            match self.step(rest, desk) {
                Ok(Step::Took(count)) => consumed += count,
                Ok(Step::Last(count)) => return Progress { consumed: consumed + count, stop: Stop::Ended },
                Ok(Step::NeedMore(count)) => return Progress { consumed: consumed + count, stop: Stop::NeedMore },
                Ok(Step::Moves(count)) => return Progress { consumed: consumed + count, stop: Stop::Moves },
                Err(error) => {
                    self.refuse(&error, desk);
                    return Progress { consumed, stop: Stop::Ended };
                }
            }
        }
    }

    /// What is being waited for, when `buffered` bytes are not consumed.
    pub(crate) fn phase(&self, buffered: usize) -> Phase {
        if self.arriving.is_some() || self.wanted > 0 {
            Phase::Body
        } else if buffered > 0 {
            Phase::Head
        } else {
            Phase::Idle
        }
    }

    /// Number of requests taken; tells one slow request from several quick ones.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Answers an error that ends the connection.
    pub(crate) fn refuse(&self, error: &ApiError, desk: &mut Desk<'_>) {
        tracing::debug!(%error, "an HTTP connection is closed");
        desk.shared.tally.borrow().refused(error.code);
        let http = HttpReply { close: true, ..HttpReply::default() };
        let shared = desk.shared;
        desk.answer(|out| write::error(out, error, http, &shared.config.cors, None));
    }

    fn step(&mut self, bytes: &[u8], desk: &mut Desk<'_>) -> Result<Step, ApiError> {
        if self.arriving.is_some() {
            return self.step_chunked(bytes, desk);
        }
        if bytes.len() < self.wanted || bytes.is_empty() {
            return Ok(Step::NeedMore(0));
        }
        let Some(head_length) = self.scan.end_of_head(bytes)? else {
            return Ok(Step::NeedMore(0));
        };
        let text = bytes.get(..head_length).unwrap_or_default();
        let head = Head::parse(text)?;
        match head.body {
            Body::Length(length) => {
                let length = within(length, &desk.shared.config)?;
                // How much it is under a coding is known when that is off: any of it is bulk.
                let lane = if head.coding.is_empty() { Lane::of(length) } else { Lane::Bulk };
                if lane != desk.shared.lane {
                    self.scan = Scan::default();
                    return Ok(Step::Moves(0));
                }
                let whole = head_length + length;
                let Some(body) = bytes.get(head_length..whole) else {
                    self.wanted = whole;
                    // The head is found again, once, when all is there.
                    self.scan = Scan::default();
                    self.go_on(&head, desk);
                    return Ok(Step::NeedMore(0));
                };
                self.taken();
                handle::request(&head, body, desk);
                Ok(Step::after(&head, whole))
            }
            Body::Chunked => {
                self.go_on(&head, desk);
                self.arriving = Some(Box::new(Arriving { head: text.to_vec(), body: Chunked::new(desk.shared.config.body_max) }));
                Ok(Step::Took(head_length))
            }
        }
    }

    fn step_chunked(&mut self, bytes: &[u8], desk: &mut Desk<'_>) -> Result<Step, ApiError> {
        let Some(arriving) = &mut self.arriving else { return Ok(Step::NeedMore(0)) };
        let count = arriving.body.take(bytes)?;
        // How long it gets is seen only as it comes; what came of it goes with the connection.
        if desk.shared.lane == Lane::Light && Lane::of(arriving.body.bytes().len()) == Lane::Bulk {
            return Ok(Step::Moves(count));
        }
        if !arriving.body.is_complete() {
            return Ok(Step::NeedMore(count));
        }
        let Some(arriving) = self.arriving.take() else { return Ok(Step::NeedMore(count)) };
        self.taken();
        let head = Head::parse(&arriving.head)?;
        handle::request(&head, arriving.body.bytes(), desk);
        Ok(Step::after(&head, count))
    }

    /// Answers `Expect: 100-continue`, once, when the body is still to come.
    fn go_on(&mut self, head: &Head<'_>, desk: &mut Desk<'_>) {
        if head.expects_continue && !self.continued {
            self.continued = true;
            desk.answer(write::go_on);
        }
    }

    /// The request is complete: the next head begins.
    fn taken(&mut self) {
        *self = Self { requests: self.requests + 1, ..Self::default() };
    }
}

enum Step {
    Took(usize),
    /// Took so many bytes; no request follows on this connection.
    Last(usize),
    NeedMore(usize),
    /// Took so many bytes; what follows is the other lane's.
    Moves(usize),
}

impl Step {
    fn after(head: &Head<'_>, count: usize) -> Self {
        if head.close { Step::Last(count) } else { Step::Took(count) }
    }
}

/// `length` as a size in memory, when the body bound allows it.
fn within(length: u64, config: &NativeConfig) -> Result<usize, ApiError> {
    match usize::try_from(length) {
        Ok(length) if length <= config.body_max => Ok(length),
        _ => Err(too_large(config.body_max)),
    }
}

/// A body above the bound.
pub(crate) fn too_large(limit: usize) -> ApiError {
    ApiError::new(Code::PayloadTooLarge, format!("the body is larger than {limit} bytes")).with("limit", limit.into())
}

/// A request that breaks a rule of HTTP/1.1.
pub(crate) fn broken(reason: impl Into<String>) -> ApiError {
    ApiError::new(Code::HttpProtocolError, reason)
}

/// A head above its bounds.
pub(crate) fn head_too_large() -> ApiError {
    ApiError::new(
        Code::HeadersTooLarge,
        format!("the head is larger than {HEAD_BYTES_MAX} bytes or has more than {} headers", crate::config::HEADERS_MAX),
    )
}
