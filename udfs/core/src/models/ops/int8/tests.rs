//! Kernels against exact integer arithmetic, and every instruction set of this machine against plain code.

use super::kernels::{self, Begin, Isa, Product, Step};
use super::panels::Panels8;
use super::rows::Rows8;
use super::weights::{Matrix4, Matrix8, SUM_MAX, bf16, bf16_up};
use super::*;
use crate::models::ops::activation::Activation;
use crate::models::ops::philox::Philox;
use crate::models::ops::real::Real;

fn normal(count: usize, stream: u32) -> Vec<f32> {
    let random = Philox::new(5, stream);
    (0..count).map(|i| random.normal(i as u64) as f32).collect()
}

/// What a row's bytes say, from its own range: the contract of [`Rows8`] in plain arithmetic.
fn bytes_of(row: &[f32]) -> (f32, i64, Vec<i64>) {
    let (low, high) = (row.iter().copied().fold(0f32, f32::min), row.iter().copied().fold(0f32, f32::max));
    if high - low < 1e-30 {
        return (0.0, 0, vec![0; row.len()]);
    }
    let inverse = 127.0 / (high - low);
    let zero = (-low * inverse).round_ties_even() as i64;
    ((high - low) / 127.0, zero, row.iter().map(|x| ((x * inverse).round_ties_even() as i64 + zero).clamp(0, 127)).collect())
}

/// Products of `x [rows, k]` and `w [n, k]`, bit for bit as integer arithmetic and one rounding of the float parts say.
fn check(isa: Isa, x: &[f32], w: &Matrix8, rows: usize) {
    let (k, n) = (w.inputs(), w.outputs());
    w.check(1).unwrap();
    let panels = Panels8::plain(w);
    let mut own = Rows8::new(rows, k);
    own.fill(isa, x, k, rows);
    let mut bias = normal(n, 9);
    bias.resize(panels.width(), 0.0);
    let mut y = vec![1f32; rows * n];
    for (begin, held) in [(Begin::Zero, 0), (Begin::Bias(&bias), 1), (Begin::Held, 2)] {
        let product = Product { x: &own, first: 0, count: rows, w: &panels, out: y.as_mut_ptr(), stride: n, begin };
        // SAFETY: `y` has `rows` rows of `n`, and everything else was made to fit.
        unsafe { kernels::product(isa, product) };
        for (row, x) in x.chunks_exact(k).enumerate() {
            let (scale, zero, bytes) = bytes_of(x);
            for column in 0..n {
                let sum: i64 = bytes.iter().zip(w.row(column)).map(|(byte, q)| (byte - zero) * i64::from(*q)).sum();
                let once = |start: f32| (sum as f32).mul_add(scale * w.scale(column), start);
                let expected = match held {
                    0 => once(0.0),
                    1 => once(bias[column]),
                    _ => once(once(bias[column])),
                };
                assert_eq!(y[row * n + column], expected, "{isa:?} {rows} {k} {n} at {row}, {column}, start {held}");
            }
        }
    }
}

#[test]
fn products_are_exact_at_every_edge() {
    for isa in Isa::all() {
        for rows in [1, 2, 3, 5, 17] {
            for (k, n) in [(1, 1), (3, 2), (8, 32), (17, 31), (31, 33), (32, 64), (40, 65), (129, 8)] {
                check(isa, &normal(rows * k, 1), &Matrix8::of(&normal(n * k, 2), n, 1), rows);
            }
        }
    }
}

#[test]
fn extremes_stay_within_sixteen_bits() {
    let (k, n) = (64, 33);
    // All weights alike is what the sums of four neighbours allow least of; signs that agree with the activations add up.
    let alike = |sign: &dyn Fn(usize) -> f32| Matrix8::of(&(0..n * k).map(|i| sign(i % k)).collect::<Vec<_>>(), n, 1);
    let alternating = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let lonely = |i: usize| if i.is_multiple_of(4) { 1e3 } else { 0.0 };
    for isa in Isa::all() {
        for w in [alike(&|_| 1.0), alike(&|_| -1.0), alike(&alternating), alike(&lonely)] {
            let all = |value: f32| vec![value; k];
            let signs: Vec<f32> = (0..k).map(alternating).collect();
            for x in [all(1.0), all(-1.0), all(0.0), all(3e38), all(1e-38), signs] {
                check(isa, &x, &w, 1);
            }
        }
    }
}

#[test]
fn weights_that_could_overflow_are_refused() {
    let most = Matrix8::stored(vec![127, 127, 1, 1, 2, 2, 1, 1], vec![bf16_up(1.0)]).unwrap();
    most.check(1).unwrap();
    let x: Vec<f32> = vec![1.0; 8];
    Isa::all().into_iter().for_each(|isa| check(isa, &x, &most, 1));
    for more in [[127, 127, 1, 1, 3, 2, 1, 1], [-127, 127, 1, 1, 3, -2, 1, 1], [0, 0, 127, 127, 0, 0, 3, -2]] {
        let values = more.to_vec();
        assert!(Matrix8::stored(values, vec![bf16_up(1.0)]).unwrap().check(1).is_err());
    }
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        assert!(Matrix8::stored(vec![1], vec![(bad.to_bits() >> 16) as u16]).is_err());
    }
    assert!(Matrix8::stored(vec![1, 2, 3], vec![bf16_up(1.0); 2]).is_err());
}

#[test]
fn every_weight_is_within_half_a_step() {
    let (rows, columns) = (12, 96);
    for (weights, near) in [(normal(rows * columns, 3), 1.35), (vec![0.7; rows * columns], 2.0), (vec![0.0; rows * columns], 1.0)] {
        let (matrix, table) = (Matrix8::of(&weights, rows, 1), Matrix8::table(&weights, rows));
        for (matrix, most) in [(&matrix, near), (&table, 1.01)] {
            for (row, weights) in weights.chunks_exact(columns).enumerate() {
                let scale = matrix.scale(row);
                let largest = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
                assert!(scale <= largest / 127.0 * most, "row {row}: step {scale} for {largest}");
                for (w, q) in weights.iter().zip(matrix.row(row)) {
                    assert!((w - f32::from(*q) * scale).abs() <= scale * 0.500_001, "{w} became {q} · {scale}");
                }
            }
        }
        matrix.check(1).unwrap();
        assert_eq!(matrix.floats().len(), weights.len());
    }
    // Neighbours of a convolution are inputs of one tap.
    let taps = Matrix8::of(&normal(rows * columns, 4), rows, 3);
    taps.check(3).unwrap();
    (0..3).for_each(|tap| taps.tap(tap, 3).check(1).unwrap());
    assert_eq!(SUM_MAX * 127, 32_766);
}

#[test]
fn four_bits_hold_what_they_say() {
    for columns in [1, 31, 32, 33, 70] {
        let weights = normal(3 * columns, 6);
        let matrix = Matrix4::of(&weights, 3);
        let (bytes, scales) = matrix.parts();
        assert_eq!((bytes.len(), scales.len()), (3 * usize::div_ceil(columns, 2), 3 * usize::div_ceil(columns, 32)));
        let floats = matrix.floats();
        let groups = weights.chunks_exact(columns).zip(floats.chunks_exact(columns));
        for (group, found) in groups.flat_map(|(w, f)| w.chunks(32).zip(f.chunks(32))) {
            let largest = group.iter().fold(0f32, |most, w| most.max(w.abs()));
            // Half a step, or what is cut off at the ends.
            for (w, found) in group.iter().zip(found) {
                assert!((w - found).abs() <= largest * 0.205, "{w} became {found}, largest {largest}");
            }
        }
        assert_eq!(Matrix4::stored(bytes.to_vec(), scales.to_vec(), 3, columns).unwrap(), matrix);
        assert!(Matrix4::stored(bytes.to_vec(), scales.to_vec(), 4, columns).is_err());
    }
}

#[test]
fn scales_are_rounded_up() {
    for value in [0.0f32, 1.0, 0.1, 1e-30, 3.1e-39, 12345.678] {
        let up = bf16(bf16_up(value));
        assert!(up >= value && up <= value * 1.008 + 1e-40, "{value} became {up}");
    }
}

/// One layer on a ragged chunk, on one instruction set.
fn states(isa: Isa, cell: Cell, inputs: usize, hidden: usize, lengths: &[u32]) -> Vec<f32> {
    let packing = crate::models::ops::Packing::new(lengths);
    let rows = cell.gates() * hidden;
    let matrix = |columns: usize, stream: u32| {
        let values: Vec<f32> = normal(rows * columns, stream).iter().map(|w| w / (columns as f32).sqrt()).collect();
        Matrix8::of(&values, rows, 1)
    };
    let weight = |matrix: &Matrix8| match Weight8::recurrent(matrix, cell).unwrap() {
        Weight8::Recurrent(panels) => panels,
        other => panic!("{other:?}"),
    };
    let (input, recurrent) = (weight(&matrix(inputs, 11)), weight(&matrix(hidden, 12)));
    let (one, two) = (normal(input.width(), 13), normal(input.width(), 14));
    let units = input.width() / cell.gates();
    let layer = layers::Layer { cell, isa, inputs, hidden, units, input: &input, recurrent: &recurrent, biases: (&one, &two) };
    let x = normal(packing.steps() * inputs, 15);
    let mut h = vec![0f32; packing.steps() * hidden];
    for chunk in packing.chunks() {
        let own = chunk.start..chunk.start + chunk.len();
        layer.run(chunk, &x[own.start * inputs..own.end * inputs], &mut h[own.start * hidden..own.end * hidden]);
    }
    h
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    for cell in [Cell::Lstm, Cell::Gru, Cell::Rnn(Activation::Tanh), Cell::Rnn(Activation::Relu)] {
        for (inputs, hidden) in [(3, 5), (8, 16), (33, 40)] {
            for lengths in [vec![1], vec![3, 7, 0, 1, 7], (0..17).map(|i| i % 4).collect()] {
                let expected = states(Isa::Portable, cell, inputs, hidden, &lengths);
                assert!(expected.iter().all(|h| h.is_finite()));
                for isa in Isa::all() {
                    assert_eq!(states(isa, cell, inputs, hidden, &lengths), expected, "{isa:?} {cell:?}");
                }
            }
        }
    }
}

#[test]
fn gates_are_close_to_exact_ones() {
    // One unit whose weights are zero: the biases are the gates.
    let zero = Matrix8::of(&[0.0; 4 * 8], 32, 1);
    let panels = Panels8::gated(&zero, 4, |gate| gate != 2);
    let mut x = Rows8::new(1, 1);
    x.fill(Isa::best(), &[1.0], 1, 1);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for at in 0..400 {
        let value = (at as f32 - 200.0) / 20.0;
        let gates = [value, -value * 0.5, value * 1.5, 0.7 * value];
        let bias: Vec<f32> = gates.iter().flat_map(|gate| vec![*gate; 8]).collect();
        let arranged = panels.arranged(&bias, |gate| gate != 2);
        let (mut h, mut c) = (vec![0.25f32; 8], vec![0.5f32; 8]);
        let own = Step {
            x: &x,
            first: 0,
            before: Some(&x),
            count: 1,
            input: &panels,
            recurrent: &panels,
            biases: (&arranged, &[]),
            h: h.as_mut_ptr(),
            c: c.as_mut_ptr(),
            stride: 8,
            activation: Activation::Tanh,
        };
        // SAFETY: one row of eight units.
        unsafe { kernels::lstm_step(Isa::best(), own) };
        let [i, f, g, o] = gates.map(f64::from);
        let cell = sigmoid(f) * 0.5 + sigmoid(i) * g.tanh();
        assert!((c[3].wide() - cell).abs() < 4e-4, "cell at {value}: {} instead of {cell}", c[3]);
        assert!((h[3].wide() - sigmoid(o) * cell.tanh()).abs() < 6e-4, "state at {value}");
    }
}
