//! Two towers (Covington et al., "Deep neural networks for YouTube recommendations", RecSys 2016; Yi et al.,
//! "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019): a user and an item each
//! become a vector, and what the user takes next is a softmax over their inner products.
//!
//! * User tower: the mean of the history's events and its last event, beside the tabular features of the same moment,
//!   through a dense layer with relu to a dense layer without. Nothing in it depends on the order of older events.
//! * Item tower: a vector of the item's own, plus those of its category and of its price where the source has them, so that
//!   an item that was seen seldom is placed by what it is like.
//! * There is no bias of an item: how popular it is lies in its vector, and nearest neighbours in any vector index find
//!   the same items.
//!
//! With many items the softmax looks at the batch's own items and some drawn evenly (see
//! [`super::ops::linear_cross_entropy`]). Parameter names: those of [`super::events`] and [`super::tabular`],
//! `user.<0|1>.{weight, bias}`, `items.weight`, `categories.weight`, `price.weight`, and, from data, `items.category`,
//! `items.price`.

use std::sync::Arc;

use super::architecture::{Forward, Init, Module, ParameterSpec, TABULAR_SHARD, Weights};
use super::events::EventEmbedding;
use super::ops::{self, Activation, Tape, Var};
use super::tabular::TabularEmbedding;
use super::{Batch, CatalogueShape, NetworkConfig, Parameters};
use crate::error::{Error, Result};
use crate::features::inputs::Inputs;

/// See the module.
#[derive(Debug, Clone)]
pub struct TwoTower {
    events: EventEmbedding,
    tabular: TabularEmbedding,
    catalogue: CatalogueShape,
    /// Ids of the category field.
    categories: Option<usize>,
    hidden_dim: usize,
    items: usize,
    dropout: f32,
}

impl TwoTower {
    /// From a configuration whose shape has a sequence.
    pub fn new(config: &NetworkConfig) -> Self {
        let catalogue = config.catalogue.unwrap_or_default();
        let fields = config.shape.sequence.as_ref().map(|sequence| &sequence.fields);
        Self {
            events: EventEmbedding::new(config),
            tabular: TabularEmbedding::new(config),
            catalogue,
            categories: catalogue.category_field.and_then(|field| fields?.get(field).copied()),
            hidden_dim: config.hidden_dim,
            items: config.outputs,
            dropout: config.dropout,
        }
    }

    fn user(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Var> {
        let packing = Arc::new(EventEmbedding::packing(batch)?);
        let events = self.events.forward(tape, weights, batch, &packing)?;
        let mut parts = vec![ops::mean_steps(tape, &events, &packing)?, ops::last_step(tape, &events, &packing)?];
        parts.extend(self.tabular.forward(tape, weights, batch)?);
        let dense = |x: &Var, layer: usize, activation| {
            let get = |part: &str| weights.get(&format!("user.{layer}.{part}"));
            ops::linear(tape, &ops::dropout(tape, x, self.dropout)?, get("weight")?, Some(get("bias")?), activation)
        };
        dense(&dense(&ops::concat(tape, &parts)?, 0, Activation::Relu)?, 1, Activation::Identity)
    }
}

impl Module for TwoTower {
    fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = self.events.specs();
        specs.extend(self.tabular.specs());
        let (hidden, inputs) = (self.hidden_dim, 2 * self.events.width() + self.tabular.width());
        specs.push(ParameterSpec::matrix("user.0.weight", &[2 * hidden, inputs], inputs));
        specs.push(ParameterSpec::free("user.0.bias", &[2 * hidden], inputs));
        specs.push(ParameterSpec::matrix("user.1.weight", &[hidden, 2 * hidden], 2 * hidden));
        specs.push(ParameterSpec::free("user.1.bias", &[hidden], 2 * hidden));
        specs.push(ParameterSpec::free("items.weight", &[self.items, hidden], hidden));
        let given = |name: &str| ParameterSpec { trainable: false, ..ParameterSpec::free(name, &[self.items], 1).start(Init::Zeros) };
        if let Some(categories) = self.categories {
            specs.push(ParameterSpec::free("categories.weight", &[categories, hidden], hidden));
            specs.push(given("items.category"));
        }
        if self.catalogue.price_number.is_some() {
            specs.push(ParameterSpec::free("price.weight", &[hidden, 1], hidden));
            specs.push(given("items.price"));
        }
        specs
    }

    fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        self.tabular.prepare(inputs, rows, parameters);
    }

    fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward> {
        let user = self.user(tape, weights, batch)?;
        // Without attributes the table is the parameter itself, whose packed form is kept.
        let items = if self.categories.is_none() && self.catalogue.price_number.is_none() {
            weights.get("items.weight")?.clone()
        } else {
            self.items(tape, weights, &(0..self.items as u32).collect())?.0
        };
        let logits = ops::linear(tape, &user, &items, None, Activation::Identity)?;
        Ok(Forward { logits, members: 1, embedding: want_embedding.then_some(user), statistics: Vec::new() })
    }

    fn states(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Option<Var>> {
        self.user(tape, weights, batch).map(Some)
    }

    fn items(&self, tape: &Tape, weights: &Weights, ids: &Arc<[u32]>) -> Result<(Var, Option<Var>)> {
        let mut items = ops::gather(tape, weights.get("items.weight")?, ids)?;
        let given = |name: &str| -> Result<Vec<f32>> {
            let guard = ops::storage::read(weights.get(name)?.value())?;
            let all = guard.slice::<f32>()?;
            ids.iter().map(|id| all.get(*id as usize).copied().ok_or_else(|| Error::internal("an item does not exist"))).collect()
        };
        if self.categories.is_some() {
            let of: Arc<[u32]> = given("items.category")?.into_iter().map(|category| category as u32).collect();
            items = ops::add(tape, &items, &ops::gather(tape, weights.get("categories.weight")?, &of)?)?;
        }
        if self.catalogue.price_number.is_some() {
            let prices = tape.constant(&ops::storage::tensor(given("items.price")?, &[ids.len(), 1])?)?;
            let along = ops::linear(tape, &prices, weights.get("price.weight")?, None, Activation::Identity)?;
            items = ops::add(tape, &items, &along)?;
        }
        Ok((items, None))
    }

    fn has_items(&self) -> bool {
        true
    }

    fn embedding_dim(&self) -> usize {
        self.hidden_dim
    }

    fn shard_rows(&self) -> usize {
        TABULAR_SHARD
    }
}
