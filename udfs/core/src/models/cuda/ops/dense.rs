//! Dense layers, layer normalisation, dropout and putting values together.

use super::number;
use crate::error::{Error, Result};
use crate::models::cuda::device::{plain, turned};
use crate::models::cuda::tape::{DeviceTape, Sink};
use crate::models::ops::{Activation, Philox, Var};

/// What the kernels of dropout are told, from the number of members on.
pub(super) struct Mask {
    /// Members, place on the tape, stream, step, key, threshold.
    pub(super) counts: [usize; 7],
    /// Where shards and places of the rows lie.
    pub(super) shards: [u64; 2],
    /// What survivors are multiplied with.
    pub(super) scale: f32,
}

impl DeviceTape {
    /// `None` when nothing is silenced. For `rows` rows of `members` members each.
    pub(super) fn mask(&self, rate: f32, rows: usize, members: usize) -> Result<Option<Mask>> {
        let threshold = (f64::from(rate).clamp(0.0, 0.99) * 65_536.0) as usize;
        if !self.is_recording() || threshold == 0 {
            return Ok(None);
        }
        let [key_0, key_1, stream, step] = Philox::words(self.random).map(|word| word as usize);
        let counts = [members, self.position(), stream, step, key_0, key_1, threshold];
        let scale = (65_536.0 / (65_536 - threshold) as f64) as f32;
        Ok(Some(Mask { counts, shards: self.shards(rows)?, scale }))
    }

    /// See [`crate::models::ops::dropout`].
    ///
    /// # Errors
    /// As [`DeviceTape::constant`], like all below.
    pub fn dropout(&self, x: &Var, rate: f32) -> Result<Var> {
        let (rows, width) = x.dims2()?;
        let Some(mask) = self.mask(rate, rows, 1)? else { return Ok(x.clone()) };
        let run = move |device: &super::super::Device, from: u64, to: u64, held: bool| {
            let mut counts = vec![rows, width, usize::from(held)];
            counts.extend(mask.counts);
            device.each("dropout", rows * width, &[from, to, mask.shards[0], mask.shards[1]], &counts, &[mask.scale])
        };
        let y = self.device.array(rows * width)?;
        run(&self.device, x.array()?.at(), y.at(), false)?;
        let device = std::sync::Arc::clone(&self.device);
        self.record(x.dims(), y, &[x], move |gradient, sink: &mut Sink<'_>| match sink.target(0, rows * width)? {
            Some((to, held)) => run(&device, gradient.at(), to, held),
            None => Ok(()),
        })
    }

    /// See [`crate::models::ops::linear`].
    ///
    /// # Errors
    /// As [`DeviceTape::dropout`].
    pub fn linear(&self, x: &Var, weight: &Var, bias: Option<&Var>, activation: Activation) -> Result<Var> {
        let ((rows, inputs), (outputs, weight_inputs)) = (x.dims2()?, weight.dims2()?);
        if weight_inputs != inputs || bias.is_some_and(|bias| bias.dims() != [outputs]) {
            return Err(Error::internal(format!("linear: input {:?} does not fit weight {:?}", x.dims(), weight.dims())));
        }
        let device = std::sync::Arc::clone(&self.device);
        let (x_array, w) = (x.array()?.clone(), weight.array()?.clone());
        let y = device.array(rows * outputs)?;
        device.multiply([rows, outputs, inputs], plain(x_array.at(), inputs), turned(w.at(), inputs), (y.at(), outputs), false)?;
        if bias.is_some() || activation != Activation::Identity {
            let bias = bias.map(Var::array).transpose()?.map_or(0, |bias| bias.at());
            device.each("bias_activation", rows * outputs, &[y.at(), bias], &[rows * outputs, outputs, number(activation)], &[])?;
        }
        let parents: Vec<&Var> = [Some(x), Some(weight), bias].into_iter().flatten().collect();
        let saved_y = y.clone();
        self.record(&[rows, outputs], y, &parents, move |gradient, sink: &mut Sink<'_>| {
            let dy = if activation == Activation::Identity {
                gradient.clone()
            } else {
                let dy = device.array(rows * outputs)?;
                let addresses = [gradient.at(), saved_y.at(), dy.at()];
                device.each("activation_back", rows * outputs, &addresses, &[rows * outputs, number(activation)], &[])?;
                dy
            };
            if let Some((to, held)) = sink.target(0, rows * inputs)? {
                device.multiply([rows, inputs, outputs], plain(dy.at(), outputs), plain(w.at(), inputs), (to, inputs), held)?;
            }
            if let Some((to, held)) = sink.target(1, outputs * inputs)? {
                device.multiply([outputs, inputs, rows], turned(dy.at(), outputs), plain(x_array.at(), inputs), (to, inputs), held)?;
            }
            match sink.target(2, outputs)? {
                Some(to) => device.sum_columns([rows, outputs], dy.at(), None, to),
                None => Ok(()),
            }
        })
    }

    /// See [`crate::models::ops::layer_norm`].
    ///
    /// # Errors
    /// As [`DeviceTape::dropout`].
    pub fn layer_norm(&self, x: &Var, weight: &Var, bias: &Var) -> Result<Var> {
        let (rows, width) = x.dims2()?;
        if width == 0 || weight.dims() != [width] || bias.dims() != [width] {
            return Err(Error::internal(format!("layer_norm: input {:?} does not fit weight {:?}", x.dims(), weight.dims())));
        }
        let device = std::sync::Arc::clone(&self.device);
        let (y, normal, scales) = (device.array(rows * width)?, device.array(rows * width)?, device.array(rows)?);
        let w = weight.array()?.clone();
        let addresses = [x.array()?.at(), w.at(), bias.array()?.at(), y.at(), normal.at(), scales.at()];
        device.rows("layer_norm", (rows, width, 2), &addresses, &[rows, width], &[])?;
        self.record(&[rows, width], y, &[x, weight, bias], move |gradient, sink: &mut Sink<'_>| {
            if let Some((to, held)) = sink.target(0, rows * width)? {
                let addresses = [gradient.at(), normal.at(), scales.at(), w.at(), to];
                device.rows("layer_norm_back", (rows, width, 2), &addresses, &[rows, width, usize::from(held)], &[])?;
            }
            if let Some(to) = sink.target(1, width)? {
                device.sum_columns([rows, width], gradient.at(), Some((normal.at(), width, 1)), to)?;
            }
            match sink.target(2, width)? {
                Some(to) => device.sum_columns([rows, width], gradient.at(), None, to),
                None => Ok(()),
            }
        })
    }

    /// See [`crate::models::ops::add`].
    ///
    /// # Errors
    /// As [`DeviceTape::dropout`].
    pub fn add(&self, a: &Var, b: &Var) -> Result<Var> {
        if a.dims() != b.dims() {
            return Err(Error::internal("add: shapes differ"));
        }
        let len = a.array()?.len();
        let y = self.device.array(len)?;
        self.device.each("add", len, &[a.array()?.at(), b.array()?.at(), y.at()], &[len], &[])?;
        self.record(a.dims(), y, &[a, b], |gradient, sink: &mut Sink<'_>| {
            sink.pass(0, gradient)?;
            sink.pass(1, gradient)
        })
    }

    /// See [`crate::models::ops::concat`].
    ///
    /// # Errors
    /// As [`DeviceTape::dropout`].
    pub fn concat(&self, parts: &[Var]) -> Result<Var> {
        if let [only] = parts {
            return Ok(only.clone());
        }
        let rows = parts.first().ok_or_else(|| Error::internal("concat: no parts"))?.dims2()?.0;
        let mut columns = Vec::with_capacity(parts.len());
        let mut total = 0;
        for part in parts {
            let (part_rows, width) = part.dims2()?;
            if part_rows != rows {
                return Err(Error::internal("concat: parts differ in rows"));
            }
            columns.push((total, width));
            total += width;
        }
        let device = std::sync::Arc::clone(&self.device);
        let y = device.array(rows * total)?;
        for (part, (offset, width)) in parts.iter().zip(&columns) {
            let counts = [rows, *width, *width, 0, total, *offset, 0];
            device.each("move_columns", rows * width, &[part.array()?.at(), y.at()], &counts, &[])?;
        }
        let parents: Vec<&Var> = parts.iter().collect();
        self.record(&[rows, total], y, &parents, move |gradient, sink: &mut Sink<'_>| {
            for (part, (offset, width)) in columns.iter().enumerate() {
                if let Some((to, held)) = sink.target(part, rows * width)? {
                    let counts = [rows, *width, total, *offset, *width, 0, usize::from(held)];
                    device.each("move_columns", rows * width, &[gradient.at(), to], &counts, &[])?;
                }
            }
            Ok(())
        })
    }

    /// See [`crate::models::ops::mean_groups`].
    ///
    /// # Errors
    /// As [`DeviceTape::dropout`].
    pub fn mean_groups(&self, x: &Var, members: usize) -> Result<Var> {
        let (all, width) = x.dims2()?;
        if members == 0 || all % members != 0 {
            return Err(Error::internal("mean_groups: rows are not a multiple of the group"));
        }
        let rows = all / members;
        let device = std::sync::Arc::clone(&self.device);
        let y = device.array(rows * width)?;
        device.each("mean_groups", rows * width, &[x.array()?.at(), y.at()], &[rows, width, members], &[])?;
        self.record(&[rows, width], y, &[x], move |gradient, sink: &mut Sink<'_>| match sink.target(0, all * width)? {
            Some((to, held)) => {
                let counts = [rows, width, members, usize::from(held)];
                device.each("mean_groups_back", all * width, &[gradient.at(), to], &counts, &[])
            }
            None => Ok(()),
        })
    }
}
