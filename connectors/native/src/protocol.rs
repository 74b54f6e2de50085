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
