//! Networks over pictures: a bright upper or lower half, with a mean brightness that tells nothing.

use super::{Labels, Problem, ROWS, run};
use crate::features::inputs::{ImageShape, InputShape, Inputs, Rows};
use crate::features::options::{Augment, Options};
use crate::models::Architecture;
use crate::models::ops::Philox;

const SIDE: usize = 8;

pub(super) fn pictures() -> Problem {
    let random = Philox::new(4, 4);
    let image = ImageShape { height: SIDE, width: SIDE, channels: 1 };
    let (mut inputs, mut classes) = (Inputs { rows: ROWS, ..Inputs::default() }, Vec::new());
    for row in 0..ROWS as u64 {
        let class = random.below(row, 2);
        classes.push(class);
        for pixel in 0..image.len() {
            let bright = (pixel / SIDE >= SIDE / 2) == (class == 1);
            let value = if bright { 150 } else { 60 } + random.fork(1).below(row * 64 + pixel as u64, 100);
            inputs.images.push(value as u8);
        }
    }
    let split = (0..ROWS).map(|row| [Rows::Train, Rows::Train, Rows::Validation, Rows::Test][row % 4]).collect();
    let shape = InputShape { image: Some(image), ..InputShape::default() };
    Problem { shape, inputs, labels: Labels::Class(classes), classes: vec!["up".into(), "down".into()], split, rfm: Vec::new() }
}

fn options() -> Options {
    Options { epochs: Some(3), hidden_dim: Some(4), batch_size: Some(64), ..Options::default() }
}

#[test]
fn auto_learns_pictures_with_the_cnn() {
    let trained = run(&pictures(), None, &options(), 2).unwrap();
    assert_eq!(trained.config.architecture, Architecture::Cnn);
    assert!(trained.config.shape.sequence.is_none() && trained.config.shape.image.is_some());
    assert!(trained.test > trained.baseline + 0.3, "{} against {}", trained.test, trained.baseline);
    // The running statistics of the normalisation have moved, and are part of the model.
    let (_, variance) = &trained.parameters.0["stem.norm.running_var"];
    assert!(variance.iter().all(|variance| *variance != 1.0 && *variance > 0.0));
    let (_, mean) = &trained.parameters.0["image.mean"];
    assert!((140.0..170.0).contains(&mean[0]), "{mean:?}");
}

#[test]
fn the_same_bytes_with_any_number_of_threads() {
    let problem = pictures();
    let bytes = |seed: u64, threads: usize, augment| {
        let options = Options { epochs: Some(1), seed, augment, ..options() };
        run(&problem, Some(Architecture::Cnn), &options, threads).unwrap().parameters.to_safetensors().unwrap()
    };
    let first = bytes(1, 1, Augment::ShiftFlip);
    assert_eq!(first, bytes(1, 3, Augment::ShiftFlip));
    assert_ne!(first, bytes(2, 1, Augment::ShiftFlip));
    assert_ne!(first, bytes(1, 1, Augment::None));
}

/// Numbers beside the picture are read too: here they alone know the class.
#[test]
fn numbers_beside_a_picture_are_fused() {
    let mut problem = pictures();
    problem.inputs.images.iter_mut().for_each(|pixel| *pixel = 100);
    let Labels::Class(labels) = &problem.labels else { panic!("classes") };
    problem.inputs.numeric = labels.iter().map(|class| *class as f32 * 2.0 - 1.0).collect();
    problem.shape.numeric = 1;
    let trained = run(&problem, Some(Architecture::Cnn), &Options { epochs: Some(8), ..options() }, 2).unwrap();
    assert!(trained.test > trained.baseline + 0.3, "{} against {}", trained.test, trained.baseline);
}
