//! Some rows of a table side by side, with a gradient that names only those rows.

use std::sync::Arc;

use super::storage::{dispatch, read, tensor};
use super::tape::{RowGradients, Sink, Tape, Var};
use crate::error::{Error, Result};

/// `table [rows, width]` or `[rows]`, `ids [count]` → `[count, width]` or `[count, 1]`. Nothing of the table's size is
/// computed or allocated, neither forward nor back.
///
/// # Errors
/// `Internal` when an id is outside the table.
pub fn gather(tape: &Tape, table: &Var, ids: &Arc<[u32]>) -> Result<Var> {
    let (rows, width) = match table.dims() {
        [rows] => (*rows, 1),
        [rows, width] => (*rows, *width),
        _ => return Err(Error::internal("gather: the table has neither one nor two dimensions")),
    };
    if ids.iter().any(|id| *id as usize >= rows) {
        return Err(Error::internal(format!("gather: an id is outside the table of {rows} rows")));
    }
    dispatch!(table.value(), T => {
        let mut value: Vec<T> = Vec::with_capacity(ids.len() * width);
        {
            let guard = read(table.value())?;
            let from = guard.slice::<T>()?;
            ids.iter().for_each(|id| value.extend_from_slice(&from[*id as usize * width..][..width]));
        }
        let (shape, ids, dims) = ([ids.len(), width], Arc::clone(ids), table.dims().to_vec());
        Ok(tape.record(tensor::<T>(value, &shape)?, &[table], move |gradient, sink: &mut Sink<'_>| {
            sink.add_rows(0, RowGradients { ids, fields: 1, field: 0, gradient, offset: 0, width }, &dims)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::*;

    #[test]
    fn gradients_with_repeated_ids() {
        let ids: Arc<[u32]> = Arc::from([3u32, 0, 3, 1]);
        check(&[normal(&[5, 3], 1)], |tape, vars| gather(tape, &vars[0], &ids));
        check(&[normal(&[5], 1)], |tape, vars| gather(tape, &vars[0], &ids));
        let tape = Tape::silent();
        let table = tape.constant(&normal(&[3, 2], 1)).unwrap();
        assert!(gather(&tape, &table, &ids).is_err());
    }
}
