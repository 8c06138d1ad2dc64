//! Transfer learning: weights of another model as a start, and parameters that stay as they were given.
//!
//! Tensors are copied where name and shape agree; rows of look-up tables by the string they stand for, so that another
//! vocabulary costs only the strings that are new. The last layer is copied only when the classes are the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::features::Encoder;
use crate::features::options::Freeze;
use crate::models::architecture::ParameterSpec;
use crate::models::{Architecture, NetworkConfig, Parameters};

/// A model to start from.
#[derive(Debug, Clone, Copy)]
pub struct WarmStart<'a> {
    /// Its network.
    pub config: &'a NetworkConfig,
    /// Its weights.
    pub parameters: &'a Parameters,
    /// What its vocabularies mean; `None` = the same as now.
    pub encoder: Option<&'a Encoder>,
    /// Its classes; empty for numbers.
    pub classes: &'a [String],
}

/// A table of the new network and where its rows come from.
#[derive(Debug, Clone, PartialEq)]
struct Table {
    /// The old table's name.
    from: String,
    /// By new id: the old id of the same string.
    rows: Vec<Option<usize>>,
}

/// A model to start from, matched with the data that is learned from now.
#[derive(Debug)]
pub(super) struct Transfer<'a> {
    config: &'a NetworkConfig,
    parameters: &'a Parameters,
    tables: Option<BTreeMap<String, Table>>,
    same_classes: bool,
}

/// How the weights of one fit start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start<'a> {
    pub(super) warm: Option<&'a Transfer<'a>>,
    pub(super) freeze: &'a Freeze,
}

/// What became of the start.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Parameters that are not to move.
    pub(super) frozen: BTreeSet<String>,
    /// What a person should know; `None` for a start from nothing.
    pub(super) note: Option<String>,
}

impl<'a> Transfer<'a> {
    /// Matches `warm` with the encoder and classes of today's data.
    pub(super) fn new(warm: WarmStart<'a>, encoder: Option<&Encoder>, classes: &[String], task_is_same: bool) -> Self {
        let tables = warm.encoder.zip(encoder).map(|(old, new)| tables(old, new));
        Self { config: warm.config, parameters: warm.parameters, tables, same_classes: task_is_same && warm.classes == classes }
    }

    pub(super) fn architecture(&self) -> Architecture {
        self.config.architecture
    }

    /// Copies into one parameter what it can: the rows copied, of how many; `None` = nothing.
    fn copy(&self, spec: &ParameterSpec, values: &mut [f32]) -> Option<(usize, usize)> {
        let of_classes = ["output.", "items.", "history."].iter().any(|prefix| spec.name.starts_with(prefix));
        let head = of_classes || self.config.architecture == Architecture::Logreg;
        if (head && !self.same_classes) || is_of_data(&spec.name) {
            return None;
        }
        let rows = spec.shape.first().copied().unwrap_or(1);
        if let Some(tables) = self.tables.as_ref().filter(|_| is_table(&spec.name)) {
            let table = tables.get(&spec.name)?;
            let (shape, old) = self.parameters.0.get(&table.from)?;
            let width = values.len() / rows.max(1);
            if shape.len() != spec.shape.len() || shape[1..] != spec.shape[1..] {
                return None;
            }
            let mut copied = 0;
            for (row, from) in values.chunks_exact_mut(width.max(1)).zip(&table.rows) {
                let found = from.and_then(|from| old.get(from * width..(from + 1) * width));
                if let Some(found) = found {
                    row.copy_from_slice(found);
                    copied += 1;
                }
            }
            return (copied > 0).then_some((copied, rows));
        }
        let (shape, old) = self.parameters.0.get(&spec.name)?;
        if *shape != spec.shape || old.len() != values.len() {
            return None;
        }
        values.copy_from_slice(old);
        Some((rows, rows))
    }
}

/// Whether a parameter is a look-up table.
pub(super) fn is_table(name: &str) -> bool {
    name.starts_with("tokens.") || name.starts_with("categorical.") || (name.starts_with("text.") && name.ends_with(".tokens.weight"))
}

/// Whether a parameter means what today's data say: how rare words are, and the ids that the wide part remembers.
fn is_of_data(name: &str) -> bool {
    name.starts_with("wide.") || name.ends_with(".rarity")
}

/// The tables of the network over `new`, and which rows of `old`'s they take.
fn tables(old: &Encoder, new: &Encoder) -> BTreeMap<String, Table> {
    let old = old.vocabularies();
    let matched = new.vocabularies().into_iter().filter_map(|own| {
        let from = old.iter().find(|old| old.feature == own.feature && old.kind == own.kind)?;
        let by_text: BTreeMap<&str, usize> = from.strings().map(|(id, text)| (text, id)).collect();
        let rows = (0..own.size)
            .map(|id| match own.text(id) {
                Some(text) => by_text.get(text).copied(),
                // Ids without a string (NULL, unseen, buckets of time) mean the same everywhere.
                None => (id < from.size && from.text(id).is_none()).then_some(id),
            })
            .collect();
        Some((own.table(), Table { from: from.table(), rows }))
    });
    matched.collect()
}

impl Start<'_> {
    /// Changes the first values of a network's parameters, and says which of them stay.
    ///
    /// # Errors
    /// `InvalidParameter` when `freeze` names no parameter, or leaves none to learn.
    pub(super) fn apply(&self, specs: &[ParameterSpec], parameters: &mut Parameters) -> Result<Applied> {
        let Some(warm) = self.warm else { return Ok(Applied::default()) };
        let (mut copied, mut rows, mut rows_of) = (BTreeSet::new(), 0, 0);
        for spec in specs {
            let Some((_, values)) = parameters.0.get_mut(&spec.name) else { continue };
            if is_table(&spec.name) {
                rows_of += spec.shape.first().copied().unwrap_or(0);
            }
            if let Some((some, _)) = warm.copy(spec, values) {
                copied.insert(spec.name.as_str());
                if is_table(&spec.name) {
                    rows += some;
                }
            }
        }
        let frozen = self.frozen(specs, &copied)?;
        let mut note = format!("started from given weights: {} of {} parameters were copied", copied.len(), specs.len());
        if rows_of > 0 {
            note.push_str(&format!(", {rows} of {rows_of} vocabulary rows among them"));
        }
        if !frozen.is_empty() {
            note.push_str(&format!("; {} stayed frozen", frozen.len()));
        }
        Ok(Applied { frozen, note: Some(note) })
    }

    fn frozen(&self, specs: &[ParameterSpec], copied: &BTreeSet<&str>) -> Result<BTreeSet<String>> {
        let head = |name: &str| name.starts_with("output.") || name.starts_with("head.");
        let names = || specs.iter().map(|spec| spec.name.as_str());
        let frozen: BTreeSet<String> = match self.freeze {
            Freeze::AllButHead(false) => BTreeSet::new(),
            Freeze::AllButHead(true) => names().filter(|name| copied.contains(name) && !head(name)).map(str::to_owned).collect(),
            Freeze::Prefixes(prefixes) => {
                let meant = |prefix: &str, name: &str| name.starts_with(prefix) || (prefix == "embedding" && is_table(name));
                if let Some(prefix) = prefixes.iter().find(|prefix| !names().any(|name| meant(prefix, name))) {
                    let mut parts: Vec<&str> = names().filter_map(|name| name.split('.').next()).collect();
                    parts.dedup();
                    return Err(Error::invalid(format!("no parameter starts with \"{prefix}\" in freeze"))
                        .detail(format!("The parameters start with {}; \"embedding\" stands for all look-up tables.", parts.join(", "))));
                }
                names().filter(|name| prefixes.iter().any(|prefix| meant(prefix, name))).map(str::to_owned).collect()
            }
        };
        let learned = || specs.iter().filter(|spec| spec.trainable);
        if learned().next().is_some() && learned().all(|spec| frozen.contains(&spec.name)) {
            return Err(Error::invalid("freeze leaves nothing to learn"));
        }
        Ok(frozen)
    }
}
