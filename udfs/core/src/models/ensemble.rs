//! Several networks as one: each answers by itself, and their answers become one answer.
//!
//! The members' parameters lie in one set, under `members.<at>.` before each name. A combined network is a [`Network`] like
//! any other: whoever scores with it does not know that there are several.

use serde::{Deserialize, Serialize};

use super::architecture::{load as load_one, mean_probabilities};
use super::{Batch, Network, NetworkConfig, Outputs, Parameters, Task};
use crate::error::{Code, Error, Result};

/// Probabilities are taken as at least this where their logarithm is needed.
const PROBABILITY_MIN: f64 = 1e-7;

/// How answers become one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// The mean of probabilities or values (Breiman, 1996).
    Mean,
    /// `Σ weight · ln probability` of each class, or `Σ weight · value` (Wolpert, 1992); one weight per member, none below 0.
    Weighted(Vec<f64>),
}

/// The networks of an ensemble and how they answer together; with the [`Parameters`] of all members it is the whole model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnsembleConfig {
    /// At least one, all of the same task and outputs.
    pub members: Vec<NetworkConfig>,
    /// How they answer together.
    pub combine: Combine,
}

impl EnsembleConfig {
    /// What a caller must gather for all members: the first one's configuration, with the sequence and the picture of those
    /// that read them. A network over sequences lends its architecture, so that rows are grouped by length.
    ///
    /// # Errors
    /// `Internal` without members.
    pub fn joint(&self) -> Result<NetworkConfig> {
        let lead = self.members.iter().find(|member| member.shape.sequence.is_some()).or_else(|| self.members.first());
        let mut joint = lead.cloned().ok_or_else(|| Error::internal("an ensemble has no members"))?;
        for member in &self.members {
            joint.shape.sequence = joint.shape.sequence.or_else(|| member.shape.sequence.clone());
            joint.shape.image = joint.shape.image.or(member.shape.image);
        }
        Ok(joint)
    }
}

/// The name of a member's parameter among those of the ensemble.
fn joint_name(member: usize, name: &str) -> String {
    format!("members.{member}.{name}")
}

/// The parameters of all members in one set.
#[must_use]
pub fn join<'a>(members: impl IntoIterator<Item = &'a Parameters>) -> Parameters {
    let mut all = Parameters::default();
    for (at, member) in members.into_iter().enumerate() {
        all.0.extend(member.0.iter().map(|(name, values)| (joint_name(at, name), values.clone())));
    }
    all
}

/// A network for scoring, of one or of several members.
///
/// # Errors
/// `DataCorrupted` when parameters do not fit, or members do not fit each other.
pub fn load_any(config: &NetworkConfig, ensemble: Option<&EnsembleConfig>, parameters: &Parameters) -> Result<Box<dyn Network>> {
    match ensemble {
        None => load_one(config, parameters),
        Some(ensemble) => load(ensemble, parameters),
    }
}

fn load(ensemble: &EnsembleConfig, parameters: &Parameters) -> Result<Box<dyn Network>> {
    let misfit = |reason: &str| Error::new(Code::DataCorrupted, "the members of an ensemble do not fit together").detail(reason.to_owned());
    let config = ensemble.joint()?;
    if let Combine::Weighted(weights) = &ensemble.combine
        && (weights.len() != ensemble.members.len() || weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0))
    {
        return Err(misfit("Each member needs one weight, not below 0."));
    }
    let mut members = Vec::with_capacity(ensemble.members.len());
    for (at, member) in ensemble.members.iter().enumerate() {
        if (member.task, member.outputs) != (config.task, config.outputs) {
            return Err(misfit("They answer different questions."));
        }
        let prefix = joint_name(at, "");
        let of_member = parameters.0.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        let own = of_member.map(|(name, values)| (name[prefix.len()..].to_owned(), values.clone()));
        members.push(load_one(member, &Parameters(own.collect()))?);
    }
    Ok(Box::new(LoadedEnsemble { config, combine: ensemble.combine.clone(), members }))
}

#[derive(Debug)]
struct LoadedEnsemble {
    config: NetworkConfig,
    combine: Combine,
    members: Vec<Box<dyn Network>>,
}

impl Network for LoadedEnsemble {
    fn forward(&self, batch: &Batch) -> Result<Outputs> {
        let mut outputs = Vec::with_capacity(self.members.len());
        for member in &self.members {
            outputs.push(member.forward(batch)?);
        }
        let logits: Vec<&[f32]> = outputs.iter().map(|output| output.logits.as_slice()).collect();
        let logits = combine(&self.combine, self.config.task, self.config.outputs, &logits);
        Ok(Outputs { logits, embedding: self.embedding(batch.rows, &outputs) })
    }

    fn parameter_count(&self) -> usize {
        self.members.iter().map(|member| member.parameter_count()).sum()
    }

    fn bytes(&self) -> usize {
        self.members.iter().map(|member| member.bytes()).sum()
    }

    fn embedding_dim(&self) -> usize {
        self.members.iter().map(|member| member.embedding_dim()).sum()
    }

    fn config(&self) -> &NetworkConfig {
        &self.config
    }
}

impl LoadedEnsemble {
    /// The members' embeddings side by side, each of length 1: their spaces have nothing to do with each other, so that their
    /// lengths cannot be compared.
    fn embedding(&self, rows: usize, outputs: &[Outputs]) -> Vec<f32> {
        let mut all = Vec::with_capacity(rows * self.embedding_dim());
        for row in 0..rows {
            for (member, output) in self.members.iter().zip(outputs) {
                let width = member.embedding_dim();
                let own = &output.embedding[row * width..][..width];
                let norm = own.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
                all.extend(own.iter().map(|value| (f64::from(*value) * scale) as f32));
            }
        }
        all
    }
}

/// One answer `[rows, outputs]` from the members' `[rows, outputs]`, again as logits or standardised values.
#[must_use]
pub fn combine(how: &Combine, task: Task, outputs: usize, members: &[&[f32]]) -> Vec<f32> {
    let length = members.first().map_or(0, |member| member.len());
    match (how, task) {
        (Combine::Mean, Task::Regression) => {
            (0..length).map(|at| (members.iter().map(|member| f64::from(member[at])).sum::<f64>() / members.len() as f64) as f32).collect()
        }
        (Combine::Mean, Task::Classification) => {
            let mut rows = Vec::with_capacity(length * members.len());
            for row in 0..length / outputs.max(1) {
                members.iter().for_each(|member| rows.extend_from_slice(&member[row * outputs..][..outputs]));
            }
            mean_probabilities(&rows, members.len(), outputs)
        }
        (Combine::Weighted(weights), _) => {
            let mut sum = vec![0f64; length];
            for (member, weight) in members.iter().zip(weights) {
                let signals = signals(task, outputs, member);
                sum.iter_mut().zip(signals).for_each(|(sum, signal)| *sum += weight * signal);
            }
            sum.into_iter().map(|value| value as f32).collect()
        }
    }
}

/// What a weighted combination adds up: logarithms of probabilities, or values.
#[must_use]
pub fn signals(task: Task, outputs: usize, logits: &[f32]) -> Vec<f64> {
    if task == Task::Regression {
        return logits.iter().map(|value| f64::from(*value)).collect();
    }
    let mut out = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(outputs.max(1)) {
        let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let norm = largest + row.iter().map(|value| (f64::from(*value) - largest).exp()).sum::<f64>().ln();
        out.extend(row.iter().map(|value| (f64::from(*value) - norm).max(PROBABILITY_MIN.ln())));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::inputs::{InputShape, SequenceShape};
    use crate::models::{Architecture, specs};

    fn config(architecture: Architecture) -> NetworkConfig {
        let sequence = SequenceShape { fields: vec![6], numeric: 1, max_len: 4 };
        NetworkConfig {
            architecture,
            shape: InputShape {
                numeric: 2,
                categorical: vec![4],
                sequence: architecture.is_sequential().then_some(sequence),
                image: None,
                ..InputShape::default()
            },
            outputs: 2,
            task: Task::Classification,
            hidden_dim: 4,
            layers: 1,
            embedding_dim: 3,
            dropout: 0.0,
            members: if architecture == Architecture::Dnn { 2 } else { 1 },
            bins: 0,
            numeric_embedding_dim: 2,
            catalogue: None,
            variant: crate::models::Variant::default(),
        }
    }

    fn initial(config: &NetworkConfig, seed: u64) -> Parameters {
        Parameters(specs(config).unwrap().into_iter().map(|spec| (spec.name.clone(), (spec.shape.clone(), spec.initial(seed)))).collect())
    }

    fn batch() -> Batch {
        Batch {
            rows: 2,
            numeric: vec![0.5, -1.0, 2.0, 0.0],
            categorical: vec![2, 3],
            seq_len: 2,
            tokens: vec![2, 3, 5, 0],
            step_numeric: vec![0.1, 0.2, 0.3, 0.0],
            lengths: vec![2, 1],
            images: Vec::new(),
            ..Batch::default()
        }
    }

    fn twelve(combine: Combine) -> (EnsembleConfig, Vec<Parameters>) {
        // Twelve members: "members.1." must not take up what belongs to "members.10.".
        let members: Vec<NetworkConfig> =
            (0..12).map(|at| config([Architecture::Logreg, Architecture::Dnn, Architecture::Gru][at % 3])).collect();
        let parameters = members.iter().enumerate().map(|(at, member)| initial(member, at as u64)).collect();
        (EnsembleConfig { members, combine }, parameters)
    }

    #[test]
    fn members_answer_as_they_do_alone() {
        let weights: Vec<f64> = (0..12).map(f64::from).collect();
        for how in [Combine::Mean, Combine::Weighted(weights)] {
            let (ensemble, parameters) = twelve(how.clone());
            let joined = load_any(&ensemble.joint().unwrap(), Some(&ensemble), &join(&parameters)).unwrap();
            let alone: Vec<Box<dyn Network>> = ensemble.members.iter().zip(&parameters).map(|(c, p)| load_one(c, p).unwrap()).collect();
            let outputs: Vec<Outputs> = alone.iter().map(|network| network.forward(&batch()).unwrap()).collect();
            let logits: Vec<&[f32]> = outputs.iter().map(|output| output.logits.as_slice()).collect();
            let answer = joined.forward(&batch()).unwrap();
            assert_eq!(answer.logits, combine(&how, Task::Classification, 2, &logits));
            assert_eq!(answer.embedding.len(), 2 * joined.embedding_dim());
            assert_eq!(joined.bytes(), alone.iter().map(|network| network.bytes()).sum::<usize>());
            assert_eq!(joined.parameter_count(), join(&parameters).count());
            assert!(joined.config().shape.sequence.is_some() && joined.config().architecture == Architecture::Gru);
        }
    }

    #[test]
    fn means_and_weighted_sums() {
        let (a, b) = ([0.0f32, 0.0], [0.0f32, (3f32).ln()]);
        let mean = combine(&Combine::Mean, Task::Classification, 2, &[&a, &b]);
        assert!((mean[1].exp() - 0.625).abs() < 1e-6, "{mean:?}");
        let weighted = combine(&Combine::Weighted(vec![0.0, 2.0]), Task::Classification, 2, &[&a, &b]);
        assert!((f64::from(weighted[1] - weighted[0]) - 2.0 * 3f64.ln()).abs() < 1e-6, "{weighted:?}");
        assert_eq!(combine(&Combine::Mean, Task::Regression, 1, &[&[1.0, 2.0], &[3.0, -2.0]]), [2.0, 0.0]);
        assert_eq!(combine(&Combine::Weighted(vec![0.5, 2.0]), Task::Regression, 1, &[&[1.0], &[3.0]]), [6.5]);
    }

    #[test]
    fn what_does_not_fit_is_damage() {
        let (mut ensemble, parameters) = twelve(Combine::Weighted(vec![1.0; 11]));
        let code = |ensemble: &EnsembleConfig, parameters: &Parameters| load(ensemble, parameters).unwrap_err().code;
        assert_eq!(code(&ensemble, &join(&parameters)), Code::DataCorrupted);
        ensemble.combine = Combine::Mean;
        assert!(load(&ensemble, &join(&parameters)).is_ok());
        assert_eq!(code(&ensemble, &join(&parameters[..11])), Code::DataCorrupted);
        ensemble.members[3].outputs = 3;
        assert_eq!(code(&ensemble, &join(&parameters)), Code::DataCorrupted);
    }
}
