//! 8-bit weights as the kernels read them.
//!
//! A panel holds a few vectors of eight columns; for each group of eight inputs it has, vector after vector, the first four
//! bytes of every column and then the other four. So a panel is read from front to end, a cache line at a time.

use super::simd::{GROUP, LANES};
use super::weights::Matrix8;

/// Bytes of a group of one vector: a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([i8; GROUP * LANES]);

/// Packed weights.
#[derive(Debug)]
pub(in crate::models) struct Panels8 {
    inputs: usize,
    columns: usize,
    vectors: usize,
    groups: usize,
    lines: Vec<Line>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl Panels8 {
    /// Packs `matrix` for products `x · matrixᵀ`, four vectors to a panel.
    pub(super) fn plain(matrix: &Matrix8) -> Self {
        let columns = matrix.outputs();
        let width = super::kernels::VECTORS * LANES;
        let column = |at: usize| (at < columns).then_some(at);
        Self::pack(matrix, super::kernels::VECTORS, columns.div_ceil(width), column, |_| 1.0)
    }

    /// Packs the matrix of a recurrent layer `[gates · hidden, in]`: a panel has all gates of eight units, gate after gate.
    /// Those that `halved` names have half the scale: their sigmoid is a hyperbolic tangent of half the argument.
    pub(super) fn gated(matrix: &Matrix8, gates: usize, halved: impl Fn(usize) -> bool) -> Self {
        let hidden = matrix.outputs() / gates.max(1);
        let column = |at: usize| {
            let (panel, gate, lane) = (at / (gates * LANES), at / LANES % gates, at % LANES);
            let unit = panel * LANES + lane;
            (unit < hidden).then_some(gate * hidden + unit)
        };
        let factor = |at: usize| if halved(at / LANES % gates) { 0.5 } else { 1.0 };
        Self::pack(matrix, gates, hidden.div_ceil(LANES), column, factor)
    }

    /// `column` gives the matrix's row for each place of the panels.
    fn pack(
        matrix: &Matrix8,
        vectors: usize,
        panels: usize,
        column: impl Fn(usize) -> Option<usize>,
        factor: impl Fn(usize) -> f32,
    ) -> Self {
        let inputs = matrix.inputs();
        let (groups, places) = (inputs.div_ceil(GROUP), panels * vectors * LANES);
        let mut lines = vec![Line([0; GROUP * LANES]); panels * vectors * groups];
        let (mut scales, mut sums) = (vec![0.0; places], vec![0; places]);
        for at in 0..places {
            let Some(row) = column(at) else { continue };
            let (panel, vector, lane) = (at / (vectors * LANES), at / LANES % vectors, at % LANES);
            let values = matrix.row(row);
            scales[at] = matrix.scale(row) * factor(at);
            sums[at] = values.iter().map(|value| i32::from(*value)).sum();
            for (group, values) in values.chunks(GROUP).enumerate() {
                let line = &mut lines[(panel * groups + group) * vectors + vector].0;
                for (i, value) in values.iter().enumerate() {
                    line[i / 4 * 4 * LANES + lane * 4 + i % 4] = *value;
                }
            }
        }
        Self { inputs, columns: matrix.outputs(), vectors, groups, lines, scales, sums }
    }

    /// `values`, one for each row of the matrix, in the order of the panels, as often halved.
    pub(super) fn arranged(&self, values: &[f32], halved: impl Fn(usize) -> bool) -> Vec<f32> {
        let gates = self.vectors;
        let hidden = self.columns / gates;
        (0..self.scales.len())
            .map(|at| {
                let (panel, gate, lane) = (at / (gates * LANES), at / LANES % gates, at % LANES);
                let unit = panel * LANES + lane;
                let value = if unit < hidden { values[gate * hidden + unit] } else { 0.0 };
                if halved(gate) { 0.5 * value } else { value }
            })
            .collect()
    }

    /// Length of the inner dimension.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of the result.
    #[inline(always)]
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Columns with those that fill the last panel up.
    pub(super) fn width(&self) -> usize {
        self.scales.len()
    }

    /// Panels.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.scales.len() / (self.vectors * LANES).max(1)
    }

    #[inline(always)]
    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    #[inline(always)]
    pub(super) fn values(&self, panel: usize) -> *const i8 {
        self.lines.as_ptr().wrapping_add(panel * self.groups * self.vectors).cast()
    }

    #[inline(always)]
    pub(super) fn scales(&self, panel: usize) -> *const f32 {
        self.scales[panel * self.vectors * LANES..].as_ptr()
    }

    #[inline(always)]
    pub(super) fn sums(&self, panel: usize) -> *const i32 {
        self.sums[panel * self.vectors * LANES..].as_ptr()
    }

    /// Bytes of memory it holds.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&*self.scales) + size_of_val(&*self.sums)
    }
}
