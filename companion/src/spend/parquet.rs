//! An export as a Parquet file: decimals and times as what they are, a row group for each page of rows.

use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

use super::focus::{COLUMNS, Kind, Value};

/// Of a decimal: all digits, and those behind the point, as in the database.
const PRECISION: i32 = 31;
const SCALE: i32 = 12;
/// The bytes that so many digits take.
const DECIMAL_BYTES: usize = 13;

pub struct File<W: Write + Send>(SerializedFileWriter<W>);

impl<W: Write + Send> File<W> {
    pub fn new(to: W) -> Result<Self> {
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        Ok(Self(SerializedFileWriter::new(to, schema()?, Arc::new(properties))?))
    }

    /// Writes rows as a group of their own.
    pub fn write(&mut self, rows: &[[Value; COLUMNS.len()]]) -> Result<()> {
        let mut group = self.0.next_row_group()?;
        let mut index = 0;
        while let Some(mut column) = group.next_column()? {
            write_column(&mut column, COLUMNS[index].1, rows.iter().map(|row| &row[index]))?;
            column.close()?;
            index += 1;
        }
        group.close()?;
        Ok(())
    }

    /// Without this it is not a Parquet file.
    pub fn finish(self) -> Result<()> {
        self.0.close()?;
        Ok(())
    }
}

fn write_column<'a>(
    writer: &mut SerializedColumnWriter<'_>,
    kind: Kind,
    values: impl Iterator<Item = &'a Value>,
) -> Result<()> {
    let (mut levels, mut texts, mut decimals, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for value in values {
        levels.push(i16::from(*value != Value::Nothing));
        match value {
            Value::Nothing => {}
            Value::Text(text) => texts.push(ByteArray::from(text.as_bytes().to_vec())),
            Value::Decimal(amount) => {
                let bytes = amount.trillionths().to_be_bytes();
                // What is left out is the sign, once more: an amount has 103 bits.
                decimals.push(FixedLenByteArray::from(bytes[bytes.len() - DECIMAL_BYTES..].to_vec()));
            }
            Value::Time(time) => times.push(time.as_microsecond()),
        }
    }
    let levels = Some(&*levels);
    match kind {
        Kind::Text => writer.typed::<ByteArrayType>().write_batch(&texts, levels, None)?,
        Kind::Decimal => writer.typed::<FixedLenByteArrayType>().write_batch(&decimals, levels, None)?,
        Kind::Time => writer.typed::<Int64Type>().write_batch(&times, levels, None)?,
    };
    Ok(())
}

fn schema() -> Result<TypePtr> {
    let fields = COLUMNS.iter().map(|(name, kind)| {
        let field = match kind {
            Kind::Text => {
                Type::primitive_type_builder(name, Physical::BYTE_ARRAY).with_logical_type(Some(LogicalType::String))
            }
            Kind::Decimal => Type::primitive_type_builder(name, Physical::FIXED_LEN_BYTE_ARRAY)
                .with_length(DECIMAL_BYTES as i32)
                .with_precision(PRECISION)
                .with_scale(SCALE)
                .with_logical_type(Some(LogicalType::decimal(SCALE, PRECISION))),
            Kind::Time => Type::primitive_type_builder(name, Physical::INT64)
                .with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        };
        Ok(Arc::new(field.with_repetition(Repetition::OPTIONAL).build()?))
    });
    Ok(Arc::new(Type::group_type_builder("focus").with_fields(fields.collect::<Result<Vec<_>>>()?).build()?))
}
