//! A file being written: rows by columns, row group by row group, into any sink.

use crate::FileError;
use crate::cells::{Cells, ColumnType};
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use std::io::Write;
use std::sync::Arc;

/// Compression of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Zstandard of a level from 1 to 22.
    Zstd(u8),
    /// Snappy.
    Snappy,
    /// LZ4, of the raw kind.
    Lz4,
    /// None.
    None,
}

/// How values of a column are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// By a dictionary while that is small, then as they are.
    Dictionary,
    /// As differences to the value before: for numbers that ascend.
    Delta,
    /// As they are.
    Plain,
}

/// A column of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnType,
    /// Whether cells may be null.
    pub nullable: bool,
    /// How values are packed.
    pub packing: Packing,
    /// Whether least and greatest value of each page stand in the file.
    pub statistics: bool,
    /// A bloom filter with this share of false positives.
    pub bloom: Option<f64>,
}

/// What a file is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct FileOptions {
    /// Its columns.
    pub columns: Vec<Column>,
    /// Compression of pages.
    pub codec: Codec,
    /// Rows after which a row group is closed.
    pub group_rows: usize,
    /// Bytes, encoded, after which one is closed.
    pub group_bytes: usize,
    /// The order of the rows: index of a column, and whether it descends.
    pub sorting: Vec<(usize, bool)>,
    /// What else the file says of itself.
    pub metadata: Vec<(String, String)>,
}

/// What a finished file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes in all.
    pub bytes: u64,
    /// Row groups.
    pub groups: usize,
    /// Rows.
    pub rows: u64,
}

/// See the module's head.
pub struct FileWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: Arc<Schema>,
}

impl<W: Write + Send> FileWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Columns that no file has, or what the sink says.
    pub fn new(sink: W, options: &FileOptions) -> Result<Self, FileError> {
        let fields: Vec<_> = options.columns.iter().map(|column| column.kind.field(&column.name, column.nullable)).collect();
        let schema = Arc::new(Schema::new(fields));
        let writer = ArrowWriter::try_new(sink, Arc::clone(&schema), Some(properties(options)?))?;
        Ok(Self { writer, schema })
    }

    /// Adds the rows of these cells, column by column; the cells are empty then.
    ///
    /// # Errors
    /// Columns of different lengths or types, or what the sink says.
    pub fn write(&mut self, cells: &mut [Cells]) -> Result<(), FileError> {
        let columns = cells.iter_mut().map(Cells::take).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        Ok(self.writer.write(&batch)?)
    }

    /// Bytes that the writer holds in memory.
    pub fn memory(&self) -> usize {
        self.writer.memory_size()
    }

    /// Ends the file: everything is in the sink.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish(mut self) -> Result<Written, FileError> {
        let facts = self.writer.finish()?;
        let rows = u64::try_from(facts.file_metadata().num_rows()).map_err(|_| FileError::Format("a negative number of rows".into()))?;
        Ok(Written { bytes: self.writer.bytes_written() as u64, groups: facts.num_row_groups(), rows })
    }
}

fn properties(options: &FileOptions) -> Result<WriterProperties, FileError> {
    let codec = match options.codec {
        Codec::Zstd(level) => Compression::ZSTD(ZstdLevel::try_new(level.into())?),
        Codec::Snappy => Compression::SNAPPY,
        Codec::Lz4 => Compression::LZ4_RAW,
        Codec::None => Compression::UNCOMPRESSED,
    };
    let sorting = options.sorting.iter().map(|&(column, descending)| {
        let column_idx = i32::try_from(column).map_err(|_| FileError::Format(format!("column {column} of a file")))?;
        Ok(SortingColumn { column_idx, descending, nulls_first: !descending })
    });
    let sorting = sorting.collect::<Result<Vec<_>, FileError>>()?;
    let metadata = options.metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(concat!("streamgauge ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(codec)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(options.group_rows.max(1)))
        .set_max_row_group_bytes(Some(options.group_bytes.max(1)))
        .set_sorting_columns((!sorting.is_empty()).then_some(sorting))
        .set_key_value_metadata(Some(metadata));
    for column in &options.columns {
        let path = ColumnPath::from(vec![column.name.clone()]);
        properties = match column.packing {
            Packing::Dictionary => properties.set_column_dictionary_enabled(path.clone(), true),
            Packing::Delta => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED),
            Packing::Plain => properties.set_column_dictionary_enabled(path.clone(), false),
        };
        if column.statistics {
            properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page);
        }
        if let Some(share) = column.bloom {
            properties = properties.set_column_bloom_filter_enabled(path.clone(), true).set_column_bloom_filter_fpp(path, share);
        }
    }
    Ok(properties.build())
}
