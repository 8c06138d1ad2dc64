//! A log whose next event follows from the two before it by known odds: what can be learned of it is known to the nat.

use super::*;

const EVENTS: u32 = 4;
const CHAIN_ROWS: u64 = 3000;
/// The likely next event comes with this probability, each other one with a third of the rest.
const LIKELY: f64 = 0.7;

fn likely(before: u32, last: u32) -> u32 {
    (before + 2 * last + 1) % EVENTS
}

/// One event after `(before, last)`, drawn with `draw` in `0..1`.
fn next(before: u32, last: u32, draw: f64) -> u32 {
    let likely = likely(before, last);
    if draw < LIKELY { likely } else { (likely + 1 + ((draw - LIKELY) / (1.0 - LIKELY) * 3.0) as u32 % 3) % EVENTS }
}

/// The log, and the mean log loss that the chain's own odds have on its test rows.
fn chain() -> (Problem, f64) {
    let random = Philox::new(17, 17);
    let (mut sequences, mut labels, mut split) = (Sequences::default(), Vec::new(), Vec::new());
    let (mut loss, mut tests) = (0.0, 0.0);
    for row in 0..CHAIN_ROWS {
        let mut events: Vec<u32> = (0..2).map(|i| random.fork(1).below(row * 2 + i, EVENTS)).collect();
        for step in 0..=u64::from(random.fork(2).below(row, 8)) {
            let at = events.len();
            events.push(next(events[at - 2], events[at - 1], random.fork(3).uniform(row * 8 + step)));
        }
        let label = events.pop().unwrap();
        let part = [Rows::Train, Rows::Train, Rows::Train, Rows::Validation, Rows::Test][(row % 5) as usize];
        if part == Rows::Test {
            let right = likely(events[events.len() - 2], events[events.len() - 1]) == label;
            loss -= if right { LIKELY } else { (1.0 - LIKELY) / 3.0 }.ln();
            tests += 1.0;
        }
        sequences.spans.push((sequences.tokens.len() as u32, events.len() as u32));
        sequences.tokens.extend(events.iter().map(|event| event + 2));
        labels.push(label);
        split.push(part);
    }
    let sequence = Some(SequenceShape { fields: vec![EVENTS as usize + 2], numeric: 0, max_len: 10 });
    let problem = Problem {
        shape: InputShape { sequence, ..InputShape::default() },
        inputs: Inputs { rows: CHAIN_ROWS as usize, sequence: Some(sequences), ..Inputs::default() },
        labels: Labels::Class(labels),
        classes: (0..EVENTS).map(|class| format!("c{class}")).collect(),
        split,
        rfm: Vec::new(),
    };
    (problem, loss / tests)
}

#[test]
fn every_network_over_sequences_finds_the_chain() {
    let (problem, entropy) = chain();
    for architecture in Architecture::ALL.into_iter().filter(|architecture| architecture.is_sequential() && !architecture.is_retrieval()) {
        let options = Options { hidden_dim: Some(32), dropout: Some(0.0), patience: Some(4), epochs: Some(20), layers: None, ..options() };
        let trained = run(&problem, Some(architecture), &options, 2).unwrap();
        assert!(trained.baseline > entropy + 0.3, "{} against {entropy}", trained.baseline);
        // Gates and attention get to the bottom of it; the others come close.
        let near = if matches!(architecture, Architecture::Rnn | Architecture::Cnn) { 0.07 } else { 0.04 };
        assert!(trained.test < entropy + near, "{architecture}: {} instead of {entropy}", trained.test);
    }
}
