//! Rows that only some members of a batch have, and what all members of an ensemble share.

use std::sync::Arc;

use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// `x [some, width]`, `missing [width]` → `[rows, width]`: row `places[i]` is row `i` of `x`, every other one `missing`.
///
/// # Errors
/// `Internal` when places are not ascending, or shapes disagree.
pub fn place_rows(tape: &Tape, x: &Var, missing: &Var, places: &Arc<[u32]>, rows: usize) -> Result<Var> {
    let (some, width) = x.dims2()?;
    let ascending = places.windows(2).all(|pair| pair[0] < pair[1]) && places.last().is_none_or(|last| (*last as usize) < rows);
    if some != places.len() || missing.dims() != [width] || !ascending {
        return Err(Error::internal("place_rows: the places do not fit the rows"));
    }
    let absent: Arc<[usize]> = (0..rows).filter(|row| places.binary_search(&(*row as u32)).is_err()).collect();
    dispatch!(x.value(), T => {
        let mut value = vec![T::ZERO; rows * width];
        {
            let (x, missing) = (read(x.value())?, read(missing.value())?);
            let (x, missing) = (x.slice::<T>()?, missing.slice::<T>()?);
            for (place, from) in places.iter().zip(x.chunks_exact(width.max(1))) {
                value[*place as usize * width..][..width].copy_from_slice(from);
            }
            absent.iter().for_each(|row| value[row * width..][..width].copy_from_slice(missing));
        }
        let places = Arc::clone(places);
        Ok(tape.record(tensor::<T>(value, &[rows, width])?, &[x, missing], move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            let gradient = guard.slice::<T>()?;
            let d_x = places.iter().flat_map(|place| gradient[*place as usize * width..][..width].iter().copied()).collect();
            let mut d_missing = vec![T::ZERO; width];
            for row in absent.iter() {
                d_missing.iter_mut().zip(&gradient[row * width..]).for_each(|(sum, value)| *sum += *value);
            }
            sink.add(0, tensor::<T>(d_x, &[some, width])?)?;
            sink.add(1, tensor(d_missing, &[width])?)
        }))
    })
}

/// `x [rows · members, width]`, `shared [rows, width]` → `x` with row `r` of `shared` added to each member of row `r`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn add_to_groups(tape: &Tape, x: &Var, shared: &Var) -> Result<Var> {
    let ((all, width), (rows, shared_width)) = (x.dims2()?, shared.dims2()?);
    if width != shared_width || (rows == 0) != (all == 0) || (rows > 0 && all % rows != 0) {
        return Err(Error::internal("add_to_groups: shapes differ"));
    }
    let members = all / rows.max(1);
    dispatch!(x.value(), T => {
        let value = {
            let (x, shared) = (read(x.value())?, read(shared.value())?);
            let shared = shared.slice::<T>()?;
            let of = |at: usize| shared[at / (members * width).max(1) * width + at % width.max(1)];
            x.slice::<T>()?.iter().enumerate().map(|(at, value)| *value + of(at)).collect()
        };
        Ok(tape.record(tensor::<T>(value, &[all, width])?, &[x, shared], move |gradient, sink: &mut Sink<'_>| {
            {
                let guard = read(&gradient)?;
                let mut sums = vec![T::ZERO; rows * width];
                for (at, value) in guard.slice::<T>()?.iter().enumerate() {
                    sums[at / (members * width) * width + at % width] += *value;
                }
                sink.add(1, tensor(sums, &[rows, width])?)?;
            }
            sink.add(0, gradient)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    #[test]
    fn gradients() {
        let places: Arc<[u32]> = Arc::from([1, 3]);
        check(&[normal(&[2, 3], 1), normal(&[3], 2)], |tape, v| place_rows(tape, &v[0], &v[1], &places, 5));
        for members in [1, 4] {
            check(&[normal(&[3 * members, 2], 1), normal(&[3, 2], 2)], |tape, v| add_to_groups(tape, &v[0], &v[1]));
        }
    }

    #[test]
    fn rows_go_to_their_places() {
        let tape = Tape::silent();
        let constant = |values: Vec<f32>, shape: &[usize]| tape.constant(&tensor(values, shape).unwrap()).unwrap();
        let (x, missing) = (constant(vec![1.0, 2.0], &[2, 1]), constant(vec![9.0], &[1]));
        let placed = place_rows(&tape, &x, &missing, &Arc::from([0, 2]), 4).unwrap();
        assert_eq!(to_vec::<f32>(placed.value()).unwrap(), [1.0, 9.0, 2.0, 9.0]);
        let none = constant(Vec::new(), &[0, 1]);
        let placed = place_rows(&tape, &none, &missing, &Arc::from([]), 2).unwrap();
        assert_eq!(to_vec::<f32>(placed.value()).unwrap(), [9.0, 9.0]);
        assert!(place_rows(&tape, &x, &missing, &Arc::from([0, 4]), 4).is_err());
        let sum = add_to_groups(&tape, &constant(vec![1.0, 2.0, 3.0, 4.0], &[4, 1]), &constant(vec![10.0, 20.0], &[2, 1])).unwrap();
        assert_eq!(to_vec::<f32>(sum.value()).unwrap(), [11.0, 12.0, 23.0, 24.0]);
    }
}
