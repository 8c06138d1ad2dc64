//! The autoencoder on made-up rows: what is common to the features is found, what is not is not.

use super::{Problem, ROWS, options, run};
use crate::features::inputs::{InputShape, Inputs, Labels, Rows};
use crate::features::options::Options;
use crate::models::ops::Philox;
use crate::models::{self, Architecture};
use crate::train::{Metric, Scorer};

/// Six numbers and two categories that one hidden number rules, or that have nothing to do with each other.
fn problem(related: bool) -> Problem {
    let random = Philox::new(3, 3);
    let mut inputs = Inputs { rows: ROWS, ..Inputs::default() };
    for row in 0..ROWS as u64 {
        let hidden = random.normal(row);
        let of = |column: u64| if related { hidden } else { random.fork(1).normal(row * 8 + column) };
        inputs.numeric.extend((0..6).map(|column| (of(column) + 0.2 * random.fork(2).normal(row * 8 + column)) as f32));
        inputs.categorical.extend((6..8).map(|column| 2 + u32::from(of(column) > 0.0)));
    }
    let split = (0..ROWS).map(|row| [Rows::Train, Rows::Train, Rows::Validation, Rows::Test][row % 4]).collect();
    let shape = InputShape { numeric: 6, categorical: vec![4, 4], ..InputShape::default() };
    Problem { shape, inputs, labels: Labels::Value(vec![0.0; ROWS]), classes: Vec::new(), split, rfm: Vec::new() }
}

fn small() -> Options {
    Options { embedding_dim: Some(2), hidden_dim: Some(32), ..options() }
}

#[test]
fn an_autoencoder_finds_what_features_have_in_common() {
    let trained = run(&problem(true), Some(Architecture::Autoencoder), &small(), 2).unwrap();
    assert_eq!(trained.metric, Metric::ReconstructionError);
    assert!(trained.test < trained.baseline / 2.0, "{} against {}", trained.test, trained.baseline);
    let unrelated = run(&problem(false), Some(Architecture::Autoencoder), &small(), 2).unwrap();
    // Two numbers cannot hold eight.
    assert!(unrelated.test > unrelated.baseline / 2.0, "{} against {}", unrelated.test, unrelated.baseline);
    let scorer = Scorer::new(models::load(&trained.config, &trained.parameters).unwrap().into(), trained.calibration.clone());
    let scores = scorer.score(&problem(true).inputs).unwrap();
    assert_eq!((scores.embedding_dim, scores.embedding.len(), scores.values.len()), (2, 2 * ROWS, ROWS));
    let test: Vec<f64> = (0..ROWS).filter(|row| row % 4 == 3).map(|row| scores.values[row]).collect();
    assert!((test.iter().sum::<f64>() / test.len() as f64 - trained.test).abs() < 1e-9);
    // A row that breaks the rule comes back badly.
    let mut broken = problem(true).inputs;
    broken.numeric[0] = -broken.numeric[1].signum() * 3.0;
    assert!(scorer.score(&broken).unwrap().values[0] > 2.0 * scores.values[0]);
}

#[test]
fn the_same_bytes_with_any_number_of_threads() {
    let bytes = |threads| {
        let options = Options { epochs: Some(2), dropout: Some(0.1), ..small() };
        run(&problem(true), Some(Architecture::Autoencoder), &options, threads).unwrap().parameters.to_safetensors().unwrap()
    };
    assert_eq!(bytes(1), bytes(3));
}
