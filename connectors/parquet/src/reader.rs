//! A file being read back: by us to look whether it is whole, and by readers of the archive.

use crate::FileError;
use crate::cells::{ColumnType, Value, cell};
use arrow_array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::{ChunkReader, Length};
use std::collections::BTreeMap;
use std::io::{Read, Result as IoResult};
use std::sync::Arc;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 4_096;

/// Bytes at places.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn size_bytes(&self) -> u64;

    /// Fills `bytes` from `offset`; fewer only at the end.
    ///
    /// # Errors
    /// What the file says.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> IoResult<usize>;
}

#[derive(Clone)]
struct Chunks(Arc<dyn ReadAt>);

struct ReadFrom {
    file: Arc<dyn ReadAt>,
    at: u64,
}

impl Read for ReadFrom {
    fn read(&mut self, bytes: &mut [u8]) -> IoResult<usize> {
        let got = self.file.read_at(bytes, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.size_bytes()
    }
}

impl ChunkReader for Chunks {
    type T = ReadFrom;

    fn get_read(&self, start: u64) -> parquet::errors::Result<ReadFrom> {
        Ok(ReadFrom { file: Arc::clone(&self.0), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<bytes::Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.len());
        if end.is_none() {
            return Err(parquet::errors::ParquetError::General(format!("{length} bytes at {start} of a file of {}", self.len())));
        }
        let mut bytes = vec![0; length];
        let got = self.0.read_at(&mut bytes, start)?;
        if got != length {
            return Err(parquet::errors::ParquetError::General(format!("{got} of {length} bytes at {start}")));
        }
        Ok(bytes.into())
    }
}

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub rows: u64,
    /// Row groups.
    pub groups: usize,
    /// Names of columns with what they hold; none for a type that we do not write.
    pub columns: Vec<(String, Option<ColumnType>)>,
    /// What else it says.
    pub metadata: BTreeMap<String, String>,
}

/// Rows of a file, in its order.
pub struct FileReader {
    batches: ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    shape: Shape,
}

impl FileReader {
    /// Opens a file and reads its footer; of its columns those of `wanted`, or all.
    ///
    /// # Errors
    /// Bytes that are no such file, or what the file says.
    pub fn open(file: Arc<dyn ReadAt>, wanted: Option<&[&str]>) -> Result<Self, FileError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(Chunks(file))?;
        let facts = builder.metadata();
        let said = facts.file_metadata().key_value_metadata().into_iter().flatten();
        let metadata = said.filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?))).collect();
        let columns = builder.schema().fields().iter().map(|field| (field.name().clone(), ColumnType::of(field.data_type()))).collect();
        let rows = u64::try_from(facts.file_metadata().num_rows()).map_err(|_| FileError::Format("a negative number of rows".into()))?;
        let shape = Shape { rows, groups: facts.num_row_groups(), columns, metadata };
        let mask = match wanted {
            None => ProjectionMask::all(),
            Some(names) => ProjectionMask::columns(builder.parquet_schema(), names.iter().copied()),
        };
        let batches = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()?;
        Ok(Self { batches, batch: None, shape })
    }

    /// What the file says of itself.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Decodes the next rows and says how many there are; 0 at the end.
    ///
    /// # Errors
    /// Damaged bytes, or what the file says.
    pub fn advance(&mut self) -> Result<usize, FileError> {
        self.batch = self.batches.next().transpose()?;
        Ok(self.batch.as_ref().map_or(0, RecordBatch::num_rows))
    }

    /// Index of a column among those that are read.
    pub fn column(&self, name: &str) -> Option<usize> {
        let schema = self.batch.as_ref()?.schema();
        schema.fields().iter().position(|field| field.name() == name)
    }

    /// A cell of the rows at hand; null where there is none.
    pub fn cell(&self, column: usize, row: usize) -> Value<'_> {
        match &self.batch {
            Some(batch) if column < batch.num_columns() && row < batch.num_rows() => cell(batch.column(column).as_ref(), row),
            _ => Value::Null,
        }
    }
}
