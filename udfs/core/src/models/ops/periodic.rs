//! Periodic embeddings of numbers with a linear layer and the number itself: the "PBLD" of RealMLP (Holzmüller, Grinsztajn
//! & Steinwart, 2024), after Gorishniy, Rubachev & Babenko, "On embeddings for numerical features", 2022.

use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// Features, waves of a feature, and numbers that a feature's waves become.
#[derive(Debug, Clone, Copy)]
struct Shape {
    features: usize,
    waves: usize,
    width: usize,
}

/// `x [rows, features]`, `frequency` and `phase [features, waves]`, `weight [features, waves, width]`, `bias [features,
/// width]` → `[rows, features · (1 + width)]`: of every feature the number and `cos(2π · frequency · x + phase) · weight +
/// bias`. No gradient flows to `x`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn periodic(tape: &Tape, x: &Var, frequency: &Var, phase: &Var, weight: &Var, bias: &Var) -> Result<Var> {
    let (rows, features) = x.dims2()?;
    let (waves, width) = match *weight.dims() {
        [own, waves, width] if own == features => (waves, width),
        _ => return Err(Error::internal(format!("periodic: input {:?} does not fit weight {:?}", x.dims(), weight.dims()))),
    };
    if frequency.dims() != [features, waves] || phase.dims() != [features, waves] || bias.dims() != [features, width] {
        return Err(Error::internal("periodic: frequency, phase or bias do not fit the weight"));
    }
    let shape = Shape { features, waves, width };
    let parents = [x, frequency, phase, weight, bias];
    dispatch!(x.value(), T => {
        let value = {
            let held = parents.map(|var| read(var.value()));
            let held = held.into_iter().collect::<Result<Vec<_>>>()?;
            let slices = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<Vec<_>>>()?;
            forward(shape, &slices)
        };
        let saved = parents.map(|var| var.value().clone());
        Ok(tape.record(tensor::<T>(value, &[rows, features * (1 + width)])?, &parents, move |gradient, sink: &mut Sink<'_>| {
            let held = saved.iter().map(read).collect::<Result<Vec<_>>>()?;
            let slices = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<Vec<_>>>()?;
            let guard = read(&gradient)?;
            let [d_frequency, d_phase, d_weight, d_bias] = backward(shape, &slices, guard.slice::<T>()?);
            sink.add(1, tensor(d_frequency, &[features, waves])?)?;
            sink.add(2, tensor(d_phase, &[features, waves])?)?;
            sink.add(3, tensor(d_weight, &[features, waves, width])?)?;
            sink.add(4, tensor(d_bias, &[features, width])?)
        }))
    })
}

/// The angle of a wave, in double precision: both directions ask the same functions on every machine.
fn angle<T: Real>(frequency: T, x: T, phase: T) -> f64 {
    std::f64::consts::TAU * frequency.wide() * x.wide() + phase.wide()
}

/// `slices`: x, frequency, phase, weight, bias.
fn forward<T: Real>(shape: Shape, slices: &[&[T]]) -> Vec<T> {
    let Shape { features, waves, width } = shape;
    let mut value = Vec::with_capacity(slices[0].len() * (1 + width));
    for (at, x) in slices[0].iter().enumerate() {
        let feature = at % features;
        value.push(*x);
        let start = value.len();
        value.extend_from_slice(&slices[4][feature * width..(feature + 1) * width]);
        for wave in feature * waves..(feature + 1) * waves {
            let height = T::of(angle(slices[1][wave], *x, slices[2][wave]).cos());
            value[start..].iter_mut().zip(&slices[3][wave * width..]).for_each(|(out, weight)| *out += height * *weight);
        }
    }
    value
}

/// The gradients of frequency, phase, weight and bias.
fn backward<T: Real>(shape: Shape, slices: &[&[T]], gradient: &[T]) -> [Vec<T>; 4] {
    let Shape { features, waves, width } = shape;
    let mut sums = [features * waves, features * waves, features * waves * width, features * width].map(|len| vec![T::ZERO; len]);
    let [d_frequency, d_phase, d_weight, d_bias] = &mut sums;
    for ((at, x), gradient) in slices[0].iter().enumerate().zip(gradient.chunks_exact(1 + width)) {
        let (feature, gradient) = (at % features, &gradient[1..]);
        d_bias[feature * width..].iter_mut().zip(gradient).for_each(|(sum, g)| *sum += *g);
        for wave in feature * waves..(feature + 1) * waves {
            let (sine, cosine) = angle(slices[1][wave], *x, slices[2][wave]).sin_cos();
            let (height, mut d_height) = (T::of(cosine), T::ZERO);
            let rows = slices[3][wave * width..].iter().zip(&mut d_weight[wave * width..]);
            for ((weight, d_weight), g) in rows.zip(gradient) {
                d_height += *g * *weight;
                *d_weight += *g * height;
            }
            let d_angle = -d_height * T::of(sine);
            d_phase[wave] += d_angle;
            d_frequency[wave] += d_angle * T::of(std::f64::consts::TAU) * *x;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    #[test]
    fn gradients() {
        for rows in [1, 3, 17] {
            let inputs = [normal(&[3, 4], 2), normal(&[3, 4], 3), normal(&[3, 4, 2], 4), normal(&[3, 2], 5)];
            check(&inputs, |tape, v| {
                let x = tape.constant(&normal(&[rows, 3], 1))?;
                periodic(tape, &x, &v[0], &v[1], &v[2], &v[3])
            });
        }
    }

    #[test]
    fn the_number_and_its_waves() {
        let tape = Tape::silent();
        let constant = |values: Vec<f64>, shape: &[usize]| tape.constant(&tensor(values, shape).unwrap()).unwrap();
        let x = constant(vec![0.25, 0.5], &[2, 1]);
        let (frequency, phase) = (constant(vec![1.0, 0.0], &[1, 2]), constant(vec![0.0, std::f64::consts::PI], &[1, 2]));
        let y = periodic(&tape, &x, &frequency, &phase, &constant(vec![1.0, 10.0], &[1, 2, 1]), &constant(vec![0.5], &[1, 1])).unwrap();
        for (got, expected) in to_vec::<f64>(y.value()).unwrap().into_iter().zip([0.25, -9.5, 0.5, -10.5]) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }
}
