//! What has to be remembered of a request until its reply: how the answer looks.
//!
//! Copied into a connection's slot and handed to the encoder with the reply. It says nothing about sockets.

use streamgauge_api::port::Encoding;

/// Which form the answer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    /// One row was pushed.
    #[default]
    Push,
    /// Several rows were pushed.
    PushBatch,
    /// A flat row; an unknown key is `{}`.
    Get,
    /// A flat row; an unknown key is 404 `key_not_found`.
    KeyedGet,
    /// `{"value":v}`, or a flat row when the name is a table's.
    Feature,
    /// `{"results":[..]}`.
    Batch,
    /// `{key:{feature:value}}`.
    Many,
    /// `{"results":[..],"fpr":..}`.
    Member,
    /// A register reply.
    Register,
    /// The ping reply of HTTP.
    Ping,
    /// The ping reply of TCP, which says more.
    FramedPing,
    /// The reset reply.
    Reset,
}

impl Kind {
    /// Whether refusals carry the registry version beside the error.
    pub(crate) fn shows_registry_version(self) -> bool {
        matches!(self, Kind::Push | Kind::PushBatch | Kind::Register)
    }
}

/// How the answer to one request looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The form.
    pub(crate) kind: Kind,
    /// Encoding of a row (errors and push replies are always JSON).
    pub(crate) encoding: Encoding,
    /// Opcode of a successful TCP reply.
    pub(crate) opcode: u16,
    /// What is special about an HTTP reply.
    pub(crate) http: HttpReply,
}

/// How an HTTP reply is framed and who may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HttpReply {
    /// The last reply on its connection.
    pub(crate) close: bool,
    /// The answer to HEAD: all of the head, none of the body.
    pub(crate) bodiless: bool,
    /// The page's origin, as [`Cors`](streamgauge_api::Cors) numbers them; 0 = none that may read.
    pub(crate) origin: u16,
}

impl Default for Shape {
    fn default() -> Self {
        Self { kind: Kind::Push, encoding: Encoding::Json, opcode: 0, http: HttpReply::default() }
    }
}

impl Shape {
    /// An HTTP answer.
    pub(crate) fn http(kind: Kind, http: HttpReply) -> Self {
        Self { kind, http, ..Self::default() }
    }

    /// A framed answer.
    pub(crate) fn framed(kind: Kind, opcode: u16, encoding: Encoding) -> Self {
        Self { kind, encoding, opcode, http: HttpReply::default() }
    }
}
