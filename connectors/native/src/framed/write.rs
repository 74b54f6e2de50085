//! Replies as frames. Bodies are written straight into the connection's output and the head is filled in afterwards.

use super::{HEAD_BYTES, LENGTH_MIN};
use crate::reply::{Body, write_body, write_error};
use crate::shape::Shape;
use streamgauge_api::ApiError;
use streamgauge_api::port::{Encoding, Reply};

/// Opcode of errors.
const ERROR: u16 = 0xFFFF;

/// Appends the engine's reply. `scratch` is a buffer for bodies that may have to be thrown away; a push reply needs none.
pub(crate) fn reply(out: &mut Vec<u8>, scratch: &mut Vec<u8>, shape: Shape, reply: &Reply, frame_max: usize) {
    if matches!(reply, Reply::Pushed { .. }) {
        let start = begin(out);
        write_body(out, shape, reply, usize::MAX);
        finish(out, start, shape.opcode, Encoding::Json);
        return;
    }
    scratch.clear();
    match write_body(scratch, shape, reply, frame_max) {
        Body::Whole { encoding, .. } => {
            let start = begin(out);
            out.extend_from_slice(scratch);
            finish(out, start, shape.opcode, encoding);
        }
        Body::Error { error: refusal, registry_version, .. } => error(out, &refusal, registry_version),
    }
}

/// Appends an error frame.
pub(crate) fn error(out: &mut Vec<u8>, error: &ApiError, registry_version: Option<u64>) {
    let start = begin(out);
    write_error(out, error, registry_version);
    finish(out, start, ERROR, Encoding::Json);
}

fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    start
}

fn finish(out: &mut [u8], start: usize, opcode: u16, encoding: Encoding) {
    let payload = out.len() - start - HEAD_BYTES;
    let length = u32::try_from(payload + LENGTH_MIN).unwrap_or(u32::MAX);
    let content_type = match encoding {
        Encoding::Json => 1,
        Encoding::MsgPack => 2,
    };
    if let Some(head) = out.get_mut(start..start + HEAD_BYTES) {
        head[..4].copy_from_slice(&length.to_be_bytes());
        head[4..6].copy_from_slice(&opcode.to_be_bytes());
        head[6] = content_type;
    }
}
