//! A packed batch of rows, read in place.
//!
//! ```text
//! word 0   event id u32            schema version u32
//! word 1   rows u32                fields u16, flags u16
//! word 2   heap length in bytes    runs u32
//! word 3   time base, us i64
//!          runs      2 words each: (first row u32, index into the frame's positions u32), first offset i64
//!          states    fields x ceil(rows / 32) words, 2 bits a cell: 0 value, 1 null, 2 absent, 3 escaped
//!          times     rows words, us i64                       (flag TIMES; otherwise every row has the time base)
//!          columns   fields x rows words
//!          deletes   ceil(rows / 64) words, 1 bit a row       (flag DELETES)
//!          ahead     count, then 2 words each: row, us > 0    (flag AHEAD) by row; other rows are not ahead
//!          heap      bytes, padded with zeroes to a whole word
//! ```
//! A value cell holds the value itself (i64, f64 bits, 0 or 1, ms) or, for text, bytes and json, `offset << 32 | length` into the heap. An escaped cell
//! holds `offset << 32 | length` of a tagged value. Offsets of consecutive rows of a run are consecutive; a gap begins another run.

use super::cell::{Cell, unescape};
use super::schema::{EventId, EventSchema, FieldType};

pub(super) const HEADER_WORDS: usize = 4;
pub(super) const FLAG_TIMES: u16 = 1;
pub(super) const FLAG_DELETES: u16 = 2;
pub(super) const FLAG_AHEAD: u16 = 4;
pub(super) const STATE_VALUE: u64 = 0;
pub(super) const STATE_NULL: u64 = 1;
pub(super) const STATE_ABSENT: u64 = 2;
pub(super) const STATE_ESCAPED: u64 = 3;

/// Rows of a batch are bounded so that every index fits its cell.
pub(crate) const ROWS_PER_BATCH_MAX: usize = 65_536;

/// Consecutive offsets of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First row of the run.
    pub first_row: u32,
    /// Index into the positions of the frame that carries the batch.
    pub position: u32,
    /// Offset of the first row.
    pub first_offset: i64,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// Fewer words than the header says.
    #[error("a batch of {words} words is shorter than its header says ({wanted})")]
    Short {
        /// Words given.
        words: usize,
        /// Words wanted.
        wanted: usize,
    },
    /// A count beyond its bound.
    #[error("a batch names {rows} rows and {fields} fields")]
    Bounds {
        /// Rows.
        rows: usize,
        /// Fields.
        fields: usize,
    },
}

/// Where the parts of a batch begin, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    rows: usize,
    fields: usize,
    flags: u16,
    runs: usize,
    heap_len: usize,
    states: usize,
    states_per_field: usize,
    times: usize,
    columns: usize,
    deletes: usize,
    ahead: usize,
    ahead_rows: usize,
    heap: usize,
    end: usize,
}

/// A packed batch of rows of one event and schema version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    words: Vec<u64>,
    layout: Layout,
}

#[expect(clippy::cast_possible_truncation, reason = "a header word is two 32-bit halves by definition")]
fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

impl Rows {
    /// Takes a buffer that a builder or a WAL frame holds; words behind the batch's end are cut off.
    ///
    /// # Errors
    /// When the header names more than the buffer holds.
    pub fn from_words(mut words: Vec<u64>) -> Result<Self, RowsError> {
        let end = Self::layout_of(&words)?.end;
        words.truncate(end);
        let layout = Self::layout_of(&words)?;
        Ok(Self { words, layout })
    }

    /// How many words the batch at the head of `words` takes.
    ///
    /// # Errors
    /// When the header names more than the buffer holds.
    pub fn measure(words: &[u64]) -> Result<usize, RowsError> {
        Ok(Self::layout_of(words)?.end)
    }

    fn layout_of(words: &[u64]) -> Result<Layout, RowsError> {
        let &[_, counts, sizes, _, ..] = words else {
            return Err(RowsError::Short { words: words.len(), wanted: HEADER_WORDS });
        };
        let (rows, shape) = halves(counts);
        let (heap_len, runs) = halves(sizes);
        let (rows, runs, heap_len) = (rows as usize, runs as usize, heap_len as usize);
        let fields = (shape & 0xFFFF) as usize;
        let flags = (shape >> 16) as u16;
        if rows > ROWS_PER_BATCH_MAX || runs > rows {
            return Err(RowsError::Bounds { rows, fields });
        }
        let states = HEADER_WORDS + runs * 2;
        let states_per_field = rows.div_ceil(32);
        let times = states + fields * states_per_field;
        let columns = times + if flags & FLAG_TIMES != 0 { rows } else { 0 };
        let deletes = columns + fields * rows;
        let ahead = deletes + if flags & FLAG_DELETES != 0 { rows.div_ceil(64) } else { 0 };
        let mut ahead_rows = 0;
        let mut heap = ahead;
        if flags & FLAG_AHEAD != 0 {
            let Some(&count) = words.get(ahead) else {
                return Err(RowsError::Short { words: words.len(), wanted: ahead + 1 });
            };
            ahead_rows = usize::try_from(count).unwrap_or(usize::MAX);
            if ahead_rows > rows {
                return Err(RowsError::Bounds { rows: ahead_rows, fields });
            }
            heap += 1 + ahead_rows * 2;
        }
        let end = heap + heap_len.div_ceil(8);
        if words.len() < end {
            return Err(RowsError::Short { words: words.len(), wanted: end });
        }
        Ok(Layout { rows, fields, flags, runs, heap_len, states, states_per_field, times, columns, deletes, ahead, ahead_rows, heap, end })
    }

    /// The buffer, as it stands in a WAL frame.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Which event.
    pub fn event(&self) -> EventId {
        EventId(halves(self.words[0]).0)
    }

    /// Which version of its declaration.
    pub fn schema_version(&self) -> u32 {
        halves(self.words[0]).1
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.layout.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.layout.rows == 0
    }

    /// Number of fields of the declaration that wrote the batch; a later version has more.
    pub fn fields(&self) -> usize {
        self.layout.fields
    }

    /// Row time, microseconds since the Unix epoch.
    #[inline]
    pub fn time_us(&self, row: usize) -> i64 {
        if self.layout.flags & FLAG_TIMES != 0 { self.words[self.layout.times + row].cast_signed() } else { self.words[3].cast_signed() }
    }

    /// How far the row's time is ahead of the clock it was taken by, microseconds; 0 for most rows.
    #[inline]
    pub fn ahead_us(&self, row: usize) -> i64 {
        if self.layout.ahead_rows == 0 { 0 } else { self.find_ahead(row) }
    }

    /// How far the row brings its key in time: its time, less what it is ahead of its clock.
    #[inline]
    pub fn edge_us(&self, row: usize) -> i64 {
        self.time_us(row).saturating_sub(self.ahead_us(row))
    }

    #[cold]
    fn find_ahead(&self, row: usize) -> i64 {
        let entries = self.ahead();
        match entries.binary_search_by_key(&(row as u64), |entry| entry[0]) {
            Ok(at) => entries[at][1].cast_signed().max(0),
            Err(_) => 0,
        }
    }

    /// Row and microseconds of each row that is ahead of its clock, by row.
    pub(super) fn ahead(&self) -> &[[u64; 2]] {
        let Layout { ahead, ahead_rows, .. } = self.layout;
        if ahead_rows == 0 { &[] } else { bytemuck::cast_slice(&self.words[ahead + 1..ahead + 1 + ahead_rows * 2]) }
    }

    /// Whether the row asks to forget its key instead of updating it.
    #[inline]
    pub fn is_delete(&self, row: usize) -> bool {
        self.layout.flags & FLAG_DELETES != 0 && self.words[self.layout.deletes + row / 64] >> (row % 64) & 1 == 1
    }

    /// The runs of offsets; none for pushed rows.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.words[HEADER_WORDS..HEADER_WORDS + self.layout.runs * 2].chunks_exact(2).map(|pair| {
            let (first_row, position) = halves(pair[0]);
            Run { first_row, position, first_offset: pair[1].cast_signed() }
        })
    }

    /// Index of the position and offset of each row, in order; none for pushed rows.
    pub fn origins(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        let ends = self.runs().skip(1).map(|run| run.first_row).chain([halves(self.words[1]).0]);
        self.runs().zip(ends).flat_map(|(run, end)| {
            debug_assert!(run.first_row <= end, "runs are in the order of their rows");
            (0..i64::from(end.saturating_sub(run.first_row))).map(move |at| (run.position, run.first_offset + at))
        })
    }

    /// Whether any row asks to forget its key.
    pub fn has_deletes(&self) -> bool {
        self.layout.flags & FLAG_DELETES != 0
    }

    /// The rows for which `keep` holds, in their order, as a batch of their own with the texts of these rows alone.
    /// `schema` is the event's declaration, at the batch's version or a later one.
    #[must_use]
    pub fn keep(&self, schema: &EventSchema, keep: impl Fn(usize) -> bool) -> Self {
        let Layout { fields, flags, .. } = self.layout;
        assert!(schema.fields.len() >= fields, "a later version of an event has no fewer fields");
        let kept: Vec<usize> = (0..self.len()).filter(|&row| keep(row)).collect();
        let runs = self.runs_of(&kept);
        let mut words = vec![self.words[0], 0, 0, self.words[3]];
        words[1] = kept.len() as u64 | self.words[1] & !0xFFFF_FFFF;
        words.extend(
            runs.iter().flat_map(|run| [u64::from(run.first_row) | u64::from(run.position) << 32, run.first_offset.cast_unsigned()]),
        );
        for field in 0..fields {
            let bits =
                kept.chunks(32).map(|rows| (0..).zip(rows).fold(0, |word, (at, &row)| word | self.cell_state(field, row) << (at * 2)));
            words.extend(bits);
        }
        if flags & FLAG_TIMES != 0 {
            words.extend(kept.iter().map(|&row| self.time_us(row).cast_unsigned()));
        }
        let mut heap: Vec<u8> = Vec::new();
        for (field, declared) in schema.fields.iter().enumerate().take(fields) {
            let column = &self.words[self.layout.columns + field * self.layout.rows..][..self.layout.rows];
            words.extend(kept.iter().map(|&row| match self.cell_state(field, row) {
                STATE_VALUE if !declared.kind.in_heap() => column[row],
                STATE_VALUE | STATE_ESCAPED => {
                    let (text, offset) = (self.heap(column[row]), heap.len() as u64);
                    heap.extend_from_slice(text);
                    offset << 32 | text.len() as u64
                }
                _ => column[row],
            }));
        }
        words[2] = heap.len() as u64 | (runs.len() as u64) << 32;
        if flags & FLAG_DELETES != 0 {
            words.extend(
                kept.chunks(64).map(|rows| (0..).zip(rows).fold(0u64, |word, (at, &row)| word | u64::from(self.is_delete(row)) << at)),
            );
        }
        if flags & FLAG_AHEAD != 0 {
            let mut ahead = Vec::new();
            for (at, &row) in (0u64..).zip(&kept) {
                match self.ahead_us(row) {
                    0 => {}
                    ahead_us => ahead.push([at, ahead_us.cast_unsigned()]),
                }
            }
            words.push(ahead.len() as u64);
            words.extend(ahead.iter().flatten());
        }
        words.extend(heap.chunks(8).map(|part| {
            let mut word = [0u8; 8];
            word[..part.len()].copy_from_slice(part);
            u64::from_le_bytes(word)
        }));
        match Self::from_words(words) {
            Ok(rows) => rows,
            Err(error) => unreachable!("a part of a batch has the layout of its own header: {error}"),
        }
    }

    /// The state bits of a cell.
    fn cell_state(&self, field: usize, row: usize) -> u64 {
        let Layout { states, states_per_field, .. } = self.layout;
        self.words[states + field * states_per_field + row / 32] >> (row % 32 * 2) & 3
    }

    /// Runs of some of the rows, which are then numbered anew.
    fn runs_of(&self, kept: &[usize]) -> Vec<Run> {
        let origins: Vec<(u32, i64)> = self.origins().collect();
        let mut runs: Vec<Run> = Vec::new();
        let mut next = None;
        for (first_row, &row) in (0u32..).zip(kept) {
            let Some(&(position, first_offset)) = origins.get(row) else { break };
            if next != Some((position, first_offset)) {
                runs.push(Run { first_row, position, first_offset });
            }
            next = Some((position, first_offset + 1));
        }
        runs
    }

    /// One cell. `kind` is the declared type of the field; a field beyond the batch's version is absent.
    #[inline]
    pub fn cell(&self, field: usize, kind: FieldType, row: usize) -> Cell<'_> {
        let layout = &self.layout;
        if field >= layout.fields {
            return Cell::Absent;
        }
        let state = self.words[layout.states + field * layout.states_per_field + row / 32] >> (row % 32 * 2) & 3;
        let word = self.words[layout.columns + field * layout.rows + row];
        match state {
            STATE_VALUE => match kind {
                FieldType::Str => Cell::Str(self.heap(word)),
                FieldType::F64 => Cell::F64(f64::from_bits(word)),
                FieldType::I64 => Cell::I64(word.cast_signed()),
                FieldType::Bool => Cell::Bool(word != 0),
                FieldType::Bytes => Cell::Bytes(self.heap(word)),
                FieldType::Datetime => Cell::Datetime(word.cast_signed()),
                FieldType::Json => Cell::Json(self.heap(word)),
            },
            STATE_NULL => Cell::Null,
            STATE_ESCAPED => unescape(self.heap(word)),
            _ => Cell::Absent,
        }
    }

    #[inline]
    fn heap(&self, word: u64) -> &[u8] {
        let (length, offset) = halves(word);
        let heap: &[u8] = bytemuck::cast_slice(&self.words[self.layout.heap..]);
        let start = offset as usize;
        heap.get(start..start + length as usize).unwrap_or_default()
    }
}
