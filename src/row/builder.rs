//! Writes rows: the one place where declared types meet what a client or a producer sent.
//!
//! A decoder calls [`RowsBuilder::begin`], sets fields in any order, then [`RowsBuilder::commit`] or [`RowsBuilder::rollback`]. Nothing is allocated per row once
//! the buffers have grown. Used on connector threads; tests and replay of rejects use it too.

use super::cell::tag;
use super::key::KEY_BYTES_MAX;
use super::reading::{Raw, Reading, Taken, read};
use super::rows::{
    FLAG_AHEAD, FLAG_DELETES, FLAG_TIMES, HEADER_WORDS, ROWS_PER_BATCH_MAX, Rows, Run, STATE_ABSENT, STATE_ESCAPED, STATE_NULL, STATE_VALUE,
};
use super::schema::{EventSchema, FieldIndex, FieldType, TimeSource, TimeUnit};
use super::time::{RowClock, RowTime, TIMES_MS, looks_like, parse_time_us};
use std::sync::Arc;
use streamgauge_api::Code;

/// Heap bytes of one batch are bounded so that an offset fits its half word.
const HEAP_BYTES_MAX: usize = 1 << 30;
/// A heap that grew beyond this for one large row is given back.
const HEAP_KEPT_BYTES: usize = 8 << 20;
/// Bytes of one row's cells and texts: a row beyond it is refused, so that a batch and its frame stay bounded.
pub const ROW_BYTES_MAX: usize = 16 << 20;

/// How exact a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// As pushes are taken: a fraction in an i64 field stays a fraction, an integer beyond i64 becomes a double.
    Push,
    /// As records are taken: both are refused.
    Record,
}

/// Why a field's value was not taken.
#[derive(Debug, Clone, PartialEq)]
pub struct CellError {
    /// Which field.
    pub field: FieldIndex,
    /// Stable code.
    pub code: Code,
    /// What is wrong, naming the field.
    pub reason: String,
}

/// Collects rows of one event.
#[derive(Debug)]
pub struct RowsBuilder {
    schema: Arc<EventSchema>,
    strictness: Strictness,
    required: Vec<u16>,
    /// The declared type, which a value must have; none where a reading says what else it may be.
    kinds: Vec<Option<FieldType>>,
    readings: Vec<(FieldIndex, Reading)>,
    /// Text fields that make up keys, one list a key.
    keys: Vec<Vec<FieldIndex>>,
    /// Cells row by row; turned into columns once per batch, which is cheaper than growing every column per row.
    cells: Vec<u64>,
    /// State words, all fields of rows 0..32, then all fields of rows 32..64, ...
    states: Vec<u64>,
    times: Vec<i64>,
    /// Row number and microseconds ahead, of the rows that are ahead of their clock.
    ahead: Vec<(u32, i64)>,
    deletes: Vec<u64>,
    any_delete: bool,
    /// The row's time where its field held more than a plain number: a text, a fraction, a time with a unit of its own.
    told_time_us: Option<i64>,
    runs: Vec<Run>,
    next_offset: i64,
    heap: Vec<u8>,
    heap_mark: usize,
    row: Vec<u64>,
    row_states: Vec<u8>,
}

impl RowsBuilder {
    /// An empty builder for one version of an event.
    pub fn new(schema: Arc<EventSchema>, strictness: Strictness) -> Self {
        let fields = schema.fields.len();
        let required = schema
            .fields
            .iter()
            .enumerate()
            .filter(|(_, field)| !field.optional)
            .filter_map(|(index, _)| u16::try_from(index).ok())
            .collect();
        Self {
            strictness,
            required,
            kinds: schema.fields.iter().map(|field| Some(field.kind)).collect(),
            readings: Vec::new(),
            keys: Vec::new(),
            cells: Vec::new(),
            states: Vec::new(),
            times: Vec::new(),
            ahead: Vec::new(),
            deletes: Vec::new(),
            any_delete: false,
            told_time_us: None,
            runs: Vec::new(),
            next_offset: i64::MIN,
            heap: Vec::new(),
            heap_mark: 0,
            row: vec![0; fields],
            row_states: vec![STATE_ABSENT as u8; fields],
            schema,
        }
    }

    /// Refuses rows whose texts in one of these lists of fields are together longer than a key may be.
    #[must_use]
    pub fn with_keys(self, keys: Vec<Vec<FieldIndex>>) -> Self {
        Self { keys, ..self }
    }

    /// Reads the values of these fields as declared for them.
    #[must_use]
    pub fn with_readings(mut self, readings: Vec<(FieldIndex, Reading)>) -> Self {
        for (field, _) in &readings {
            self.kinds[usize::from(field.0)] = None;
        }
        Self { readings, ..self }
    }

    /// Whether a field's values are read as a source says.
    pub(crate) fn has_reading(&self, field: FieldIndex) -> bool {
        self.kinds[usize::from(field.0)].is_none()
    }

    /// The text in a json or str field of the row that was begun.
    pub(crate) fn text_of(&self, field: FieldIndex) -> Option<&str> {
        let index = usize::from(field.0);
        let (word, state) = (self.row[index], u64::from(self.row_states[index]));
        let (offset, len) = ((word >> 32) as usize, (word & 0xFFFF_FFFF) as usize);
        let bytes = self.heap.get(offset..offset + len)?;
        let bytes = match (state, self.declared(field)) {
            (STATE_VALUE, FieldType::Str) => bytes,
            (STATE_ESCAPED, _) => bytes.strip_prefix(&[tag::STR])?,
            _ => return None,
        };
        std::str::from_utf8(bytes).ok()
    }

    /// The declaration that rows are written for.
    pub fn schema(&self) -> &Arc<EventSchema> {
        &self.schema
    }

    /// How exact values must be.
    pub fn strictness(&self) -> Strictness {
        self.strictness
    }

    /// Rows committed since the last [`RowsBuilder::finish`].
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Whether the next row must go into another batch.
    pub fn is_full(&self) -> bool {
        self.times.len() >= ROWS_PER_BATCH_MAX || self.heap.len() >= HEAP_BYTES_MAX
    }

    /// Bytes that the batch takes so far, never less than [`RowsBuilder::finish`] gives.
    pub fn size_bytes(&self) -> usize {
        let (rows, fields) = (self.times.len(), self.row.len());
        let cells = fields * (rows + rows.div_ceil(32)) + rows + rows.div_ceil(64) + 1 + self.ahead.len() * 2;
        (HEADER_WORDS + self.runs.len() * 2 + cells + self.heap.len().div_ceil(8)) * 8
    }

    /// Begins a row: every field absent.
    #[inline]
    pub fn begin(&mut self) {
        self.heap_mark = self.heap.len();
        self.told_time_us = None;
        self.row.fill(0);
        self.row_states.fill(STATE_ABSENT as u8);
    }

    /// Drops the row that was begun.
    pub fn rollback(&mut self) {
        self.heap.truncate(self.heap_mark);
    }

    #[inline]
    fn set(&mut self, field: FieldIndex, word: u64, state: u64) {
        let index = usize::from(field.0);
        self.row[index] = word;
        self.row_states[index] = state as u8;
    }

    #[inline]
    fn store(&mut self, bytes: &[u8]) -> u64 {
        let offset = self.heap.len() as u64;
        self.heap.extend_from_slice(bytes);
        offset << 32 | bytes.len() as u64
    }

    fn escape(&mut self, field: FieldIndex, kind: u8, payload: &[u8]) {
        let offset = self.heap.len() as u64;
        self.heap.push(kind);
        self.heap.extend_from_slice(payload);
        self.set(field, offset << 32 | (payload.len() as u64 + 1), STATE_ESCAPED);
    }

    fn mismatch(&self, field: FieldIndex, got: &str) -> CellError {
        let declared = &self.schema.fields[usize::from(field.0)];
        let reason = format!("field \"{}\" of {} is {got}, declared {}", declared.name, self.schema.name, declared.kind.as_str());
        CellError { field, code: self.type_code(), reason }
    }

    fn out_of_range(&self, field: FieldIndex, got: &str) -> CellError {
        let declared = &self.schema.fields[usize::from(field.0)];
        let reason =
            format!("field \"{}\" of {} holds {got}, out of range for {}", declared.name, self.schema.name, declared.kind.as_str());
        let code = if self.strictness == Strictness::Push { Code::InvalidEvent } else { Code::DecodeOutOfRange };
        CellError { field, code, reason }
    }

    fn type_code(&self) -> Code {
        if self.strictness == Strictness::Push { Code::InvalidEvent } else { Code::DecodeTypeMismatch }
    }

    /// The type that a value must have; none where a reading says what it may be.
    #[inline]
    fn kind(&self, field: FieldIndex) -> Option<FieldType> {
        self.kinds[usize::from(field.0)]
    }

    fn declared(&self, field: FieldIndex) -> FieldType {
        self.schema.fields[usize::from(field.0)].kind
    }

    /// Sets a value of a field that has a reading.
    #[cold]
    fn read(&mut self, field: FieldIndex, raw: Raw<'_>) -> Result<(), CellError> {
        let Some(at) = self.readings.iter().position(|(of, _)| *of == field) else { unreachable!("a field without a type has a reading") };
        let kind = self.declared(field);
        let null_if_bad = self.readings[at].1.null_if_bad;
        let done = match read(&self.readings[at].1, kind, raw) {
            Ok(taken) => self.take(field, kind, raw, &taken),
            Err((Code::DecodeOutOfRange, what)) => Err(self.out_of_range(field, &what)),
            Err((_, what)) => Err(self.mismatch(field, &what)),
        };
        if done.is_err() && null_if_bad {
            self.null(field);
            return Ok(());
        }
        done
    }

    fn take(&mut self, field: FieldIndex, kind: FieldType, raw: Raw<'_>, taken: &Taken<'_>) -> Result<(), CellError> {
        match taken {
            Taken::Int(number) => self.set_int(field, kind, *number),
            Taken::Float(number) => self.set_float(field, kind, *number),
            Taken::Bool(truth) => self.set_bool(field, kind, *truth),
            Taken::Text(text) => self.set_str(field, kind, text),
            Taken::Bytes(bytes) => self.set_bytes(field, kind, bytes),
            Taken::Moment(time_ms, time_us) => self.set_instant(field, kind, *time_ms, *time_us),
            Taken::Same => match raw {
                Raw::Int(number) => self.set_int(field, kind, number),
                Raw::Float(number) => self.set_float(field, kind, number),
                Raw::Big(number, _) if kind == FieldType::F64 => self.set_float(field, kind, number),
                Raw::Big(_, text) => Err(self.out_of_range(field, text)),
                Raw::Bool(truth) => self.set_bool(field, kind, truth),
                Raw::Str(text) => self.set_str(field, kind, text),
                Raw::Bytes(bytes) => self.set_bytes(field, kind, bytes),
                Raw::Moment(time_ms, time_us) => self.set_instant(field, kind, time_ms, time_us),
                Raw::Json(text) => self.set_json(field, kind, text),
                Raw::Fraction(number, _) => self.set_float(field, kind, number),
                Raw::Decimal(_) => unreachable!("a decimal is read for every type"),
            },
        }
    }

    /// Sets the cell of an i64, f64, bool or datetime field; the caller has checked the type (and that a double is finite) beforehand.
    #[inline]
    pub(crate) fn word(&mut self, field: FieldIndex, word: u64) {
        debug_assert!(self.kind(field).is_some_and(|kind| !kind.in_heap()), "a word in a heap field");
        self.set(field, word, STATE_VALUE);
    }

    /// Sets the bytes of a str or bytes field; the caller has checked the type, and that text is UTF-8, beforehand.
    #[inline]
    pub(crate) fn heap(&mut self, field: FieldIndex, bytes: &[u8]) {
        debug_assert!(matches!(self.kind(field), Some(FieldType::Str | FieldType::Bytes)), "heap bytes in another field");
        let word = self.store(bytes);
        self.set(field, word, STATE_VALUE);
    }

    /// Sets null. Whether a required field may be null is checked at commit.
    #[inline]
    pub fn null(&mut self, field: FieldIndex) {
        self.set(field, 0, STATE_NULL);
    }

    /// Sets an integer into an i64, f64, datetime (ms) or json field.
    ///
    /// # Errors
    /// When the field is of another type.
    #[inline]
    pub fn int(&mut self, field: FieldIndex, number: i64) -> Result<(), CellError> {
        match self.kind(field) {
            Some(kind) => self.set_int(field, kind, number),
            None => self.read(field, Raw::Int(number)),
        }
    }

    #[inline]
    fn set_int(&mut self, field: FieldIndex, kind: FieldType, number: i64) -> Result<(), CellError> {
        match kind {
            FieldType::I64 => self.set(field, number.cast_unsigned(), STATE_VALUE),
            FieldType::Datetime => {
                self.judge_other_unit(field, number)?;
                self.set(field, number.cast_unsigned(), STATE_VALUE);
            }
            #[expect(clippy::cast_precision_loss, reason = "an integer in an f64 field is the nearest double, as documented")]
            FieldType::F64 => self.set(field, (number as f64).to_bits(), STATE_VALUE),
            FieldType::Json => self.escape(field, tag::I64, &number.to_le_bytes()),
            _ => return Err(self.mismatch(field, "a number")),
        }
        Ok(())
    }

    /// Sets a time that says its own unit, given in milliseconds and in microseconds, into a datetime, i64 or json field, in
    /// milliseconds; the row's time keeps the microseconds.
    ///
    /// # Errors
    /// When the field is of another type.
    pub fn instant(&mut self, field: FieldIndex, time_ms: i64, time_us: i64) -> Result<(), CellError> {
        match self.kind(field) {
            Some(kind) => self.set_instant(field, kind, time_ms, time_us),
            None => self.read(field, Raw::Moment(time_ms, time_us)),
        }
    }

    #[inline]
    fn set_instant(&mut self, field: FieldIndex, kind: FieldType, time_ms: i64, time_us: i64) -> Result<(), CellError> {
        match kind {
            FieldType::Datetime | FieldType::I64 => self.time(field, time_ms, time_us),
            _ => return self.set_int(field, kind, time_ms),
        }
        Ok(())
    }

    /// The cell of a time, and the row's time where it comes from this field.
    fn time(&mut self, field: FieldIndex, time_ms: i64, time_us: i64) {
        self.set(field, time_ms.cast_unsigned(), STATE_VALUE);
        if self.schema.time.field() == Some(field) {
            self.told_time_us = Some(time_us);
        }
    }

    /// Sets a double into an f64, i64 or json field, or milliseconds with a fraction into a datetime field (of the time's
    /// own unit where the row's time comes from it). In an i64 field a whole double becomes an integer; a fraction is kept as it is (push) or refused (record).
    ///
    /// # Errors
    /// When it is not finite, the field is of another type, or the number does not fit.
    #[inline]
    pub fn float(&mut self, field: FieldIndex, number: f64) -> Result<(), CellError> {
        match self.kind(field) {
            Some(kind) => self.set_float(field, kind, number),
            None => self.read(field, Raw::Float(number)),
        }
    }

    #[inline]
    fn set_float(&mut self, field: FieldIndex, kind: FieldType, number: f64) -> Result<(), CellError> {
        if !number.is_finite() {
            return Err(self.out_of_range(field, "a number that is not finite"));
        }
        match kind {
            FieldType::F64 => self.set(field, number.to_bits(), STATE_VALUE),
            #[expect(clippy::cast_possible_truncation, reason = "a whole number within 2^53 is exact")]
            FieldType::I64 if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 => {
                self.set(field, (number as i64).cast_unsigned(), STATE_VALUE);
            }
            FieldType::Datetime => {
                let unit = match (self.schema.time, self.strictness) {
                    (TimeSource::FieldIn(time, unit), Strictness::Record) if time == field => unit,
                    _ => TimeUnit::Millis,
                };
                let us = unit.to_us_from(number);
                let ms = us.div_euclid(1000);
                if !TIMES_MS.contains(&ms) {
                    return Err(self.out_of_range(field, &format!("{number}, which is no time of the years 0001 to 9999")));
                }
                self.judge_unit(field, ms)?;
                self.time(field, ms, us);
            }
            FieldType::I64 => match self.strictness {
                Strictness::Push => self.escape(field, tag::F64, &number.to_bits().to_le_bytes()),
                Strictness::Record if number.fract() == 0.0 => {
                    return Err(self.out_of_range(field, &format!("{number}, which is rounded or too large")));
                }
                Strictness::Record => return Err(self.out_of_range(field, &format!("the fraction {number}"))),
            },
            FieldType::Json => self.escape(field, tag::F64, &number.to_bits().to_le_bytes()),
            _ => return Err(self.mismatch(field, "a number")),
        }
        Ok(())
    }

    /// The same of a number that is written as this text: a field with a reading may take its digits.
    ///
    /// # Errors
    /// As [`RowsBuilder::float`].
    pub(crate) fn fraction(&mut self, field: FieldIndex, number: f64, text: &str) -> Result<(), CellError> {
        match self.kind(field) {
            Some(kind) => self.set_float(field, kind, number),
            None => self.read(field, Raw::Fraction(number, text)),
        }
    }

    /// Sets an integer beyond i64: the nearest double for pushes, refused for records.
    ///
    /// # Errors
    /// As [`RowsBuilder::float`].
    pub fn big_int(&mut self, field: FieldIndex, number: f64, text: &str) -> Result<(), CellError> {
        match (self.strictness, self.kind(field)) {
            (_, None) => self.read(field, Raw::Big(number, text)),
            (Strictness::Push, Some(_)) => self.float(field, number),
            (Strictness::Record, Some(FieldType::F64)) => self.float(field, number),
            (Strictness::Record, Some(_)) => Err(self.out_of_range(field, text)),
        }
    }

    /// Sets an exact number, given as text, into a field that has a reading.
    ///
    /// # Errors
    /// When the reading does not take it.
    pub(crate) fn decimal(&mut self, field: FieldIndex, text: &str) -> Result<(), CellError> {
        debug_assert!(self.has_reading(field), "decimals of other fields are text or the nearest double");
        self.read(field, Raw::Decimal(text))
    }

    /// Sets text into a str, bytes or json field; into a datetime field as [`parse_time_us`] reads it, and from a record
    /// also as a number.
    ///
    /// # Errors
    /// When the field is of another type, or the text is no time.
    #[inline]
    pub fn str(&mut self, field: FieldIndex, text: &str) -> Result<(), CellError> {
        match self.kind(field) {
            Some(kind) => self.set_str(field, kind, text),
            None => self.read(field, Raw::Str(text)),
        }
    }

    #[inline]
    fn set_str(&mut self, field: FieldIndex, kind: FieldType, text: &str) -> Result<(), CellError> {
        match kind {
            FieldType::Str => {
                let word = self.store(text.as_bytes());
                self.set(field, word, STATE_VALUE);
            }
            // JSON has no bytes: text stays text there, marked as such.
            FieldType::Bytes | FieldType::Json => self.escape(field, tag::STR, text.as_bytes()),
            FieldType::Datetime => {
                let us = match parse_time_us(text) {
                    Ok(us) => us,
                    Err(_) if self.strictness == Strictness::Record && text.parse::<i64>().is_ok() => {
                        let Ok(number) = text.parse() else { unreachable!("it was parsed") };
                        return self.set_int(field, kind, number);
                    }
                    Err(_) if self.strictness == Strictness::Record && text.parse::<f64>().is_ok_and(f64::is_finite) => {
                        let Ok(number) = text.parse() else { unreachable!("it was parsed") };
                        return self.set_float(field, kind, number);
                    }
                    Err(why) => return Err(self.mismatch(field, why)),
                };
                self.time(field, us.div_euclid(1000), us);
            }
            _ => return Err(self.mismatch(field, "text")),
        }
        Ok(())
    }

    /// Sets bytes into a bytes field, or into a str field when they are UTF-8.
    ///
    /// # Errors
    /// When the field is of another type, or the bytes are no UTF-8.
    #[inline]
    pub fn bytes(&mut self, field: FieldIndex, bytes: &[u8]) -> Result<(), CellError> {
        match self.kind(field) {
            Some(kind) => self.set_bytes(field, kind, bytes),
            None => self.read(field, Raw::Bytes(bytes)),
        }
    }

    #[inline]
    fn set_bytes(&mut self, field: FieldIndex, kind: FieldType, bytes: &[u8]) -> Result<(), CellError> {
        match kind {
            FieldType::Bytes => {
                let word = self.store(bytes);
                self.set(field, word, STATE_VALUE);
            }
            FieldType::Json => self.escape(field, tag::BYTES, bytes),
            FieldType::Str => {
                let Ok(text) = std::str::from_utf8(bytes) else {
                    return Err(self.mismatch(field, "bytes that are no UTF-8"));
                };
                return self.str(field, text);
            }
            _ => return Err(self.mismatch(field, "bytes")),
        }
        Ok(())
    }

    /// Sets a boolean into a bool or json field.
    ///
    /// # Errors
    /// When the field is of another type.
    #[inline]
    pub fn bool(&mut self, field: FieldIndex, truth: bool) -> Result<(), CellError> {
        match self.kind(field) {
            Some(kind) => self.set_bool(field, kind, truth),
            None => self.read(field, Raw::Bool(truth)),
        }
    }

    #[inline]
    fn set_bool(&mut self, field: FieldIndex, kind: FieldType, truth: bool) -> Result<(), CellError> {
        match kind {
            FieldType::Bool => self.set(field, u64::from(truth), STATE_VALUE),
            FieldType::Json => self.escape(field, tag::BOOL, &[u8::from(truth)]),
            _ => return Err(self.mismatch(field, "a boolean")),
        }
        Ok(())
    }

    /// Sets a JSON object or array, given as valid JSON text, into a json field (or bytes/datetime fields of pushes, which take anything).
    ///
    /// # Errors
    /// When the field is of another type.
    pub fn json(&mut self, field: FieldIndex, text: &str) -> Result<(), CellError> {
        match self.kind(field) {
            Some(kind) => self.set_json(field, kind, text),
            None => self.read(field, Raw::Json(text)),
        }
    }

    #[inline]
    fn set_json(&mut self, field: FieldIndex, kind: FieldType, text: &str) -> Result<(), CellError> {
        match kind {
            FieldType::Json => {
                let word = self.store(text.as_bytes());
                self.set(field, word, STATE_VALUE);
                Ok(())
            }
            _ => Err(self.mismatch(field, if text.starts_with('[') { "an array" } else { "an object" })),
        }
    }

    /// The row's time by the event's declared time source, and how far it is ahead of its clock.
    /// `record_time_ms` is -1 when the record has none.
    ///
    /// # Errors
    /// When the time field is missing, no integer, more than `max_future` ahead of the clock, or in a unit that can hardly
    /// be meant.
    #[inline]
    pub fn row_time(&mut self, clock: RowClock, record_time_ms: i64) -> Result<RowTime, CellError> {
        let time_us = match self.schema.time {
            TimeSource::Arrival => return Ok(clock.now_us.into()),
            TimeSource::Record if record_time_ms < 0 => return Ok(clock.now_us.into()),
            TimeSource::Record => record_time_ms.saturating_mul(1000),
            TimeSource::Field(field) | TimeSource::FieldIn(field, _) => {
                let index = usize::from(field.0);
                if u64::from(self.row_states[index]) != STATE_VALUE {
                    let name = &self.schema.fields[index].name;
                    let code = if self.strictness == Strictness::Push { Code::InvalidEvent } else { Code::DecodeMissingField };
                    return Err(CellError { field, code, reason: format!("time field \"{name}\" of {} has no time", self.schema.name) });
                }
                let number = self.row[index].cast_signed();
                match (self.told_time_us, self.schema.time, self.strictness) {
                    (Some(time_us), _, _) => time_us,
                    (None, TimeSource::FieldIn(_, unit), Strictness::Record) => {
                        let time_us = unit.to_us(number);
                        if self.declared(field) == FieldType::Datetime {
                            self.row[index] = time_us.div_euclid(1000).cast_unsigned();
                        }
                        time_us
                    }
                    (None, TimeSource::Field(_), Strictness::Record) if looks_like(number).is_some() => {
                        return Err(self.wrong_unit(field, number));
                    }
                    _ => number.saturating_mul(1000),
                }
            }
        };
        if time_us > clock.latest_us.saturating_add(self.schema.max_future_us) {
            let field = self.schema.time.field().unwrap_or(FieldIndex(0));
            let ahead_s = time_us.saturating_sub(clock.latest_us) / 1_000_000;
            let reason = format!("row time of {} is {ahead_s} s ahead of the clock (max_future)", self.schema.name);
            return Err(CellError { field, code: Code::TimeOutOfRange, reason });
        }
        Ok(clock.of(time_us))
    }

    /// Refuses a number for the row's time that can hardly be meant in milliseconds, where no unit is declared.
    fn judge_unit(&self, field: FieldIndex, ms: i64) -> Result<(), CellError> {
        let is_bare = self.strictness == Strictness::Record && self.schema.time == TimeSource::Field(field);
        if is_bare && looks_like(ms).is_some() { Err(self.wrong_unit(field, ms)) } else { self.judge_other_unit(field, ms) }
    }

    /// The same of a number for another datetime field; the row's time, whose unit the event may say, is judged when it is asked for.
    #[inline]
    fn judge_other_unit(&self, field: FieldIndex, ms: i64) -> Result<(), CellError> {
        if looks_like(ms).is_some() && self.strictness == Strictness::Record && self.schema.time.field() != Some(field) {
            return Err(self.wrong_unit(field, ms));
        }
        Ok(())
    }

    /// A number of a record that is no time in milliseconds, and is one in another unit.
    #[cold]
    fn wrong_unit(&self, field: FieldIndex, number: i64) -> CellError {
        let (name, event) = (&self.schema.fields[usize::from(field.0)].name, &self.schema.name);
        let (unit, word) = looks_like(number).unwrap_or((TimeUnit::Millis, "milliseconds"));
        let shown = jiff::Timestamp::from_millisecond(number).map_or_else(|_| "no date".to_owned(), |time| time.to_string());
        let (what, declare) = match self.schema.time.field() == Some(field) {
            true => ("time", format!("time = {{ field = \"{name}\", unit = \"{}\" }}", unit.as_str())),
            false => ("datetime", format!("{name} = {{ path = \"..\", unit = \"{}\" }} in the source's fields", unit.as_str())),
        };
        let reason = format!(
            "{what} field \"{name}\" of {event} holds {number}, which is {shown} in milliseconds and looks like {word}: declare {declare} (or \"ms\")"
        );
        CellError { field, code: Code::TimeUnit, reason }
    }

    /// Ends the row. A required field that is null or absent drops the row, unless it is a delete; so does a key that is too long.
    ///
    /// # Errors
    /// Names the first required field without a value, or the key's field; the row is rolled back.
    #[inline]
    pub fn commit(&mut self, time: impl Into<RowTime>, source: Option<(u32, i64)>, delete_key: bool) -> Result<(), CellError> {
        if !delete_key {
            for &index in &self.required {
                let state = u64::from(self.row_states[usize::from(index)]);
                if state == STATE_NULL || state == STATE_ABSENT {
                    self.rollback();
                    let name = &self.schema.fields[usize::from(index)].name;
                    let word = if state == STATE_NULL { "null" } else { "missing" };
                    let code = if self.strictness == Strictness::Push { Code::InvalidEvent } else { Code::DecodeMissingField };
                    let reason = format!("required field \"{name}\" of {} is {word}", self.schema.name);
                    return Err(CellError { field: FieldIndex(index), code, reason });
                }
            }
        }
        if let Some(error) = self.keys.iter().find_map(|fields| self.too_long(fields)) {
            self.rollback();
            return Err(error);
        }
        let bytes = self.heap.len() - self.heap_mark + self.row.len() * 8;
        if bytes > ROW_BYTES_MAX {
            self.rollback();
            self.heap.shrink_to(HEAP_KEPT_BYTES);
            let reason = format!("a row of {} with {bytes} bytes is larger than {ROW_BYTES_MAX}", self.schema.name);
            return Err(CellError { field: FieldIndex(0), code: Code::RowTooLarge, reason });
        }
        let row = self.times.len();
        if let Some((position, offset)) = source {
            let continues = self.next_offset == offset && self.runs.last().is_some_and(|run| run.position == position);
            if !continues {
                #[expect(clippy::cast_possible_truncation, reason = "rows of a batch are bounded by ROWS_PER_BATCH_MAX")]
                self.runs.push(Run { first_row: row as u32, position, first_offset: offset });
            }
            self.next_offset = offset.wrapping_add(1);
        }
        let shift = row % 32 * 2;
        if shift == 0 {
            self.states.resize(self.states.len() + self.row.len(), 0);
        }
        self.cells.extend_from_slice(&self.row);
        let slots = self.states.len() - self.row.len();
        for (index, &state) in self.row_states.iter().enumerate() {
            if u64::from(state) != STATE_VALUE {
                self.states[slots + index] |= u64::from(state) << shift;
            }
        }
        if row.is_multiple_of(64) {
            self.deletes.push(0);
        }
        if delete_key {
            self.any_delete = true;
            self.deletes[row / 64] |= 1 << (row % 64);
        }
        let RowTime { time_us, ahead_us } = time.into();
        debug_assert!(ahead_us >= 0, "a row is ahead of its clock or not, never behind it");
        if ahead_us > 0 {
            #[expect(clippy::cast_possible_truncation, reason = "rows of a batch are bounded by ROWS_PER_BATCH_MAX")]
            self.ahead.push((row as u32, ahead_us));
        }
        self.times.push(time_us);
        Ok(())
    }

    /// What is wrong when the texts of these fields are longer than a key.
    #[inline]
    fn too_long(&self, fields: &[FieldIndex]) -> Option<CellError> {
        let length = |field: &FieldIndex| match u64::from(self.row_states[usize::from(field.0)]) {
            STATE_VALUE => self.row[usize::from(field.0)] & 0xFFFF_FFFF,
            _ => 0,
        };
        let bytes: u64 = fields.iter().map(length).sum();
        if bytes <= KEY_BYTES_MAX as u64 {
            return None;
        }
        let field = *fields.first()?;
        let code = if self.strictness == Strictness::Push { Code::InvalidEvent } else { Code::KeyTooLong };
        let name = &self.schema.fields[usize::from(field.0)].name;
        Some(CellError { field, code, reason: format!("the key in \"{name}\" has {bytes} bytes, at most {KEY_BYTES_MAX}") })
    }

    /// Packs the rows and leaves the builder empty.
    pub fn finish(&mut self) -> Rows {
        let rows = self.times.len();
        let base = self.times.first().copied().unwrap_or(0);
        let mut flags = 0u16;
        if self.times.iter().any(|&time| time != base) {
            flags |= FLAG_TIMES;
        }
        if self.any_delete {
            flags |= FLAG_DELETES;
        }
        if !self.ahead.is_empty() {
            flags |= FLAG_AHEAD;
        }
        let (fields, size_bytes) = (self.row.len(), self.size_bytes());
        let mut words = Vec::with_capacity(size_bytes / 8);
        words.push(u64::from(self.schema.id.0) | u64::from(self.schema.version) << 32);
        words.push(rows as u64 | (fields as u64) << 32 | u64::from(flags) << 48);
        words.push(self.heap.len() as u64 | (self.runs.len() as u64) << 32);
        words.push(base.cast_unsigned());
        for run in self.runs.drain(..) {
            words.push(u64::from(run.first_row) | u64::from(run.position) << 32);
            words.push(run.first_offset.cast_unsigned());
        }
        push_columns(&mut words, &self.states, fields);
        if flags & FLAG_TIMES != 0 {
            words.extend(self.times.iter().map(|time| time.cast_unsigned()));
        }
        push_columns(&mut words, &self.cells, fields);
        if self.any_delete {
            words.extend_from_slice(&self.deletes);
        }
        if flags & FLAG_AHEAD != 0 {
            words.push(self.ahead.len() as u64);
            words.extend(self.ahead.drain(..).flat_map(|(row, ahead_us)| [u64::from(row), ahead_us.cast_unsigned()]));
        }
        let mut eights = self.heap.chunks_exact(8);
        words.extend(eights.by_ref().map(|eight| u64::from_le_bytes(eight.try_into().unwrap_or_default())));
        let rest = eights.remainder();
        if !rest.is_empty() {
            let mut last = [0u8; 8];
            last[..rest.len()].copy_from_slice(rest);
            words.push(u64::from_le_bytes(last));
        }
        self.times.clear();
        self.cells.clear();
        self.states.clear();
        self.deletes.clear();
        self.any_delete = false;
        self.next_offset = i64::MIN;
        self.heap.clear();
        self.heap.shrink_to(HEAP_KEPT_BYTES);
        self.heap_mark = 0;
        assert!(words.len() * 8 <= size_bytes, "a batch is no larger than it was counted");
        match Rows::from_words(words) {
            Ok(rows) => rows,
            Err(error) => unreachable!("a built batch has the layout of its own header: {error}"),
        }
    }
}

/// Appends a matrix given row by row as columns, eight rows at a time: a cache line of each column per turn.
fn push_columns(words: &mut Vec<u64>, by_row: &[u64], fields: usize) {
    if fields == 0 {
        return;
    }
    let rows = by_row.len() / fields;
    let start = words.len();
    words.resize(start + by_row.len(), 0);
    let columns = &mut words[start..];
    for (block, lines) in by_row.chunks(fields * 8).enumerate() {
        for field in 0..fields {
            let line = lines.iter().skip(field).step_by(fields);
            for (word, &cell) in columns[field * rows + block * 8..].iter_mut().zip(line) {
                *word = cell;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::{Cell, EventId, Field};
    use super::*;

    impl Rows {
        fn schema_cells(&self, row: usize) -> Vec<String> {
            schema().fields.iter().enumerate().map(|(index, field)| format!("{:?}", self.cell(index, field.kind, row))).collect()
        }
    }

    fn schema() -> Arc<EventSchema> {
        let field = |name: &str, kind, optional| Field { name: name.into(), kind, optional };
        Arc::new(EventSchema {
            id: EventId(7),
            version: 3,
            name: "Tx".into(),
            fields: vec![
                field("user", FieldType::Str, false),
                field("amount", FieldType::F64, true),
                field("n", FieldType::I64, true),
                field("extra", FieldType::Json, true),
            ],
            time: TimeSource::Arrival,
            max_future_us: 0,
            cold_after_us: None,
            dedupe: None,
        })
    }

    #[test]
    fn rows_read_back_as_written() {
        let mut builder = RowsBuilder::new(schema(), Strictness::Push);
        for row in 0..100i64 {
            builder.begin();
            builder.str(FieldIndex(0), &format!("user-{row}")).unwrap();
            match row % 4 {
                0 => builder.int(FieldIndex(1), row).unwrap(),
                1 => builder.null(FieldIndex(1)),
                2 => builder.float(FieldIndex(2), 0.5).unwrap(),
                _ => builder.json(FieldIndex(3), "[1]").unwrap(),
            }
            builder.commit(1000 + row, Some((0, row + i64::from(row > 50))), row == 99).unwrap();
        }
        let rows = builder.finish();
        let again = Rows::from_words(rows.words().to_vec()).unwrap();
        assert_eq!(rows, again);
        assert_eq!((rows.event(), rows.schema_version(), rows.len()), (EventId(7), 3, 100));
        assert_eq!(rows.runs().map(|run| (run.first_row, run.first_offset)).collect::<Vec<_>>(), [(0, 0), (51, 52)]);
        for row in 0..100usize {
            assert_eq!(rows.cell(0, FieldType::Str, row), Cell::Str(format!("user-{row}").as_bytes()));
            assert_eq!(rows.time_us(row), 1000 + row as i64);
            assert_eq!(rows.is_delete(row), row == 99);
            match row % 4 {
                0 => assert_eq!(rows.cell(1, FieldType::F64, row), Cell::F64(row as f64)),
                1 => assert_eq!(rows.cell(1, FieldType::F64, row), Cell::Null),
                2 => assert_eq!(rows.cell(2, FieldType::I64, row), Cell::F64(0.5)),
                _ => assert_eq!(rows.cell(3, FieldType::Json, row), Cell::Json(b"[1]")),
            }
            assert_eq!(rows.cell(9, FieldType::Str, row), Cell::Absent);
        }
        assert!(builder.is_empty());
    }

    #[test]
    fn a_part_of_a_batch_has_the_kept_rows_and_their_origins() {
        let mut builder = RowsBuilder::new(schema(), Strictness::Push);
        for row in 0..200i64 {
            builder.begin();
            builder.str(FieldIndex(0), &format!("user-{row}")).unwrap();
            match row % 3 {
                0 => builder.null(FieldIndex(1)),
                1 => builder.float(FieldIndex(2), 0.5).unwrap(),
                _ => builder.json(FieldIndex(3), "[1]").unwrap(),
            }
            // Two partitions in turns of ten, with a hole in the offsets of the second one.
            builder.commit(1000 + row, Some(((row / 10 % 2) as u32, row + i64::from(row > 115))), row % 7 == 0).unwrap();
        }
        let rows = builder.finish();
        let keeps: [fn(usize) -> bool; 4] = [|_| true, |_| false, |row| row % 3 != 1, |row| !(30..145).contains(&row)];
        for keep in keeps {
            let part = rows.keep(&schema(), keep);
            let kept: Vec<usize> = (0..rows.len()).filter(|&row| keep(row)).collect();
            assert_eq!((part.len(), part.event(), part.schema_version()), (kept.len(), rows.event(), rows.schema_version()));
            for (at, &row) in kept.iter().enumerate() {
                let of = |rows: &Rows, row: usize| {
                    let cells: Vec<String> = rows.schema_cells(row);
                    (cells, rows.time_us(row), rows.is_delete(row), rows.origins().nth(row))
                };
                assert_eq!(of(&part, at), of(&rows, row), "row {row}");
            }
            assert_eq!(Rows::from_words(part.words().to_vec()).unwrap(), part);
            assert!(part.words().len() * rows.len() <= rows.words().len() * (kept.len() + 20), "texts of the others stay behind");
        }
    }

    #[test]
    fn a_missing_required_field_drops_the_row_and_names_it() {
        let mut builder = RowsBuilder::new(schema(), Strictness::Record);
        builder.begin();
        builder.int(FieldIndex(2), 1).unwrap();
        let error = builder.commit(0, None, false).unwrap_err();
        assert_eq!((error.field, error.code), (FieldIndex(0), Code::DecodeMissingField));
        assert!(error.reason.contains("\"user\""));
        assert!(builder.is_empty());
    }

    #[test]
    fn a_key_is_at_most_4_kib_long_whatever_its_parts() {
        let mut schema = EventSchema::clone(&schema());
        schema.fields.push(Field { name: "shop".into(), kind: FieldType::Str, optional: true });
        for (strictness, code) in [(Strictness::Push, Code::InvalidEvent), (Strictness::Record, Code::KeyTooLong)] {
            let mut builder = RowsBuilder::new(Arc::new(schema.clone()), strictness)
                .with_keys(vec![vec![FieldIndex(0)], vec![FieldIndex(0), FieldIndex(4)]]);
            let mut row = |user: usize, shop: usize| {
                builder.begin();
                builder.str(FieldIndex(0), &"u".repeat(user)).unwrap();
                builder.str(FieldIndex(4), &"s".repeat(shop)).unwrap();
                builder.commit(0, None, false).map_err(|error| error.code)
            };
            assert_eq!(row(KEY_BYTES_MAX, 0), Ok(()));
            assert_eq!(row(96, 4000), Ok(()));
            assert_eq!(row(KEY_BYTES_MAX + 1, 0), Err(code));
            assert_eq!(row(97, 4000), Err(code));
            assert_eq!(builder.len(), 2);
        }
    }

    #[test]
    fn records_are_taken_more_strictly_than_pushes() {
        let mut push = RowsBuilder::new(schema(), Strictness::Push);
        let mut record = RowsBuilder::new(schema(), Strictness::Record);
        push.begin();
        record.begin();
        assert!(push.float(FieldIndex(2), 1.7).is_ok());
        assert_eq!(record.float(FieldIndex(2), 1.7).unwrap_err().code, Code::DecodeOutOfRange);
        assert_eq!(push.float(FieldIndex(1), f64::NAN).unwrap_err().code, Code::InvalidEvent);
        assert_eq!(push.bool(FieldIndex(0), true).unwrap_err().code, Code::InvalidEvent);
        assert_eq!(record.bool(FieldIndex(0), true).unwrap_err().code, Code::DecodeTypeMismatch);
    }

    #[test]
    fn damaged_headers_are_refused() {
        let mut builder = RowsBuilder::new(schema(), Strictness::Push);
        builder.begin();
        builder.str(FieldIndex(0), "a").unwrap();
        builder.commit(0, None, false).unwrap();
        let words = builder.finish().words().to_vec();
        for cut in 0..words.len() {
            assert!(Rows::from_words(words[..cut].to_vec()).is_err());
        }
        let mut huge = words;
        huge[1] |= 0xFFFF_FFFF;
        assert!(Rows::from_words(huge).is_err());
    }
}
