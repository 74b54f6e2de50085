//! What each opcode does: one call to the engine, or an error frame.

use super::write;
use crate::desk::Desk;
use crate::form::envelope::{self, RowMember};
use crate::form::{push, read};
use crate::http::handle::{put_batch, register_payload, reset_disabled};
use crate::shape::{Kind, Shape};
use streamgauge_api::port::{Encoding, PushRow, Request, Wait};
use streamgauge_api::{ApiError, Code};

const PING: u16 = 0x0000;
const REGISTER: u16 = 0x0001;
const PUSH: u16 = 0x0010;
const PUSH_SYNC: u16 = 0x0011;
const PUSH_MANY: u16 = 0x0012;
const GET: u16 = 0x0020;
const MGET: u16 = 0x0021;
const GET_MULTI: u16 = 0x0022;
const GET_RESPONSE: u16 = 0x0023;
const BATCH_GET: u16 = 0x0024;
const MEMBER: u16 = 0x0025;
const RESET: u16 = 0x0040;

/// Answers one frame, now or through the engine.
pub(crate) fn frame(opcode: u16, content_type: u8, payload: &[u8], desk: &mut Desk<'_>) {
    let kind = kind_of(opcode);
    if let Err(error) = act(opcode, kind, content_type, payload, desk) {
        let registry_version = kind.is_some_and(Kind::shows_registry_version).then(|| desk.shared.registry_version.get());
        desk.answer(|out| write::error(out, &error, registry_version));
    }
}

fn kind_of(opcode: u16) -> Option<Kind> {
    Some(match opcode {
        PING => Kind::FramedPing,
        REGISTER => Kind::Register,
        PUSH | PUSH_SYNC => Kind::Push,
        PUSH_MANY => Kind::PushBatch,
        GET => Kind::Get,
        MGET | GET_MULTI => Kind::Many,
        BATCH_GET => Kind::Batch,
        MEMBER => Kind::Member,
        RESET => Kind::Reset,
        _ => return None,
    })
}

fn act(opcode: u16, kind: Option<Kind>, content_type: u8, payload: &[u8], desk: &mut Desk<'_>) -> Result<(), ApiError> {
    let Some(kind) = kind else { return Err(unknown(opcode)) };
    let shape = |reply_opcode, encoding| Shape::framed(kind, reply_opcode, encoding);
    match opcode {
        PUSH | PUSH_SYNC => {
            let encoding = encoding(opcode, content_type)?;
            let cut = match encoding {
                Encoding::Json => envelope::cut(payload, RowMember::Body)?,
                Encoding::MsgPack => push::cut_msgpack(payload, RowMember::Body)?,
            };
            let wait = if opcode == PUSH_SYNC { Wait::Synced } else { Wait::Default };
            let tag = desk.tag(shape(opcode, Encoding::Json));
            desk.port.push(tag, encoding, PushRow { event: &cut.event, body: cut.row }, wait);
        }
        PUSH_MANY => {
            let encoding = encoding(opcode, content_type)?;
            let batch = push::batch_object(payload, encoding, RowMember::Body)?;
            put_batch(&batch, encoding, false, shape(opcode, Encoding::Json), desk);
        }
        GET => {
            let encoding = encoding(opcode, content_type)?;
            desk.call(shape(GET_RESPONSE, encoding), read::get(payload, encoding, true)?);
        }
        MGET | GET_MULTI => {
            let encoding = encoding(opcode, content_type)?;
            let request = if opcode == MGET { read::mget(payload, encoding)? } else { read::get_multi(payload, encoding)? };
            desk.call(shape(GET_RESPONSE, encoding), request);
        }
        BATCH_GET => {
            let request = read::batch_get(payload, encoding(opcode, content_type)?)?;
            desk.call(shape(GET_RESPONSE, Encoding::Json), request);
        }
        MEMBER => {
            let encoding = encoding(opcode, content_type)?;
            desk.call(shape(GET_RESPONSE, encoding), read::member(payload, encoding)?);
        }
        REGISTER => {
            if encoding(opcode, content_type)? == Encoding::MsgPack {
                return Err(unsupported_content_type(opcode, content_type));
            }
            desk.call(shape(REGISTER, Encoding::Json), Request::Register(register_payload(payload)?));
        }
        RESET if !desk.shared.config.test_mode => return Err(reset_disabled()),
        RESET => desk.call(shape(GET_RESPONSE, Encoding::Json), Request::Reset),
        _ => desk.call(shape(PING, Encoding::Json), Request::Ping),
    }
    Ok(())
}

fn encoding(opcode: u16, content_type: u8) -> Result<Encoding, ApiError> {
    match content_type {
        1 => Ok(Encoding::Json),
        2 => Ok(Encoding::MsgPack),
        _ => Err(unsupported_content_type(opcode, content_type)),
    }
}

fn unsupported_content_type(opcode: u16, content_type: u8) -> ApiError {
    ApiError::new(Code::UnsupportedContentType, format!("opcode {opcode:#06x} takes no content type {content_type:#04x}"))
        .with("op", opcode.into())
}

fn unknown(opcode: u16) -> ApiError {
    let message = format!("opcode {opcode:#06x} is not known");
    ApiError::new(Code::UnknownOp, message.clone()).with("op", opcode.into()).with("message", message.into())
}
