//! Content to frame and back: the layout of what the WAL carries.
//!
//! ```text
//! ROWS        positions   none, or: positions u32, runs u32 | positions | runs
//!                         a position, 40 bytes: slot u32, epoch i32, offset i64, after i64, record time ms i64, clock ms i64
//!                         a run, 24 bytes: index into the positions u32, 1 waits or 0 waits no more u32, from i64, to i64
//!             body        word: batches u32, bytes of rejects u32 | batches (row layout) | rejects as JSON, new ones and those that are done, zero-padded
//! DEFINITION  body        word: bytes | JSON {"registry", "effects"}
//! PARTITION, SCHEMA, INCIDENT, CLOCK, MOVED, FILL     the same with their own JSON
//! SWEEP       body        word: table u32, keys u32 | word: bytes | of each key: bytes u32, key bytes; zero-padded
//! RESET, MARK, CLOSE, SKIP        no body
//! ```

use crate::pipeline::{Registry, TableEffect};
use crate::row::{EventId, Key, Rows};
use crate::state::{Content, RowsContent, Sweep, WaitingRun};
use crate::wal::{Frame, FrameKind};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use streamgauge_api::control::{Reject, RejectId};
use streamgauge_api::decision::Gap;
use streamgauge_api::source::Incident;
use streamgauge_api::{Position, Slot, StoredPosition};

/// Bytes of one position in a frame.
pub(crate) const POSITION_BYTES: usize = 40;
/// Bytes of a run of offsets that wait, or wait no more.
pub(crate) const RUN_BYTES: usize = 24;
/// Bytes in front of positions.
const COUNTS_BYTES: usize = 8;

/// Why a sound frame has no meaning to this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("frame at LSN {lsn} of kind {kind} cannot be read: {reason}")]
pub struct ContentError {
    /// First LSN of the frame.
    pub lsn: u64,
    /// Kind of the frame.
    pub kind: u8,
    /// What is wrong with it.
    pub reason: String,
}

/// A frame's bytes, ready to be written.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Source positions.
    pub positions: Vec<u8>,
    /// Words in front of the batches.
    pub head: Vec<u64>,
    /// Words behind the batches, or the whole body of frames without batches.
    pub tail: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct DefinitionText {
    registry: String,
    effects: Vec<TableEffect>,
}

#[derive(Serialize, Deserialize)]
struct IncidentText {
    slot: u32,
    incident: Option<Incident>,
}

#[derive(Serialize, Deserialize)]
struct MovedText {
    slot: u32,
    stored: StoredPosition,
    reached: Option<Position>,
    gap: Option<Gap>,
}

#[derive(Serialize, Deserialize)]
struct ClockText {
    now_us: i64,
    held: bool,
}

/// The kind of frame that carries this content.
pub fn kind_of(content: &Content) -> FrameKind {
    match content {
        Content::Rows(_) => FrameKind::ROWS,
        Content::Definition { .. } => FrameKind::DEFINITION,
        Content::Partition(_) => FrameKind::PARTITION,
        Content::Schema(_) => FrameKind::SCHEMA,
        Content::Incident { .. } => FrameKind::INCIDENT,
        Content::Clock { .. } => FrameKind::CLOCK,
        Content::Skipped { .. } => unreachable!("what is left out is read from its own frame, never written"),
        Content::Sweep(_) => FrameKind::SWEEP,
        Content::Readable { .. } => FrameKind::READABLE,
        Content::Moved { .. } => FrameKind::MOVED,
        Content::Fill(_) => FrameKind::FILL,
        Content::Reset => FrameKind::RESET,
        Content::Nothing => FrameKind::MARK,
    }
}

/// Bytes behind the header of the frame that carries these rows.
pub(crate) fn rows_bytes(rows: &RowsContent) -> usize {
    let batches: usize = rows.batches.iter().map(|batch| batch.words().len() * 8).sum();
    let positions = COUNTS_BYTES + rows.positions.len() * POSITION_BYTES + rows.waiting.len() * RUN_BYTES;
    positions + 8 + batches + rejects_bytes(rows) + 8
}

/// Bytes that the rejects of a frame take, new ones and those that are done, at most.
fn rejects_bytes(rows: &RowsContent) -> usize {
    if rows.rejects.is_empty() && rows.retried.is_empty() {
        return 0;
    }
    let retried = |id: &RejectId| REJECT_ID_BYTES + text_bytes(&id.event) + text_bytes(&id.topic);
    REJECT_TEXTS_BYTES + rows.rejects.iter().map(reject_bytes).sum::<usize>() + rows.retried.iter().map(retried).sum::<usize>()
}

/// Names, brackets and braces around both lists.
const REJECT_TEXTS_BYTES: usize = 32;

/// Names, quotes and numbers of the mark that a reject is done.
const REJECT_ID_BYTES: usize = 140;

/// What a frame says of rejects.
#[derive(Serialize, Deserialize)]
struct RejectTexts<'a> {
    rejects: Cow<'a, [Reject]>,
    #[serde(default, skip_serializing_if = "<[RejectId]>::is_empty")]
    retried: Cow<'a, [RejectId]>,
}

/// Bytes that a reject takes in a frame, comma or bracket included. Never less than what is written.
pub(crate) fn reject_bytes(reject: &Reject) -> usize {
    let texts = [&reject.event, &reject.source, &reject.topic, &reject.code, &reject.reason];
    let bytes = [&reject.key, &reject.value].into_iter().flatten();
    let written: usize = texts.into_iter().map(|text| text_bytes(text)).sum::<usize>() + bytes.map(|text| text_bytes(text)).sum::<usize>();
    REJECT_FRAME_BYTES + written
}

/// Names, quotes and numbers of a reject, each number at its longest.
const REJECT_FRAME_BYTES: usize = 380;

/// A text as JSON writes it, without its quotes.
fn text_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0x00..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

/// The text, or its beginning when it is longer than that.
pub(crate) fn shortened(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max.saturating_sub(3)).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
        debug_assert!(text.len() <= bytes_max.max(3), "a text of {} bytes was to have {bytes_max}", text.len());
    }
    text
}

/// Encodes everything but the batches, which are written as they are.
pub fn encode(content: &Content, into: &mut Encoded) {
    if let Content::Rows(rows) = content {
        return encode_rows(rows, into);
    }
    into.positions.clear();
    into.head.clear();
    into.tail.clear();
    match content {
        Content::Rows(_) => unreachable!("rows are encoded above"),
        Content::Definition { registry, effects } => {
            text(&DefinitionText { registry: registry.to_json(), effects: effects.clone() }, &mut into.tail);
        }
        Content::Partition(partition) => text(partition, &mut into.tail),
        Content::Schema(schema) => text(schema, &mut into.tail),
        Content::Incident { slot, incident } => text(&IncidentText { slot: slot.0, incident: incident.clone() }, &mut into.tail),
        Content::Clock { now_us, held } => text(&ClockText { now_us: *now_us, held: *held }, &mut into.tail),
        Content::Skipped { .. } => unreachable!("what is left out is read from its own frame, never written"),
        Content::Sweep(sweep) => encode_sweep(sweep, &mut into.tail),
        Content::Readable { source } => text(source, &mut into.tail),
        Content::Moved { slot, stored, reached, gap } => {
            let moved = MovedText { slot: slot.0, stored: stored.clone(), reached: *reached, gap: gap.as_deref().cloned() };
            text(&moved, &mut into.tail);
        }
        Content::Fill(step) => text(step, &mut into.tail),
        Content::Reset | Content::Nothing => {}
    }
}

/// Encodes everything of a frame of rows but its batches, which are written as they are.
pub(crate) fn encode_rows(rows: &RowsContent, into: &mut Encoded) {
    into.positions.clear();
    into.head.clear();
    into.tail.clear();
    encode_positions(rows, &mut into.positions);
    let mut rejects = 0;
    if !rows.rejects.is_empty() || !rows.retried.is_empty() {
        let texts = RejectTexts { rejects: Cow::Borrowed(&rows.rejects), retried: Cow::Borrowed(&rows.retried) };
        let Ok(json) = serde_json::to_vec(&texts) else { unreachable!("rejects are texts and numbers, which always serialise") };
        debug_assert!(json.len() <= rejects_bytes(rows), "rejects are as large as they were counted");
        rejects = json.len() as u64;
        assert!(rejects <= u64::from(u32::MAX), "{rejects} bytes of rejects are far above the bound of a frame");
        words(&json, &mut into.tail);
    }
    into.head.push(rows.batches.len() as u64 | rejects << 32);
}

fn encode_positions(rows: &RowsContent, into: &mut Vec<u8>) {
    assert!(rows.waiting.iter().all(|run| (run.position as usize) < rows.positions.len()), "runs name positions that are there");
    if rows.positions.is_empty() {
        return;
    }
    for count in [rows.positions.len(), rows.waiting.len()] {
        let Ok(count) = u32::try_from(count) else { unreachable!("{count} positions or runs are far above the bound of a frame") };
        into.extend_from_slice(&count.to_le_bytes());
    }
    for (slot, position) in &rows.positions {
        into.extend_from_slice(&slot.0.to_le_bytes());
        into.extend_from_slice(&position.epoch.to_le_bytes());
        into.extend_from_slice(&position.offset.to_le_bytes());
        into.extend_from_slice(&position.after.to_le_bytes());
        into.extend_from_slice(&position.record_time_ms.to_le_bytes());
        into.extend_from_slice(&position.clock_ms.to_le_bytes());
    }
    for run in &rows.waiting {
        into.extend_from_slice(&run.position.to_le_bytes());
        into.extend_from_slice(&u32::from(run.waits).to_le_bytes());
        into.extend_from_slice(&run.from.to_le_bytes());
        into.extend_from_slice(&run.to.to_le_bytes());
    }
}

fn encode_sweep(sweep: &Sweep, into: &mut Vec<u64>) {
    let mut bytes = Vec::new();
    for key in &sweep.keys {
        let Ok(length) = u32::try_from(key.len()) else { unreachable!("keys are short") };
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(key);
    }
    into.push(u64::from(sweep.table) | (sweep.keys.len() as u64) << 32);
    into.push(bytes.len() as u64);
    words(&bytes, into);
}

fn decode_sweep(body: &[u64]) -> Result<Sweep, String> {
    let [head, length, words @ ..] = body else { return Err("no body".into()) };
    let bytes: &[u8] = bytemuck::cast_slice(words);
    let mut rest = usize::try_from(*length).ok().and_then(|length| bytes.get(..length)).ok_or("a length beyond the body")?;
    let mut keys = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (key, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or("a key beyond the body")?;
        keys.push(Key::from_slice(key));
        rest = behind;
    }
    #[expect(clippy::cast_possible_truncation, reason = "two halves of 32 bits")]
    let table = *head as u32;
    if !rest.is_empty() || keys.len() as u64 != head >> 32 {
        return Err(format!("{} keys in a sweep of {}", keys.len(), head >> 32));
    }
    Ok(Sweep { table, keys })
}

fn text(value: &impl Serialize, into: &mut Vec<u64>) {
    let Ok(json) = serde_json::to_vec(value) else { unreachable!("our own plain data always serialises") };
    into.push(json.len() as u64);
    words(&json, into);
}

fn words(bytes: &[u8], into: &mut Vec<u64>) {
    into.extend(bytes.chunks(8).map(|part| {
        let mut word = [0u8; 8];
        word[..part.len()].copy_from_slice(part);
        u64::from_le_bytes(word)
    }));
}

/// Reads a frame's content.
///
/// # Errors
/// When a sound frame does not have the layout of its kind.
pub fn decode(frame: &Frame<'_>) -> Result<Content, ContentError> {
    let wrong = |reason: String| ContentError { lsn: frame.first_lsn, kind: frame.kind.0, reason };
    if frame.kind != FrameKind::ROWS && frame.row_count > 1 {
        return Err(wrong(format!("{} rows in a {}", frame.row_count, frame.kind.name())));
    }
    match frame.kind {
        FrameKind::ROWS => match decode_rows(frame).map_err(wrong)? {
            content if content.rows() == frame.row_count as usize => Ok(Content::Rows(content)),
            content => Err(wrong(format!("{} rows in a frame of {}", content.rows(), frame.row_count))),
        },
        FrameKind::DEFINITION => {
            let definition: DefinitionText = parse(frame.body).map_err(wrong)?;
            let registry =
                Registry::from_json(&definition.registry, crate::operators::OPERATORS).map_err(|error| wrong(error.to_string()))?;
            Ok(Content::Definition { registry: Arc::new(registry), effects: definition.effects })
        }
        FrameKind::PARTITION => parse(frame.body).map(Content::Partition).map_err(wrong),
        FrameKind::SCHEMA => parse(frame.body).map(Content::Schema).map_err(wrong),
        FrameKind::INCIDENT => {
            let IncidentText { slot, incident } = parse(frame.body).map_err(wrong)?;
            Ok(Content::Incident { slot: Slot(slot), incident })
        }
        FrameKind::CLOCK => {
            let ClockText { now_us, held } = parse(frame.body).map_err(wrong)?;
            Ok(Content::Clock { now_us, held })
        }
        FrameKind::SWEEP => decode_sweep(frame.body).map(Content::Sweep).map_err(wrong),
        FrameKind::READABLE => parse(frame.body).map(|source| Content::Readable { source }).map_err(wrong),
        FrameKind::MOVED => {
            let MovedText { slot, stored, reached, gap } = parse(frame.body).map_err(wrong)?;
            Ok(Content::Moved { slot: Slot(slot), stored, reached, gap: gap.map(Box::new) })
        }
        FrameKind::FILL => parse(frame.body).map(Content::Fill).map_err(wrong),
        FrameKind::RESET => Ok(Content::Reset),
        _ => Ok(Content::Nothing),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u64]) -> Result<T, String> {
    let (&length, words) = body.split_first().ok_or("no body")?;
    let bytes: &[u8] = bytemuck::cast_slice(words);
    let json = usize::try_from(length).ok().and_then(|length| bytes.get(..length)).ok_or("a length beyond the body")?;
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

/// Reads a frame of rows that is left out: its positions alone, whatever is wrong with its rows.
///
/// # Errors
/// When it is of another kind, or its positions cannot be read.
pub fn decode_skipped(frame: &Frame<'_>) -> Result<Content, ContentError> {
    let wrong = |reason: String| ContentError { lsn: frame.first_lsn, kind: frame.kind.0, reason };
    if frame.kind != FrameKind::ROWS {
        return Err(wrong("only a frame of rows can be left out".into()));
    }
    let (positions, waiting) = decode_positions(frame).map_err(wrong)?;
    Ok(Content::Skipped { positions, waiting, rows: frame.row_count })
}

type Positions = (Vec<(Slot, Position)>, Vec<WaitingRun>);

fn decode_positions(frame: &Frame<'_>) -> Result<Positions, String> {
    fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
        let Some(part) = bytes[at..].first_chunk() else { unreachable!("byte {at} of {} is cut", bytes.len()) };
        *part
    }
    let word = |bytes: &[u8], at: usize| i64::from_le_bytes(part(bytes, at));
    let half = |bytes: &[u8], at: usize| u32::from_le_bytes(part(bytes, at));
    let Some((counts, rest)) = frame.positions.split_first_chunk::<COUNTS_BYTES>() else {
        return if frame.positions.is_empty() { Ok(Positions::default()) } else { Err("positions of an odd length".into()) };
    };
    let (positions, runs) = (half(counts, 0) as usize, half(counts, 4) as usize);
    if rest.len() as u64 != positions as u64 * POSITION_BYTES as u64 + runs as u64 * RUN_BYTES as u64 {
        return Err(format!("{positions} positions and {runs} runs in {} bytes", rest.len()));
    }
    let (positions, runs) = rest.split_at(positions * POSITION_BYTES);
    let position = |bytes: &[u8]| {
        let (epoch, clock_ms) = (half(bytes, 4).cast_signed(), word(bytes, 32));
        let position = Position { epoch, offset: word(bytes, 8), after: word(bytes, 16), record_time_ms: word(bytes, 24), clock_ms };
        (Slot(half(bytes, 0)), position)
    };
    let run = |bytes: &[u8]| match half(bytes, 4) {
        kind @ (0 | 1) => Ok(WaitingRun { position: half(bytes, 0), waits: kind == 1, from: word(bytes, 8), to: word(bytes, 16) }),
        kind => Err(format!("a run of kind {kind}")),
    };
    let runs = runs.chunks_exact(RUN_BYTES).map(run).collect::<Result<_, _>>()?;
    Ok((positions.chunks_exact(POSITION_BYTES).map(position).collect(), runs))
}

/// Rows of a frame by event; none when its words do not say that.
pub fn row_counts_of(frame: &Frame<'_>) -> Option<std::collections::BTreeMap<EventId, u64>> {
    let mut counts = std::collections::BTreeMap::new();
    if frame.kind == FrameKind::ROWS {
        for batch in decode_rows(frame).ok()?.batches {
            *counts.entry(batch.event()).or_default() += batch.len() as u64;
        }
    }
    Some(counts)
}

/// Events of the batches of a frame, as far as its words tell; nothing else of the rows is looked at.
pub fn events_of(frame: &Frame<'_>) -> Vec<EventId> {
    let mut events = Vec::new();
    let Some((&head, mut rest)) = frame.body.split_first().filter(|_| frame.kind == FrameKind::ROWS) else { return events };
    for _ in 0..head & 0xFFFF_FFFF {
        let (Some(&first), Ok(length)) = (rest.first(), Rows::measure(rest)) else { break };
        let [a, b, c, d, ..] = first.to_le_bytes();
        events.push(EventId(u32::from_le_bytes([a, b, c, d])));
        rest = rest.get(length..).unwrap_or_default();
    }
    events.sort_unstable();
    events.dedup();
    events
}

fn decode_rows(frame: &Frame<'_>) -> Result<RowsContent, String> {
    let (positions, waiting) = decode_positions(frame)?;
    let mut content = RowsContent { positions, waiting, ..RowsContent::default() };
    let Some((&head, mut rest)) = frame.body.split_first() else { return Ok(content) };
    for _ in 0..head & 0xFFFF_FFFF {
        let length = Rows::measure(rest).map_err(|error| error.to_string())?;
        let (batch, behind) = rest.split_at_checked(length).ok_or("a batch beyond the body")?;
        content.batches.push(Rows::from_words(batch.to_vec()).map_err(|error| error.to_string())?);
        rest = behind;
    }
    let rejects = (head >> 32) as usize;
    if rejects > 0 {
        let bytes: &[u8] = bytemuck::cast_slice(rest);
        let json = bytes.get(..rejects).ok_or("rejects beyond the body")?;
        let texts: RejectTexts<'_> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        (content.rejects, content.retried) = (texts.rejects.into_owned(), texts.retried.into_owned());
    }
    Ok(content)
}
