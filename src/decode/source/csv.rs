//! One line of CSV -> row: values between delimiters, in quotes where they hold one (RFC 4180).
//!
//! ```text
//! 4711,"Doe, Jane",,"she said ""no"""     -> 4711 | Doe, Jane | null | she said "no"
//! ```
//!
//! A record is one line, with or without its end; columns are named by the config, since records have no head line. An
//! empty value is null, `""` is empty text. A byte order mark in front of the line or of the first column's name, as
//! spreadsheets write it, is no part of it. All values are text, from which numbers, booleans and times are read; a line
//! of another number of columns is refused, as is a quote in the wrong place.

use super::SourceFormat;
use crate::decode::error::BadRow;
use crate::decode::path;
use crate::decode::projection::Projection;
use crate::row::{EventSchema, FieldIndex, FieldType, Reading, RowsBuilder, Written};
use streamgauge_api::{ApiError, Code, did_you_mean};

/// The byte order mark of UTF-8.
const MARK: &[u8] = "\u{FEFF}".as_bytes();

/// How lines of CSV are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvLines {
    /// What stands between values.
    pub delimiter: u8,
    /// Names of the columns, in their order.
    pub columns: Vec<Box<str>>,
}

impl Default for CsvLines {
    fn default() -> Self {
        Self { delimiter: b',', columns: Vec::new() }
    }
}

/// Decodes lines for one event.
#[derive(Debug)]
pub(super) struct CsvDecoder {
    delimiter: u8,
    /// The fields of each column, in order of columns; of a list of columns a field has its place in it.
    columns: Vec<Vec<(FieldIndex, u16)>>,
    /// Fields of several columns, and the best place that has a value so far.
    chosen: Vec<(FieldIndex, u16)>,
    text: Vec<u8>,
}

/// Values of a CSV source are text, whatever the config says besides.
pub(super) fn read_as_text(schema: &EventSchema, format: &SourceFormat, readings: &mut Vec<(FieldIndex, Reading)>) {
    for (index, declared) in schema.fields.iter().enumerate() {
        let Ok(field) = u16::try_from(index).map(FieldIndex) else { break };
        let source = format.fields.iter().find(|(named, _)| *named == declared.name).map(|(_, source)| source);
        if !matches!(source, None | Some(super::FieldSource::Path { .. }))
            || matches!(declared.kind, FieldType::Str | FieldType::Json | FieldType::Bytes)
        {
            continue;
        }
        match readings.iter_mut().find(|(known, _)| *known == field) {
            Some((_, reading)) if reading.written == Written::Declared => reading.written = Written::Text,
            Some(_) => {}
            None => readings.push((field, Reading { written: Written::Text, ..Reading::default() })),
        }
    }
}

impl CsvDecoder {
    /// # Errors
    /// There are no columns, or a field comes from one that is not named.
    pub(super) fn new(lines: &CsvLines, schema: &EventSchema, projection: &Projection) -> Result<Self, ApiError> {
        if lines.columns.is_empty() {
            return Err(ApiError::new(
                Code::MissingConfigKey,
                "format = \"csv\" needs csv.columns, the names of its columns in their order",
            ));
        }
        let mut columns = vec![Vec::new(); lines.columns.len()];
        let mut chosen = Vec::new();
        for (field, paths) in &projection.takings {
            let name = &schema.fields[usize::from(field.0)].name;
            for (place, written) in (0u16..).zip(paths) {
                let column = lines.columns.iter().position(|column| *path::of_member(column) == **written || **column == **written);
                let Some(column) = column else {
                    let error = ApiError::new(
                        Code::InvalidConfigValue,
                        format!("csv.columns has no column {written}, which field {name} comes from"),
                    );
                    let near = did_you_mean(written, lines.columns.iter());
                    return Err(near.into_iter().fold(error.at(&**name), |error, near| error.hint(near)));
                };
                columns[column].push((*field, place));
            }
            if paths.len() > 1 {
                chosen.push((*field, u16::MAX));
            }
        }
        Ok(Self { delimiter: lines.delimiter, columns, chosen, text: Vec::new() })
    }

    /// Sets the fields of the row that was begun in `into` from one line. On an error the caller rolls the row back.
    pub(super) fn fields(&mut self, line: &[u8], into: &mut RowsBuilder) -> Result<(), Box<BadRow>> {
        let malformed = |what: String| BadRow::new(Code::DecodeMalformed, "", what);
        if std::str::from_utf8(line).is_err() {
            return Err(malformed("the line is no UTF-8".to_owned()));
        }
        let line = line.strip_prefix(MARK).unwrap_or(line);
        let line = line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
        for (_, best) in &mut self.chosen {
            *best = u16::MAX;
        }
        let (mut column, mut pos) = (0, 0);
        loop {
            let quoted = line.get(pos) == Some(&b'"');
            let mut end = pos;
            self.text.clear();
            if quoted {
                end += 1;
                loop {
                    match (line.get(end), line.get(end + 1)) {
                        (None, _) => return Err(malformed(format!("a quote of column {} is not closed", column + 1))),
                        (Some(b'"'), Some(b'"')) => {
                            self.text.push(b'"');
                            end += 2;
                        }
                        (Some(b'"'), _) => break,
                        (Some(&byte), _) => {
                            self.text.push(byte);
                            end += 1;
                        }
                    }
                }
                end += 1;
                if line.get(end).is_some_and(|byte| *byte != self.delimiter) {
                    return Err(malformed(format!("text behind the quotes of column {}", column + 1)));
                }
            } else {
                let rest = line.get(pos..).unwrap_or_default();
                end += rest.iter().position(|byte| *byte == self.delimiter).unwrap_or(rest.len());
                self.text.extend_from_slice(&line[pos..end]);
                if self.text.iter().any(|byte| matches!(byte, b'"' | b'\n' | b'\r')) {
                    return Err(malformed(format!("a quote or a line's end in column {}, which is not in quotes", column + 1)));
                }
            }
            let Some(fields) = self.columns.get(column) else {
                return Err(malformed(format!("the line has more than the {} columns that are named", self.columns.len())));
            };
            let Ok(text) = std::str::from_utf8(&self.text) else { unreachable!("cut at ASCII bytes, a text stays UTF-8") };
            for &(field, place) in fields {
                let best = self.chosen.iter_mut().find(|(known, _)| *known == field).map(|(_, best)| best);
                let null = text.is_empty() && !quoted;
                match best {
                    Some(best) if null || place > *best => continue,
                    Some(best) => *best = place,
                    None => {}
                }
                if null {
                    into.null(field);
                } else {
                    into.str(field, text).map_err(|error| BadRow::cell(error, into.schema()))?;
                }
            }
            column += 1;
            if end >= line.len() {
                break;
            }
            pos = end + 1;
        }
        if column < self.columns.len() {
            return Err(malformed(format!("the line has {column} columns, {} are named", self.columns.len())));
        }
        self.chosen.iter().filter(|(_, best)| *best == u16::MAX).for_each(|(field, _)| into.null(*field));
        Ok(())
    }
}
