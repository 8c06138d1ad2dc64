//! Putting values together: side by side, and averages of neighbouring rows.

use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// `parts[i] [rows, width_i]` → `[rows, Σ width_i]`.
///
/// # Errors
/// `Internal` when the parts have different numbers of rows, or there is none.
pub fn concat(tape: &Tape, parts: &[Var]) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.concat(parts);
    }
    if let [only] = parts {
        return Ok(only.clone());
    }
    let rows = parts.first().ok_or_else(|| Error::internal("concat: no parts"))?.dims2()?.0;
    let mut widths = Vec::with_capacity(parts.len());
    for part in parts {
        let (part_rows, width) = part.dims2()?;
        if part_rows != rows {
            return Err(Error::internal("concat: parts differ in rows"));
        }
        widths.push(width);
    }
    let total: usize = widths.iter().sum();
    dispatch!(parts[0].value(), T => {
        let mut value = vec![T::ZERO; rows * total];
        let mut offset = 0;
        for (part, width) in parts.iter().zip(&widths).filter(|(_, width)| **width > 0) {
            let part = read(part.value())?;
            for (from, to) in part.slice::<T>()?.chunks_exact(*width).zip(value.chunks_exact_mut(total)) {
                to[offset..offset + width].copy_from_slice(from);
            }
            offset += width;
        }
        let parents: Vec<&Var> = parts.iter().collect();
        Ok(tape.record(tensor::<T>(value, &[rows, total])?, &parents, move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            let gradient = guard.slice::<T>()?;
            let mut offset = 0;
            for (part, width) in widths.iter().enumerate() {
                if sink.wants(part) {
                    let own: Vec<T> =
                        gradient.chunks_exact(total.max(1)).flat_map(|row| row[offset..offset + width].iter().copied()).collect();
                    sink.add(part, tensor(own, &[rows, *width])?)?;
                }
                offset += width;
            }
            Ok(())
        }))
    })
}

/// `a + b`, of one shape.
///
/// # Errors
/// `Internal` when shapes differ.
pub fn add(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.add(a, b);
    }
    if a.dims() != b.dims() {
        return Err(Error::internal("add: shapes differ"));
    }
    dispatch!(a.value(), T => {
        let value = {
            let (a, b) = (read(a.value())?, read(b.value())?);
            a.slice::<T>()?.iter().zip(b.slice::<T>()?).map(|(a, b)| *a + *b).collect()
        };
        Ok(tape.record(tensor::<T>(value, a.dims())?, &[a, b], |gradient, sink: &mut Sink<'_>| {
            sink.add(0, gradient.clone())?;
            sink.add(1, gradient)
        }))
    })
}

/// The mean of each group of `members` neighbouring rows: `[rows · members, width]` → `[rows, width]`.
///
/// # Errors
/// `Internal` when the rows are not a multiple of `members`.
pub fn mean_groups(tape: &Tape, x: &Var, members: usize) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.mean_groups(x, members);
    }
    let (all, width) = x.dims2()?;
    if members == 0 || all % members != 0 {
        return Err(Error::internal("mean_groups: rows are not a multiple of the group"));
    }
    let rows = all / members;
    dispatch!(x.value(), T => {
        let share = T::of(1.0 / members as f64);
        let mut value = vec![T::ZERO; rows * width];
        {
            let guard = read(x.value())?;
            let x = guard.slice::<T>()?;
            for (row, out) in value.chunks_exact_mut(width.max(1)).enumerate() {
                for member in x[row * members * width..(row + 1) * members * width].chunks_exact(width) {
                    out.iter_mut().zip(member).for_each(|(out, value)| *out += *value);
                }
                out.iter_mut().for_each(|out| *out *= share);
            }
        }
        Ok(tape.record(tensor::<T>(value, &[rows, width])?, &[x], move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            let mut own = Vec::with_capacity(all * width);
            for row in guard.slice::<T>()?.chunks_exact(width.max(1)) {
                for _ in 0..members {
                    own.extend(row.iter().map(|value| *value * share));
                }
            }
            sink.add(0, tensor(own, &[all, width])?)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::*;

    #[test]
    fn gradients() {
        check(&[normal(&[3, 2], 1), normal(&[3, 1], 2), normal(&[3, 4], 3)], concat);
        check(&[normal(&[3, 2], 1), normal(&[3, 2], 2)], |tape, vars| add(tape, &vars[0], &vars[1]));
        check(&[normal(&[3, 2], 1)], |tape, vars| add(tape, &vars[0], &vars[0]));
        check(&[normal(&[6, 2], 1)], |tape, vars| mean_groups(tape, &vars[0], 3));
    }

    #[test]
    fn a_value_used_twice_gets_both_gradients() {
        check(&[normal(&[2, 3], 1)], |tape, vars| concat(tape, &[vars[0].clone(), vars[0].clone()]));
    }
}
