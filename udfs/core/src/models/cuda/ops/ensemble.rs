//! Ensembles that share their matrices, and piecewise-linear embeddings of numbers.

use std::sync::Arc;

use super::number;
use crate::error::{Error, Result};
use crate::models::cuda::backend::Product;
use crate::models::cuda::device::{plain, turned};
use crate::models::cuda::tape::{DeviceTape, Sink};
use crate::models::ops::{Activation, EnsembleWeights, Var};

impl DeviceTape {
    /// See [`crate::models::ops::batch_ensemble`].
    ///
    /// # Errors
    /// As there, and `OutOfMemory`.
    pub fn batch_ensemble(&self, x: &Var, rows: usize, weights: &EnsembleWeights<'_>, activation: Activation, rate: f32) -> Result<Var> {
        let ((x_rows, inputs), (outputs, weight_inputs)) = (x.dims2()?, weights.weight.dims2()?);
        let members = weights.scale_in.dims2()?.0;
        let all = rows * members;
        if weight_inputs != inputs
            || weights.scale_in.dims() != [members, inputs]
            || weights.scale_out.dims() != [members, outputs]
            || weights.bias.dims() != [members, outputs]
            || (x_rows != rows && x_rows != all)
        {
            return Err(Error::internal("batch_ensemble: the weights do not fit the input"));
        }
        let mask = self.mask(rate, rows, members)?;
        if mask.is_some() && activation != Activation::Relu {
            return Err(Error::internal("batch_ensemble: dropout on a device needs a relu"));
        }
        let device = Arc::clone(&self.device);
        let [x_array, w, scale_in, scale_out] =
            [x.array()?, weights.weight.array()?, weights.scale_in.array()?, weights.scale_out.array()?].map(Clone::clone);
        let (shared, kind) = (x_rows == rows, number(activation));
        let (scaled, z, y) = (device.array(all * inputs)?, device.array(all * outputs)?, device.array(all * outputs)?);
        let addresses = [x_array.at(), scale_in.at(), scaled.at()];
        device.each("scale_members", all * inputs, &addresses, &[all, inputs, members, usize::from(shared)], &[])?;
        device.multiply([all, outputs, inputs], plain(scaled.at(), inputs), turned(w.at(), inputs), (z.at(), outputs), false)?;
        let mut counts = vec![all, outputs, members, kind, usize::from(mask.is_some())];
        let (mut shards, mut survivors) = ([0; 2], 1.0);
        if let Some(mask) = mask {
            counts.extend(mask.counts);
            (shards, survivors) = (mask.shards, mask.scale);
        }
        let addresses = [z.at(), scale_out.at(), weights.bias.array()?.at(), y.at(), shards[0], shards[1]];
        device.each("finish_members", all * outputs, &addresses, &counts, &[survivors])?;
        let parents = [x, weights.weight, weights.scale_in, weights.scale_out, weights.bias];
        let saved_y = y.clone();
        self.record(&[all, outputs], y, &parents, move |gradient, sink: &mut Sink<'_>| {
            let (before, d_z) = (device.array(all * outputs)?, device.array(all * outputs)?);
            let addresses = [gradient.at(), saved_y.at(), scale_out.at(), before.at(), d_z.at()];
            device.each("finish_members_back", all * outputs, &addresses, &[all, outputs, members, kind], &[survivors])?;
            let d_scaled = device.array(all * inputs)?;
            device.multiply([all, inputs, outputs], plain(d_z.at(), outputs), plain(w.at(), inputs), (d_scaled.at(), inputs), false)?;
            if let Some((to, held)) = sink.target(0, x_rows * inputs)? {
                let counts = [x_rows, inputs, members, usize::from(shared), usize::from(held)];
                device.each("scale_members_back", x_rows * inputs, &[d_scaled.at(), scale_in.at(), to], &counts, &[])?;
            }
            if let Some((to, held)) = sink.target(1, outputs * inputs)? {
                device.multiply([outputs, inputs, all], turned(d_z.at(), outputs), plain(scaled.at(), inputs), (to, inputs), held)?;
            }
            // Rows of all members side by side: a column for each member's own parameter.
            let (in_width, out_width) = (members * inputs, members * outputs);
            if let Some(to) = sink.target(2, in_width)? {
                let x = (x_array.at(), if shared { inputs } else { in_width }, 1);
                device.sum_columns([rows, in_width], d_scaled.at(), Some(x), to)?;
            }
            if let Some(to) = sink.target(3, out_width)? {
                device.sum_columns([rows, out_width], before.at(), Some((z.at(), out_width, 1)), to)?;
            }
            match sink.target(4, out_width)? {
                Some(to) => device.sum_columns([rows, out_width], before.at(), None, to),
                None => Ok(()),
            }
        })
    }

    /// See [`crate::models::ops::member_linear`].
    ///
    /// # Errors
    /// As there, and `OutOfMemory`.
    pub fn member_linear(&self, x: &Var, weight: &Var, bias: &Var) -> Result<Var> {
        let (all, inputs) = x.dims2()?;
        let &[members, outputs, weight_inputs] = weight.dims() else { return Err(Error::internal("member_linear: no weights")) };
        if weight_inputs != inputs || bias.dims() != [members, outputs] || all % members.max(1) != 0 {
            return Err(Error::internal("member_linear: the weights do not fit the input"));
        }
        let rows = all / members.max(1);
        let device = Arc::clone(&self.device);
        let (x_array, w, y) = (x.array()?.clone(), weight.array()?.clone(), device.array(all * outputs)?);
        // A member's rows lie `members` rows apart.
        let of_member = move |address: u64, width: usize| plain(address, members * width).every(width);
        let of_weight = move |address: u64| plain(address, inputs).every(outputs * inputs);
        device.multiply_batch(Product {
            m: rows,
            n: outputs,
            k: inputs,
            a: of_member(x_array.at(), inputs),
            b: of_weight(w.at()).turned(),
            c: of_member(y.at(), outputs),
            held: false,
            batch: members,
        })?;
        let addresses = [y.at(), bias.array()?.at()];
        device.each("bias_activation", all * outputs, &addresses, &[all * outputs, members * outputs, 0], &[])?;
        self.record(&[all, outputs], y, &[x, weight, bias], move |gradient, sink: &mut Sink<'_>| {
            let d = of_member(gradient.at(), outputs);
            if let Some((to, held)) = sink.target(0, all * inputs)? {
                let (b, c) = (of_weight(w.at()), of_member(to, inputs));
                device.multiply_batch(Product { m: rows, n: inputs, k: outputs, a: d, b, c, held, batch: members })?;
            }
            if let Some((to, held)) = sink.target(1, members * outputs * inputs)? {
                let (b, c) = (of_member(x_array.at(), inputs), of_weight(to));
                device.multiply_batch(Product { m: outputs, n: inputs, k: rows, a: d.turned(), b, c, held, batch: members })?;
            }
            match sink.target(2, members * outputs)? {
                Some(to) => device.sum_columns([rows, members * outputs], gradient.at(), None, to),
                None => Ok(()),
            }
        })
    }

    /// See [`crate::models::ops::piecewise_linear`]; the numbers themselves get no gradient.
    ///
    /// # Errors
    /// As there, and `OutOfMemory`.
    pub fn piecewise_linear(&self, x: &Var, edges: &Var, weight: &Var, linear: &Var, bias: &Var) -> Result<Var> {
        let (rows, features) = x.dims2()?;
        let &[_, bins, width] = weight.dims() else { return Err(Error::internal("piecewise_linear: no weights")) };
        if edges.dims() != [features, bins + 1]
            || weight.dims() != [features, bins, width]
            || linear.dims() != [features, width]
            || bias.dims() != [features, width]
            || x.node().is_some()
        {
            return Err(Error::internal("piecewise_linear: the weights do not fit the input"));
        }
        let device = Arc::clone(&self.device);
        let (places, fills, y) = (device.array(rows * features)?, device.array(rows * features)?, device.array(rows * features * width)?);
        let x_array = x.array()?.clone();
        let addresses = [x_array.at(), edges.array()?.at(), places.at(), fills.at()];
        device.each("find_bins", rows * features, &addresses, &[rows, features, bins], &[])?;
        let [w, l, b] = [weight.array()?.at(), linear.array()?.at(), bias.array()?.at()];
        let counts = [rows, features, bins, width];
        device.each("piecewise", rows * features * width, &[x_array.at(), w, l, b, places.at(), fills.at(), y.at()], &counts, &[])?;
        self.record(&[rows, features * width], y, &[x, weight, linear, bias], move |gradient, sink: &mut Sink<'_>| {
            if let Some((to, held)) = sink.target(1, features * bins * width)? {
                let addresses = [gradient.at(), places.at(), fills.at(), to];
                let counts = [rows, features, bins, width, usize::from(held)];
                device.each("piecewise_back", features * bins * width, &addresses, &counts, &[])?;
            }
            if let Some(to) = sink.target(2, features * width)? {
                device.sum_columns([rows, features * width], gradient.at(), Some((x_array.at(), features, width)), to)?;
            }
            match sink.target(3, features * width)? {
                Some(to) => device.sum_columns([rows, features * width], gradient.at(), None, to),
                None => Ok(()),
            }
        })
    }
}
