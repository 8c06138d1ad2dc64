//! Columns of batches laid into one column whose rows have other places: each value is written once, straight to its place.

use std::sync::Arc;

use arrow::array::downcast_primitive;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder, PrimitiveArray, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::DataType;
use datafusion::error::Result;

/// Where the rows of some batches go, one batch after the other: each place once.
#[derive(Debug)]
pub(super) struct Places {
    places: Vec<u32>,
    /// The row of each place, once it was asked for.
    order: Option<UInt32Array>,
}

impl Places {
    pub(super) fn new(places: Vec<u32>) -> Self {
        Self { places, order: None }
    }

    /// One column of the batches with its rows at their places.
    pub(super) fn lay(&mut self, columns: &[&ArrayRef]) -> Result<ArrayRef> {
        let Some(data_type) = columns.first().map(|column| column.data_type().clone()) else { return self.take(columns) };
        if columns.iter().any(|column| column.null_count() > 0) {
            return self.take(columns);
        }
        macro_rules! primitive {
            ($found:ty) => {
                return Ok(self.primitive::<$found>(columns, data_type))
            };
        }
        downcast_primitive! {
            data_type => (primitive),
            DataType::Boolean => Ok(self.booleans(columns)),
            _ => self.take(columns)
        }
    }

    fn primitive<T: ArrowPrimitiveType>(&self, columns: &[&ArrayRef], data_type: DataType) -> ArrayRef {
        let mut values = vec![T::Native::default(); self.places.len()];
        let mut places = self.places.as_slice();
        for column in columns.iter().filter_map(|column| column.as_primitive_opt::<T>()) {
            let (own, rest) = places.split_at(column.len());
            places = rest;
            for (place, value) in own.iter().zip(column.values()) {
                values[*place as usize] = *value;
            }
        }
        Arc::new(PrimitiveArray::<T>::new(values.into(), None).with_data_type(data_type))
    }

    fn booleans(&self, columns: &[&ArrayRef]) -> ArrayRef {
        let mut values = BooleanBufferBuilder::new(self.places.len());
        values.append_n(self.places.len(), false);
        let mut begin = 0;
        for column in columns.iter().filter_map(|column| column.as_boolean_opt()) {
            for row in column.values().set_indices() {
                values.set_bit(self.places[begin + row] as usize, true);
            }
            begin += column.len();
        }
        Arc::new(BooleanArray::new(values.finish(), None))
    }

    /// The same for any column: joined, then taken in order.
    fn take(&mut self, columns: &[&ArrayRef]) -> Result<ArrayRef> {
        let joined = concat(&columns.iter().map(|column| column.as_ref()).collect::<Vec<_>>())?;
        let order = self.order.get_or_insert_with(|| {
            let mut order = vec![0_u32; self.places.len()];
            for (row, place) in self.places.iter().enumerate() {
                order[*place as usize] = row as u32;
            }
            UInt32Array::from(order)
        });
        Ok(take(&joined, order, None)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int32Array, StringViewArray, TimestampMicrosecondArray};
    use arrow::compute::concat;

    use super::*;
    use crate::kernels::splitmix;

    #[test]
    fn a_column_is_laid_as_taking_it_in_order_would() {
        for seed in 0..300_u64 {
            let at = |i: u64| splitmix::at(seed, i);
            let lengths: Vec<usize> = (0..1 + at(0) % 4).map(|i| (at(i + 1) % 90) as usize).collect();
            let count: usize = lengths.iter().sum();
            let mut places: Vec<u32> = (0..count as u32).collect();
            splitmix::shuffle(&mut places, seed);
            let mut laid = Places::new(places.clone());
            let column = |length: usize, part: u64| -> ArrayRef {
                let value = |i: usize| at(1000 * part + i as u64 + 50);
                match seed % 6 {
                    0 => Arc::new((0..length).map(|i| Some(value(i) as i32)).collect::<Int32Array>()),
                    1 => Arc::new((0..length).map(|i| Some(value(i) % 9 != 0).filter(|_| value(i) % 7 != 0)).collect::<BooleanArray>()),
                    2 => Arc::new((0..length).map(|i| Some(value(i) % 3 == 0)).collect::<BooleanArray>()),
                    3 => Arc::new((0..length).map(|i| Some(value(i) as f64).filter(|_| value(i) % 5 != 0)).collect::<Float64Array>()),
                    4 => Arc::new(TimestampMicrosecondArray::from_iter_values((0..length).map(|i| value(i) as i64)).with_timezone("UTC")),
                    _ => Arc::new((0..length).map(|i| Some(format!("text number {}", value(i) % 40))).collect::<StringViewArray>()),
                }
            };
            // Slices, so that offsets count.
            let columns: Vec<ArrayRef> = lengths.iter().zip(1..).map(|(length, part)| column(length + 5, part).slice(3, *length)).collect();
            let mut order = vec![0_u32; count];
            places.iter().enumerate().for_each(|(row, place)| order[*place as usize] = row as u32);
            let joined = concat(&columns.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap();
            let expected = take(&joined, &UInt32Array::from(order), None).unwrap();
            assert_eq!(&laid.lay(&columns.iter().collect::<Vec<_>>()).unwrap(), &expected, "seed {seed}");
        }
    }
}
