//! Look-up of learned vectors by id; several fields side by side or added up.

use std::sync::Arc;

use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{RowGradients, Sink, Tape, Var};
use crate::error::{Error, Result};

/// How the fields of a row are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Side by side: `[rows, Σ widths]`.
    Concat,
    /// Added up: `[rows, width]`; all tables have the same width.
    Sum,
}

fn widths(tables: &[Var], ids: &[u32], pooling: Pooling) -> Result<Vec<usize>> {
    let mut widths = Vec::with_capacity(tables.len());
    for (field, table) in tables.iter().enumerate() {
        let (vocabulary, width) = table.dims2()?;
        if ids.iter().skip(field).step_by(tables.len()).any(|&id| id as usize >= vocabulary) {
            return Err(Error::internal(format!("embedding: an id of field {field} is outside its vocabulary of {vocabulary}")));
        }
        widths.push(width);
    }
    if tables.is_empty()
        || !ids.len().is_multiple_of(tables.len())
        || (pooling == Pooling::Sum && widths.iter().any(|width| *width != widths[0]))
    {
        return Err(Error::internal("embedding: ids do not fit the tables"));
    }
    Ok(widths)
}

/// `tables[f] [vocabulary_f, width_f]`, `ids [rows, fields]` row-major → `[rows, Σ width_f]` or `[rows, width]`.
/// The gradient of an id that occurs several times is the sum over its places, in row order.
///
/// # Errors
/// `Internal` when an id is outside its table or shapes disagree.
pub fn embed(tape: &Tape, tables: &[Var], ids: &Arc<[u32]>, pooling: Pooling) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.embed(tables, ids, pooling);
    }
    let widths = widths(tables, ids, pooling)?;
    let fields = tables.len();
    let rows = ids.len() / fields;
    let offsets: Vec<usize> = match pooling {
        Pooling::Concat => widths.iter().scan(0, |at, width| Some(std::mem::replace(at, *at + width))).collect(),
        Pooling::Sum => vec![0; fields],
    };
    let total = if pooling == Pooling::Concat { widths.iter().sum() } else { widths[0] };
    dispatch!(tables[0].value(), T => {
        let mut value = vec![T::ZERO; rows * total];
        for (field, table) in tables.iter().enumerate() {
            let (width, offset) = (widths[field], offsets[field]);
            if let Some(table) = table.table8() {
                for (row, out) in value.chunks_exact_mut(total.max(1)).enumerate() {
                    let id = ids[row * fields + field] as usize;
                    let scale = table.scale(id);
                    for (out, weight) in out[offset..offset + width].iter_mut().zip(table.row(id)) {
                        *out += T::of(f64::from(f32::from(*weight) * scale));
                    }
                }
                continue;
            }
            let table = read(table.value())?;
            let table = table.slice::<T>()?;
            for (row, out) in value.chunks_exact_mut(total.max(1)).enumerate() {
                let from = ids[row * fields + field] as usize * width;
                for (out, weight) in out[offset..offset + width].iter_mut().zip(&table[from..from + width]) {
                    *out += *weight;
                }
            }
        }
        let parents: Vec<&Var> = tables.iter().collect();
        let vocabularies: Vec<usize> = tables.iter().map(|table| table.dims()[0]).collect();
        let ids = Arc::clone(ids);
        Ok(tape.record(tensor::<T>(value, &[rows, total])?, &parents, move |gradient, sink: &mut Sink<'_>| {
            for field in 0..fields {
                let rows = RowGradients {
                    ids: Arc::clone(&ids),
                    fields,
                    field,
                    gradient: gradient.clone(),
                    offset: offsets[field],
                    width: widths[field],
                };
                sink.add_rows(field, rows, &[vocabularies[field], widths[field]])?;
            }
            Ok(())
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::*;

    #[test]
    fn gradients_with_repeated_ids() {
        for rows in [1, 3, 17] {
            let ids: Arc<[u32]> = (0..rows * 2).map(|i| (i * i % 3) as u32).collect();
            check(&[normal(&[3, 2], 1), normal(&[4, 5], 2)], |tape, vars| embed(tape, vars, &ids, Pooling::Concat));
            check(&[normal(&[3, 2], 1), normal(&[4, 2], 2)], |tape, vars| embed(tape, vars, &ids, Pooling::Sum));
        }
    }

    #[test]
    fn ids_are_checked() {
        let tape = Tape::silent();
        let table = tape.constant(&normal(&[3, 2], 1)).unwrap();
        assert!(embed(&tape, &[table], &Arc::from([3u32]), Pooling::Concat).is_err());
    }
}
