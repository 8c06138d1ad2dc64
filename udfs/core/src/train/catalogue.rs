//! Classes that are items: which of them, how often each is taken, and what the events of the source say about them.

use std::collections::HashMap;

use crate::features::Encoder;
use crate::features::encoder::FeatureKind;
use crate::features::inputs::{InputShape, Inputs};
use crate::features::target::{NONE_CLASS, OTHER_CLASS};
use crate::models::{CatalogueShape, Parameters};

/// Whether each class is an item: all but [`NONE_CLASS`] and [`OTHER_CLASS`].
#[must_use]
pub fn are_items(classes: &[String]) -> Vec<bool> {
    classes.iter().map(|class| class != NONE_CLASS && class != OTHER_CLASS).collect()
}

/// The class of items outside the catalogue, if there is one.
#[must_use]
pub fn other_class(classes: &[String]) -> Option<u32> {
    classes.iter().position(|class| class == OTHER_CLASS).map(|class| class as u32)
}

/// The items of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    /// Where steps name items; `None` when the steps do not (`exclude` has `seq_item`).
    pub shape: Option<CatalogueShape>,
    /// The item token of each class; 0 for classes that are no items or have no token.
    pub tokens: Vec<u32>,
    /// Whether each class is an item.
    pub is_item: Vec<bool>,
    /// The class of items outside the catalogue.
    pub other: Option<u32>,
}

impl Catalogue {
    /// The items among `classes`, as `encoder` writes them into steps.
    #[must_use]
    pub fn new(encoder: &Encoder, classes: &[String]) -> Self {
        let (is_item, other) = (are_items(classes), other_class(classes));
        let fields = encoder.vocabularies();
        let field = |name: &str| fields.iter().find(|field| field.kind == FeatureKind::Token && field.feature == name);
        let steps: Vec<_> = encoder.feature_names().into_iter().filter(|feature| feature.kind == FeatureKind::Step).collect();
        let Some(items) = field("seq_item") else { return Self { shape: None, tokens: vec![0; classes.len()], is_item, other } };
        let shape = CatalogueShape {
            item_field: items.index,
            category_field: field("seq_category").map(|field| field.index),
            price_number: steps.iter().position(|step| step.name == "seq_value"),
        };
        let ids: HashMap<&str, usize> = items.strings().map(|(id, text)| (text, id)).collect();
        let token = |(class, is_item): (&String, &bool)| ids.get(class.as_str()).filter(|_| *is_item).map_or(0, |id| *id as u32);
        Self { shape: Some(shape), tokens: classes.iter().zip(&is_item).map(token).collect(), is_item, other }
    }

    /// Gives the item tower what the training rows' events say of each item: its most frequent category (of equals the
    /// smallest id) and its mean price, as far as the network asks for them.
    pub(super) fn describe(&self, shape: &InputShape, inputs: &Inputs, train: &[u32], parameters: &mut Parameters) {
        let wanted = |name: &str| parameters.0.contains_key(name);
        let (Some(own), Some(sequence), Some(steps)) = (self.shape, &shape.sequence, &inputs.sequence) else { return };
        if !wanted("items.category") && !wanted("items.price") {
            return;
        }
        let (fields, numbers) = (sequence.fields.len(), sequence.numeric);
        let tokens = sequence.fields.get(own.item_field).copied().unwrap_or(0);
        let mut votes: HashMap<(u32, u32), u32> = HashMap::new();
        let (mut sums, mut counts) = (vec![0f64; tokens], vec![0u32; tokens]);
        for step in known_steps(steps.spans.as_slice(), train) {
            let item = steps.tokens[step * fields + own.item_field];
            if let Some(field) = own.category_field {
                *votes.entry((item, steps.tokens[step * fields + field])).or_default() += 1;
            }
            if let Some(price) = own.price_number {
                sums[item as usize] += f64::from(steps.numeric[step * numbers + price]);
                counts[item as usize] += 1;
            }
        }
        let mut category = vec![(0u32, 0u32); tokens];
        let mut sorted: Vec<((u32, u32), u32)> = votes.into_iter().collect();
        sorted.sort_unstable();
        for ((item, of), count) in sorted {
            let best = &mut category[item as usize];
            if count > best.0 {
                *best = (count, of);
            }
        }
        // Token 0 is no item: a class without a token has no category and a usual price.
        let by_class = |value: &dyn Fn(usize) -> f32| -> Vec<f32> {
            self.tokens.iter().map(|token| if *token == 0 { 0.0 } else { value(*token as usize) }).collect()
        };
        if let Some((_, values)) = parameters.0.get_mut("items.category") {
            *values = by_class(&|token| category[token].1 as f32);
        }
        if let Some((_, values)) = parameters.0.get_mut("items.price") {
            *values = by_class(&|token| (sums[token] / f64::from(counts[token].max(1))) as f32);
        }
    }
}

/// The steps that some of `rows` read, each once, ascending.
pub(super) fn known_steps(spans: &[(u32, u32)], rows: &[u32]) -> impl Iterator<Item = usize> + use<> {
    let mut ranges: Vec<(u32, u32)> = rows.iter().map(|row| spans[*row as usize]).map(|(start, len)| (start, start + len)).collect();
    ranges.sort_unstable();
    let mut next = 0;
    ranges
        .into_iter()
        .flat_map(move |(start, end)| {
            let from = start.max(next);
            next = next.max(end);
            from..end.max(from)
        })
        .map(|step| step as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_met_once() {
        let spans = [(0, 3), (1, 4), (10, 2), (0, 0)];
        assert_eq!(known_steps(&spans, &[1, 0, 2, 3]).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 10, 11]);
        assert_eq!(known_steps(&spans, &[]).count(), 0);
    }

    #[test]
    fn the_two_classes_of_nothing_are_no_items() {
        let classes = ["a".to_owned(), "none".into(), "other".into()];
        assert_eq!((are_items(&classes), other_class(&classes)), (vec![true, false, false], Some(2)));
    }
}
