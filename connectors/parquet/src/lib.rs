//! Parquet files of typed columns: the one doorway to `arrow` and `parquet`.
//!
//! ```text
//! Cells by column -> FileWriter (row groups, pages, statistics, bloom filters) -> bytes of one file
//! bytes of a file -> FileReader (footer, row groups) -> Cells by column
//! ```
//! What columns mean is not known here: neither events nor LSNs, nor where a file stands. A writer
//! holds one row group in its encoded form; a reader holds a batch of rows. Files are readable by
//! any engine: only encodings that the readers of others know are written, times are UTC, ids are
//! of the logical type UUID.
//!
//! Called by the archiver's thread and by readers of the archive; it waits for nobody but the sink.

mod cells;
mod reader;
mod writer;

pub use cells::{Cells, ColumnType, Value};
pub use reader::{FileReader, ReadAt, Shape};
pub use writer::{Codec, Column, FileOptions, FileWriter, Packing, Written};

/// Why a file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// What the sink or the file said.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The bytes are not such a file, or values do not fit its columns.
    #[error("{0}")]
    Format(String),
}

impl From<parquet::errors::ParquetError> for FileError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        use parquet::errors::ParquetError;
        match error {
            ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
                Ok(io) => Self::Io(*io),
                Err(cause) => Self::Format(cause.to_string()),
            },
            other => Self::Format(other.to_string()),
        }
    }
}

impl From<arrow_schema::ArrowError> for FileError {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::Format(error.to_string())
    }
}
