//! Weights of 8 and of 4 bits: how they are rounded, and what the kernels may rely on.
//!
//! Every row (output channel, or id of a table) of 8-bit weights has a scale of its own: `w ≈ scale · q`, `|q| ≤ 127`,
//! `|w − scale · q| ≤ scale / 2`. For matrices that are multiplied with, any four neighbours also satisfy
//! `Σ |q| ≤ 258`: with activations of at most 127 the sum of their products fits 16 bits (258 · 127 = 32766), so AVX2 may
//! add them there. A scale that this asks to be larger is at most twice as large, and for weights like a normal
//! distribution's it hardly grows.
//!
//! Rows of 4-bit weights have a scale for each group of 32: `|q| ≤ 7`.
//!
//! Scales are bfloat16, rounded up, so that the largest weight always has its number: they have the range of floats at half
//! the bytes.

use crate::error::{Code, Error, Result};

/// Largest 8-bit weight.
const MAX8: f32 = 127.0;
/// Largest 4-bit weight.
const MAX4: f32 = 7.0;
/// 4-bit weights that share a scale.
pub(in crate::models) const GROUP4: usize = 32;
/// Weights whose products are added in 16 bits.
const NEIGHBOURS: usize = 4;
/// Most that the absolute values of four neighbours may sum up to.
pub(in crate::models) const SUM_MAX: i32 = 258;

/// The smallest bfloat16 that is not below `value ≥ 0`, as its bits.
pub(in crate::models) fn bf16_up(value: f32) -> u16 {
    let bits = value.to_bits();
    let cut = (bits >> 16) as u16;
    if bits & 0xFFFF == 0 { cut } else { cut + 1 }
}

/// The float of bfloat16 bits.
pub(in crate::models) fn bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

fn damaged(reason: &str) -> Error {
    Error::new(Code::DataCorrupted, "model weights are damaged").detail(format!("{reason}."))
}

/// Checks that scales are finite and not negative.
fn check_scales(scales: &[u16]) -> Result<()> {
    if scales.iter().all(|bits| bf16(*bits).is_finite() && bf16(*bits).is_sign_positive()) {
        return Ok(());
    }
    Err(damaged("A scale of quantised weights is negative or not finite"))
}

/// Neighbours in a group of eight inputs: the products of bytes are added in pairs, and those of the group's first word to
/// those of its second.
const PAIRS: [[usize; NEIGHBOURS]; 2] = [[0, 1, 4, 5], [2, 3, 6, 7]];

/// The largest sum of `size` over four neighbours of a row, whose taps lie side by side (`taps` = 1 for matrices).
fn largest_sum(len: usize, taps: usize, size: impl Fn(usize) -> f32) -> f32 {
    let inputs = len / taps.max(1);
    let mut most = 0f32;
    for tap in 0..taps {
        for group in (0..inputs).step_by(8) {
            for places in PAIRS {
                let inside = places.iter().map(|place| group + place).filter(|input| *input < inputs);
                most = most.max(inside.map(|input| size(input * taps + tap)).sum());
            }
        }
    }
    most
}

fn largest(row: &[f32]) -> f32 {
    row.iter().fold(0f32, |most, w| most.max(w.abs()))
}

/// `row / scale`, rounded to the nearest number that `most` allows.
fn round(w: f32, scale: f32, most: f32) -> i8 {
    if scale == 0.0 { 0 } else { (w / scale).round_ties_even().clamp(-most, most) as i8 }
}

/// A matrix or table of 8-bit weights, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::models) struct Matrix8 {
    rows: usize,
    columns: usize,
    values: Vec<i8>,
    scales: Vec<u16>,
}

impl Matrix8 {
    /// Rounds `weight [rows, columns]`, whose rows hold `taps` taps side by side; the result may be multiplied with.
    pub(in crate::models) fn of(weight: &[f32], rows: usize, taps: usize) -> Self {
        Self::rounded(weight, rows, |row| {
            // Rounding adds at most one half to each of the four.
            let sum = largest_sum(row.len(), taps, |at| row[at].abs()) / (SUM_MAX as f32 - 2.0);
            (largest(row) / MAX8).max(sum)
        })
    }

    /// Rounds a table whose rows are looked up: the largest weight of each row is 127.
    pub(in crate::models) fn table(weight: &[f32], rows: usize) -> Self {
        Self::rounded(weight, rows, |row| largest(row) / MAX8)
    }

    fn rounded(weight: &[f32], rows: usize, scale: impl Fn(&[f32]) -> f32) -> Self {
        let columns = weight.len().checked_div(rows).unwrap_or(0);
        let (mut values, mut scales) = (Vec::with_capacity(weight.len()), Vec::with_capacity(rows));
        for row in weight.chunks_exact(columns.max(1)).take(rows) {
            let bits = bf16_up(scale(row));
            values.extend(row.iter().map(|w| round(*w, bf16(bits), MAX8)));
            scales.push(bits);
        }
        Self { rows, columns, values, scales }
    }

    /// What a file held.
    ///
    /// # Errors
    /// `DataCorrupted` when sizes disagree or a scale is no scale.
    pub(in crate::models) fn stored(values: Vec<i8>, scales: Vec<u16>) -> Result<Self> {
        let rows = scales.len();
        check_scales(&scales)?;
        if rows == 0 || !values.len().is_multiple_of(rows) {
            return Err(damaged("Quantised weights and their scales do not fit"));
        }
        Ok(Self { rows, columns: values.len() / rows, values, scales })
    }

    /// Checks that it may be multiplied with, as [`of`](Self::of) makes them.
    ///
    /// # Errors
    /// `DataCorrupted` when a sum of products could leave 16 bits.
    pub(in crate::models) fn check(&self, taps: usize) -> Result<()> {
        for row in 0..self.rows {
            let values = self.row(row);
            let sum = largest_sum(values.len(), taps, |at| f32::from(values[at]).abs());
            if sum > SUM_MAX as f32 {
                return Err(damaged("Quantised weights are larger than products of bytes allow"));
            }
        }
        Ok(())
    }

    /// Rows of one tap of a matrix whose rows hold `taps` taps side by side.
    pub(in crate::models) fn tap(&self, tap: usize, taps: usize) -> Self {
        let values: Vec<i8> = self.values.iter().copied().skip(tap).step_by(taps.max(1)).collect();
        Self { rows: self.rows, columns: self.columns / taps.max(1), values, scales: self.scales.clone() }
    }

    /// Rows.
    pub(in crate::models) fn outputs(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub(in crate::models) fn inputs(&self) -> usize {
        self.columns
    }

    /// The weights of a row.
    pub(in crate::models) fn row(&self, row: usize) -> &[i8] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// The scale of a row.
    pub(in crate::models) fn scale(&self, row: usize) -> f32 {
        bf16(self.scales[row])
    }

    /// All weights and scales, as they are stored.
    pub(in crate::models) fn parts(&self) -> (&[i8], &[u16]) {
        (&self.values, &self.scales)
    }

    /// As floats.
    pub(in crate::models) fn floats(&self) -> Vec<f32> {
        (0..self.rows).flat_map(|row| self.row(row).iter().map(move |q| f32::from(*q) * self.scale(row))).collect()
    }

    /// Bytes of memory it holds.
    pub(in crate::models) fn bytes(&self) -> usize {
        self.values.len() + 2 * self.scales.len()
    }
}

/// A matrix of 4-bit weights, two to a byte, the first in the low half; every row begins at a byte and a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::models) struct Matrix4 {
    rows: usize,
    columns: usize,
    bytes: Vec<u8>,
    scales: Vec<u16>,
}

impl Matrix4 {
    /// Rounds `weight [rows, columns]`. Of the scales that show a group's largest weight as 7, or cut it off by a fifth at
    /// most, the one with the smallest squared error is taken.
    pub(in crate::models) fn of(weight: &[f32], rows: usize) -> Self {
        let columns = weight.len().checked_div(rows).unwrap_or(0);
        let mut own = Self { rows, columns, bytes: Vec::new(), scales: Vec::new() };
        for row in weight.chunks_exact(columns.max(1)).take(rows) {
            let mut nibbles = Vec::with_capacity(columns + 1);
            for group in row.chunks(GROUP4) {
                let bits = best_scale(group);
                own.scales.push(bits);
                nibbles.extend(group.iter().map(|w| (round(*w, bf16(bits), MAX4) + 8) as u8));
            }
            own.bytes.extend(nibbles.chunks(2).map(|pair| pair[0] | pair.get(1).copied().unwrap_or(8) << 4));
        }
        own
    }

    /// What a file held, for a matrix of this shape.
    ///
    /// # Errors
    /// `DataCorrupted` when sizes disagree or a scale is no scale.
    pub(in crate::models) fn stored(bytes: Vec<u8>, scales: Vec<u16>, rows: usize, columns: usize) -> Result<Self> {
        check_scales(&scales)?;
        if bytes.len() != rows * columns.div_ceil(2) || scales.len() != rows * columns.div_ceil(GROUP4) {
            return Err(damaged("Quantised weights and their scales do not fit"));
        }
        Ok(Self { rows, columns, bytes, scales })
    }

    /// All bytes and scales, as they are stored.
    pub(in crate::models) fn parts(&self) -> (&[u8], &[u16]) {
        (&self.bytes, &self.scales)
    }

    /// As floats.
    pub(in crate::models) fn floats(&self) -> Vec<f32> {
        let (row_bytes, groups) = (self.columns.div_ceil(2), self.columns.div_ceil(GROUP4));
        let weight = |at: usize| {
            let (row, column) = (at / self.columns, at % self.columns);
            let byte = self.bytes[row * row_bytes + column / 2];
            let nibble = if column.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
            (f32::from(nibble) - 8.0) * bf16(self.scales[row * groups + column / GROUP4])
        };
        (0..self.rows * self.columns).map(weight).collect()
    }
}

/// Shares of the largest weight that a scale of 4 bits is tried with.
const SHARES: [f32; 5] = [1.0, 0.95, 0.9, 0.85, 0.8];

fn best_scale(group: &[f32]) -> u16 {
    let most = largest(group);
    let error = |bits: u16| -> f64 {
        let scale = bf16(bits);
        group.iter().map(|w| f64::from(*w - f32::from(round(*w, scale, MAX4)) * scale).powi(2)).sum()
    };
    let candidates = SHARES.map(|share| bf16_up(most * share / MAX4));
    candidates.into_iter().map(|bits| (error(bits), bits)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, bits)| bits)
}
