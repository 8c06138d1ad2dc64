//! Texts alone, and networks of several inputs of which each knows a part of the label.

use super::{Labels, Problem, ROWS, binary, options, run};
use crate::features::inputs::{ImageShape, InputShape, Inputs, NO_PICTURE, Rows, TextShape, Texts};
use crate::features::options::{Options, TextChoice};
use crate::models::ops::Philox;
use crate::models::{Architecture, TextModel};

const TEXT: TextShape = TextShape { vocabulary: 12, buckets: 2, max_len: 6 };
const NOT: u32 = 2;
const GOOD: u32 = 3;

/// The words of row `row`: `good` makes it positive, `not good` does not; the others tell nothing.
fn text(random: Philox, row: u64, class: u32) -> Vec<u32> {
    let mut words: Vec<u32> = (0..4).map(|at| 4 + random.fork(1).below(row * 4 + at, 6)).collect();
    let at = random.fork(2).below(row, 4) as usize;
    let told: &[u32] = match (class, random.fork(3).below(row, 2)) {
        (1, 0) => &[GOOD],
        // "good … not" is still good.
        (1, _) => &[GOOD, 5, NOT],
        (_, 0) => &[NOT, GOOD],
        _ => &[NOT],
    };
    words.splice(at..at, told.iter().copied());
    words
}

fn reviews() -> Problem {
    let random = Philox::new(12, 12);
    let classes: Vec<u32> = (0..ROWS as u64).map(|row| random.below(row, 2)).collect();
    let mut texts = Texts::default();
    classes.iter().enumerate().for_each(|(row, class)| texts.push(&text(random, row as u64, *class)));
    let split = (0..ROWS).map(|row| [Rows::Train, Rows::Train, Rows::Validation, Rows::Test][row % 4]).collect();
    Problem {
        shape: InputShape { texts: vec![TEXT], ..InputShape::default() },
        inputs: Inputs { rows: ROWS, texts: vec![texts], ..Inputs::default() },
        labels: Labels::Class(classes),
        classes: vec!["bad".into(), "good".into()],
        split,
        rfm: Vec::new(),
    }
}

#[test]
fn texts_are_read_by_every_network_of_tables() {
    let problem = reviews();
    for (architecture, text) in
        [(Architecture::Logreg, TextModel::Bag), (Architecture::Dnn, TextModel::Bag), (Architecture::Cnn, TextModel::Cnn)]
    {
        let options = Options { epochs: Some(25), learning_rate: Some(2e-2), ..options() };
        let trained = run(&problem, Some(architecture), &options, 2).unwrap();
        assert_eq!(trained.config.variant.text, text);
        assert!(trained.test > trained.baseline + 0.4, "{architecture}: {} against {}", trained.test, trained.baseline);
    }
    let mut bag = options();
    bag.network.text_model = TextChoice::Bag;
    assert_eq!(run(&problem, Some(Architecture::Cnn), &Options { epochs: Some(1), ..bag }, 1).unwrap().config.variant.text, TextModel::Bag);
    let auto = run(&problem, None, &Options { epochs: Some(2), ..options() }, 2).unwrap();
    let tried: Vec<Architecture> = auto.candidates.iter().map(|candidate| candidate.architecture).collect();
    assert_eq!(tried, [Architecture::Logreg, Architecture::Dnn, Architecture::Cnn]);
}

/// A history, numbers, a category, a text and a picture; `tells` of the last two says what the label is.
fn everything(tells: &str) -> Problem {
    let mut problem = binary();
    let random = Philox::new(13, 13);
    let image = ImageShape { height: 4, width: 4, channels: 1 };
    let Labels::Class(labels) = &problem.labels else { panic!("classes") };
    let mut texts = Texts::default();
    for (row, label) in labels.iter().enumerate() {
        let drawn = random.below(row as u64, 2);
        texts.push(&text(random, row as u64, if tells == "text" { *label } else { drawn }));
        let shown = if tells == "picture" { *label } else { drawn };
        let has = row % 9 > 0;
        problem.inputs.pictured.push(if has { (problem.inputs.images.len() / 16) as u32 } else { NO_PICTURE });
        if has {
            problem.inputs.images.extend((0..16).map(|pixel| if (pixel / 8) == shown { 200 } else { 50 }));
        }
    }
    problem.inputs.texts = vec![texts];
    problem.shape = InputShape { image: Some(image), image_optional: true, texts: vec![TEXT], ..problem.shape };
    problem
}

#[test]
fn one_network_reads_whatever_tells_something() {
    let options = Options { epochs: Some(6), dropout: Some(0.0), ..options() };
    let plain = run(&binary(), Some(Architecture::Gru), &options, 2).unwrap();
    for tells in ["text", "picture"] {
        let trained = run(&everything(tells), Some(Architecture::Gru), &options, 2).unwrap();
        let shape = &trained.config.shape;
        assert!(shape.sequence.is_some() && shape.image.is_some() && shape.texts.len() == 1 && shape.numeric == 2);
        // The history alone comes close to the top; what is left to gain is a third of a step up to 1.
        assert!(trained.test > plain.test + (1.0 - plain.test) / 3.0, "{tells}: {} against {} without it", trained.test, plain.test);
    }
}

#[test]
fn the_same_bytes_with_any_number_of_threads() {
    let problem = everything("text");
    for architecture in [Architecture::Lstm, Architecture::Transformer] {
        let bytes = |threads: usize| {
            let mut options = Options { epochs: Some(1), ..options() };
            options.network.bidirectional = true;
            run(&problem, Some(architecture), &options, threads).unwrap().parameters.to_safetensors().unwrap()
        };
        assert_eq!(bytes(1), bytes(3), "{architecture}");
    }
}
