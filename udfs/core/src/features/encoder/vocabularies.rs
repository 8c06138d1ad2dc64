//! What the ids of an encoder mean, for carrying learned tables over to another encoder.

use super::{Encoder, FeatureKind, Source};
use crate::features::vocabulary::{FIRST_ID, Vocabulary};

/// The ids of one categorical feature or token field.
#[derive(Debug, Clone, Copy)]
pub struct FeatureVocabulary<'a> {
    /// Stable name of the feature.
    pub feature: &'a str,
    /// [`FeatureKind::Categorical`], [`FeatureKind::Token`] or [`FeatureKind::Text`].
    pub kind: FeatureKind,
    /// Its place among the features of its kind.
    pub index: usize,
    /// Number of ids.
    pub size: usize,
    /// The strings; `None` for fields whose ids are buckets.
    known: Option<&'a Vocabulary>,
}

impl<'a> FeatureVocabulary<'a> {
    /// The name of the table that networks keep for it.
    #[must_use]
    pub fn table(&self) -> String {
        match self.kind {
            FeatureKind::Token => format!("tokens.{}.weight", self.index),
            FeatureKind::Text => format!("text.{}.tokens.weight", self.index),
            _ => format!("categorical.{}.weight", self.index),
        }
    }

    /// The string of an id; `None` for ids that stand for no string.
    #[must_use]
    pub fn text(&self, id: usize) -> Option<&'a str> {
        self.known.and_then(|known| known.get(u32::try_from(id).ok()?))
    }

    /// Every id that stands for a string.
    pub fn strings(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let known = self.known.into_iter().flat_map(Vocabulary::iter);
        known.enumerate().map(|(at, text)| (at + FIRST_ID as usize, text))
    }
}

impl Encoder {
    /// The same encoder with smaller vocabularies: `kept` has for each of [`vocabularies`](Self::vocabularies) the ids whose
    /// strings stay, ascending. All other strings become unseen, and the ids close ranks.
    #[must_use]
    pub fn knowing_only(&self, kept: &[Vec<u32>]) -> Self {
        let mut own = self.clone();
        let mut kept = kept.iter();
        let mut cut = |vocabulary: &mut Vocabulary| {
            if let Some(ids) = kept.next() {
                let known: Vec<String> = ids.iter().filter_map(|id| vocabulary.get(*id)).map(str::to_owned).collect();
                *vocabulary = Vocabulary::from(known);
            }
        };
        for (feature, size) in own.categorical.iter_mut().zip(&mut own.shape.categorical) {
            cut(&mut feature.vocabulary);
            *size = feature.vocabulary.size();
        }
        if let Source::Events(plan) = &mut own.source
            && let Some(plan) = &mut plan.sequence
        {
            [&mut plan.events, &mut plan.items, &mut plan.categories].into_iter().flatten().for_each(cut);
            own.shape.sequence = Some(plan.shape());
        }
        own
    }

    /// The vocabularies of all categorical features, then of all token fields, then of all texts, in their arrays' order.
    #[must_use]
    pub fn vocabularies(&self) -> Vec<FeatureVocabulary<'_>> {
        let categorical = self.categorical.iter().enumerate().map(|(index, feature)| FeatureVocabulary {
            feature: &feature.name,
            kind: FeatureKind::Categorical,
            index,
            size: feature.vocabulary.size(),
            known: Some(&feature.vocabulary),
        });
        let mut all: Vec<FeatureVocabulary<'_>> = categorical.collect();
        if let Source::Events(plan) = &self.source
            && let Some(plan) = &plan.sequence
        {
            let strings = [("seq_event", &plan.events), ("seq_item", &plan.items), ("seq_category", &plan.categories)];
            let known = strings.into_iter().filter_map(|(name, known)| known.as_ref().map(|known| (name, Some(known))));
            let buckets = [("seq_gap", plan.gap), ("seq_hour", plan.hour)].into_iter().filter(|(_, there)| *there);
            let fields = known.chain(buckets.map(|(name, _)| (name, None)));
            let sizes = plan.shape().fields;
            all.extend(fields.zip(sizes).enumerate().map(|(index, ((feature, known), size))| FeatureVocabulary {
                feature,
                kind: FeatureKind::Token,
                index,
                size,
                known,
            }));
        }
        all.extend(self.attachments().1.iter().enumerate().map(|(index, text)| FeatureVocabulary {
            feature: &text.column,
            kind: FeatureKind::Text,
            index,
            size: text.shape().vocabulary,
            known: Some(&text.vocabulary),
        }));
        all
    }
}
