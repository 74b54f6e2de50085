//! Cells of one column on their way into a file, or out of it.

use crate::FileError;
use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder, TimestampMillisecondBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::extension::Uuid;
use arrow_schema::{DataType, Field, TimeUnit};
use std::sync::Arc;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Bytes,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// Double, any bits.
    F64,
    /// Boolean.
    Bool,
    /// Microseconds since the Unix epoch, UTC.
    TimeUs,
    /// Milliseconds since the Unix epoch, UTC.
    TimeMs,
    /// 16 bytes.
    Uuid,
}

const UTC: &str = "UTC";

impl ColumnType {
    /// The column in the words of arrow.
    pub(crate) fn field(self, name: &str, nullable: bool) -> Field {
        let kind = match self {
            Self::Text => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::I64 => DataType::Int64,
            Self::I32 => DataType::Int32,
            Self::F64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::TimeUs => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Self::TimeMs => DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())),
            Self::Uuid => DataType::FixedSizeBinary(16),
        };
        let field = Field::new(name, kind, nullable);
        if self == Self::Uuid { field.with_extension_type(Uuid) } else { field }
    }

    /// What a column of this arrow type holds; none for types that we do not write.
    pub(crate) fn of(kind: &DataType) -> Option<Self> {
        Some(match kind {
            DataType::Utf8 => Self::Text,
            DataType::Binary => Self::Bytes,
            DataType::Int64 => Self::I64,
            DataType::Int32 => Self::I32,
            DataType::Float64 => Self::F64,
            DataType::Boolean => Self::Bool,
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::TimeUs,
            DataType::Timestamp(TimeUnit::Millisecond, _) => Self::TimeMs,
            DataType::FixedSizeBinary(16) => Self::Uuid,
            _ => return None,
        })
    }
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// None.
    Null,
    /// Text.
    Text(&'a str),
    /// Bytes, and the 16 of an id.
    Bytes(&'a [u8]),
    /// Integers of both widths and times.
    Int(i64),
    /// Double.
    F64(f64),
    /// Boolean.
    Bool(bool),
}

/// Cells of one column, in the order of their rows.
#[derive(Debug)]
pub struct Cells(Builder);

#[derive(Debug)]
enum Builder {
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    I64(Int64Builder),
    I32(Int32Builder),
    F64(Float64Builder),
    Bool(BooleanBuilder),
    TimeUs(TimestampMicrosecondBuilder),
    TimeMs(TimestampMillisecondBuilder),
    Uuid(FixedSizeBinaryBuilder),
}

impl Cells {
    /// None yet.
    pub fn new(kind: ColumnType) -> Self {
        Self(match kind {
            ColumnType::Text => Builder::Text(StringBuilder::new()),
            ColumnType::Bytes => Builder::Bytes(BinaryBuilder::new()),
            ColumnType::I64 => Builder::I64(Int64Builder::new()),
            ColumnType::I32 => Builder::I32(Int32Builder::new()),
            ColumnType::F64 => Builder::F64(Float64Builder::new()),
            ColumnType::Bool => Builder::Bool(BooleanBuilder::new()),
            ColumnType::TimeUs => Builder::TimeUs(TimestampMicrosecondBuilder::new().with_timezone(UTC)),
            ColumnType::TimeMs => Builder::TimeMs(TimestampMillisecondBuilder::new().with_timezone(UTC)),
            ColumnType::Uuid => Builder::Uuid(FixedSizeBinaryBuilder::new(16)),
        })
    }

    /// Adds a cell.
    ///
    /// # Errors
    /// When it is of another type than the column.
    pub fn push(&mut self, value: Value<'_>) -> Result<(), FileError> {
        match (&mut self.0, value) {
            (Builder::Text(cells), Value::Text(text)) => cells.append_value(text),
            (Builder::Text(cells), Value::Null) => cells.append_null(),
            (Builder::Bytes(cells), Value::Bytes(bytes)) => cells.append_value(bytes),
            (Builder::Bytes(cells), Value::Null) => cells.append_null(),
            (Builder::I64(cells), Value::Int(number)) => cells.append_value(number),
            (Builder::I64(cells), Value::Null) => cells.append_null(),
            (Builder::I32(cells), Value::Int(number)) => {
                let narrow = i32::try_from(number).map_err(|_| FileError::Format(format!("{number} in a column of 32 bits")))?;
                cells.append_value(narrow);
            }
            (Builder::I32(cells), Value::Null) => cells.append_null(),
            (Builder::F64(cells), Value::F64(number)) => cells.append_value(number),
            (Builder::F64(cells), Value::Null) => cells.append_null(),
            (Builder::Bool(cells), Value::Bool(truth)) => cells.append_value(truth),
            (Builder::Bool(cells), Value::Null) => cells.append_null(),
            (Builder::TimeUs(cells), Value::Int(number)) => cells.append_value(number),
            (Builder::TimeUs(cells), Value::Null) => cells.append_null(),
            (Builder::TimeMs(cells), Value::Int(number)) => cells.append_value(number),
            (Builder::TimeMs(cells), Value::Null) => cells.append_null(),
            (Builder::Uuid(cells), Value::Bytes(bytes)) => cells.append_value(bytes)?,
            (Builder::Uuid(cells), Value::Null) => cells.append_null(),
            (_, value) => return Err(FileError::Format(format!("{value:?} in a column of another type"))),
        }
        Ok(())
    }

    /// What was added, which is then gone from here.
    pub(crate) fn take(&mut self) -> ArrayRef {
        match &mut self.0 {
            Builder::Text(cells) => Arc::new(cells.finish()),
            Builder::Bytes(cells) => Arc::new(cells.finish()),
            Builder::I64(cells) => Arc::new(cells.finish()),
            Builder::I32(cells) => Arc::new(cells.finish()),
            Builder::F64(cells) => Arc::new(cells.finish()),
            Builder::Bool(cells) => Arc::new(cells.finish()),
            Builder::TimeUs(cells) => Arc::new(cells.finish()),
            Builder::TimeMs(cells) => Arc::new(cells.finish()),
            Builder::Uuid(cells) => Arc::new(cells.finish()),
        }
    }
}

/// The cell of a row; null for types that we do not write.
pub(crate) fn cell(column: &dyn Array, row: usize) -> Value<'_> {
    if column.is_null(row) {
        return Value::Null;
    }
    match ColumnType::of(column.data_type()) {
        Some(ColumnType::Text) => Value::Text(column.as_string::<i32>().value(row)),
        Some(ColumnType::Bytes) => Value::Bytes(column.as_binary::<i32>().value(row)),
        Some(ColumnType::I64) => Value::Int(column.as_primitive::<Int64Type>().value(row)),
        Some(ColumnType::I32) => Value::Int(column.as_primitive::<Int32Type>().value(row).into()),
        Some(ColumnType::F64) => Value::F64(column.as_primitive::<Float64Type>().value(row)),
        Some(ColumnType::Bool) => Value::Bool(column.as_boolean().value(row)),
        Some(ColumnType::TimeUs) => Value::Int(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        Some(ColumnType::TimeMs) => Value::Int(column.as_primitive::<TimestampMillisecondType>().value(row)),
        Some(ColumnType::Uuid) => Value::Bytes(column.as_fixed_size_binary().value(row)),
        None => Value::Null,
    }
}
