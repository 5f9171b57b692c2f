//! Records as a Parquet file.

use std::sync::Arc;

use anyhow::Result;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

use super::columns::{Cell, Column, Kind, REST, Splitter};

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// The values of a column that has any in a row, and of each row whether it has one.
struct Values {
    kind: Kind,
    texts: Vec<ByteArray>,
    integers: Vec<i64>,
    floats: Vec<f64>,
    bools: Vec<bool>,
    levels: Vec<i16>,
}

impl Values {
    fn new(kind: Kind) -> Self {
        Self { kind, texts: vec![], integers: vec![], floats: vec![], bools: vec![], levels: vec![] }
    }

    fn push(&mut self, cell: Option<Cell<'_>>) {
        self.levels.push(cell.is_some().into());
        match cell {
            None => {}
            Some(Cell::Text(text)) => self.texts.push(text.into_owned().into_bytes().into()),
            Some(Cell::Int(integer)) => self.integers.push(integer),
            Some(Cell::Float(float)) => self.floats.push(float),
            Some(Cell::Bool(bool)) => self.bools.push(bool),
        }
    }

    fn write(&self, writer: &mut SerializedColumnWriter<'_>) -> Result<()> {
        let levels = Some(&*self.levels);
        match self.kind {
            Kind::String | Kind::Json => writer.typed::<ByteArrayType>().write_batch(&self.texts, levels, None)?,
            Kind::Int | Kind::Timestamp => writer.typed::<Int64Type>().write_batch(&self.integers, levels, None)?,
            Kind::Float => writer.typed::<DoubleType>().write_batch(&self.floats, levels, None)?,
            Kind::Bool => writer.typed::<BoolType>().write_batch(&self.bools, levels, None)?,
        };
        Ok(())
    }
}

/// A file with a row for each record, in their order, and a column [`REST`] behind the others.
///
/// # Errors
/// If the columns were not checked.
pub fn encode(columns: &[Column], records: &[&[u8]]) -> Result<Vec<u8>> {
    let splitter = Splitter::new(columns);
    let mut values: Vec<Values> = columns.iter().map(|column| Values::new(column.kind)).collect();
    let mut rests = Values::new(Kind::Json);
    for record in records {
        let (cells, rest) = splitter.split(record);
        values.iter_mut().zip(cells).for_each(|(values, cell)| values.push(cell));
        rests.push(rest.map(Cell::Text));
    }
    values.push(rests);

    let compression = Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?);
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema(columns)?, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    let mut values = values.iter();
    while let (Some(mut column), Some(values)) = (group.next_column()?, values.next()) {
        values.write(&mut column)?;
        column.close()?;
    }
    group.close()?;
    Ok(writer.into_inner()?)
}

fn schema(columns: &[Column]) -> Result<TypePtr> {
    let columns = columns.iter().map(|column| (&*column.name, column.kind)).chain([(REST, Kind::Json)]);
    let fields = columns.map(|(name, kind)| {
        let (physical, logical) = match kind {
            Kind::String => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            // Readers that know no JSON take the type Json as bytes.
            Kind::Json => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Int => (Physical::INT64, None),
            Kind::Float => (Physical::DOUBLE, None),
            Kind::Bool => (Physical::BOOLEAN, None),
            Kind::Timestamp => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        };
        let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        Ok(Arc::new(field.with_logical_type(logical).build()?))
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Type::group_type_builder("record").with_fields(fields).build()?))
}
