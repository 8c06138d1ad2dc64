//! Which of many items comes next: on a log of blocks, in which the users of a block take the items of that block, every
//! network over items finds the block; and one seed gives the same bytes whatever the threads.

use super::*;
use crate::features::events::UserKey;
use crate::models;
use crate::models::CatalogueShape;
use crate::train::catalogue::Catalogue;
use crate::train::ranked::DENSE_CLASSES_MAX;
use crate::train::retrieve::{History, NO_CLASS, Reason, Retriever};

const BLOCKS: u32 = 5;
const STEPS: u32 = 8;

/// A dataset of `users` users and `items` items in blocks; item `i` is of block `i % BLOCKS` and has token `i + 2`.
struct Log {
    problem: Problem,
    catalogue: Catalogue,
    users: Vec<UserKey>,
}

fn log(users: u32, items: u32) -> Log {
    let random = Philox::new(4, 4);
    let (mut sequences, mut labels, mut split, mut keys) = (Sequences::default(), Vec::new(), Vec::new(), Vec::new());
    for user in 0..users {
        let block = user % BLOCKS;
        let item = |step: u32| random.fork(user).below(u64::from(step), items / BLOCKS) * BLOCKS + block;
        let start = sequences.numeric.len() as u32;
        (0..STEPS).for_each(|step| {
            sequences.tokens.extend([item(step) + 2, block + 2]);
            sequences.numeric.push(0.0);
        });
        // Two rows of a user: after half of the steps and after all of them.
        for (len, next) in [(STEPS / 2, STEPS / 2), (STEPS, STEPS)] {
            sequences.spans.push((start, len));
            labels.push(item(next));
            split.push([Rows::Train, Rows::Train, Rows::Train, Rows::Validation, Rows::Test][(user / BLOCKS % 5) as usize]);
            keys.push(UserKey::Int64(i64::from(user)));
        }
    }
    let rows = labels.len();
    let sequence = SequenceShape { fields: vec![items as usize + 2, BLOCKS as usize + 2], numeric: 1, max_len: STEPS as usize };
    let shape = InputShape { sequence: Some(sequence), ..InputShape::default() };
    let classes = (0..items).map(|item| format!("i{item}")).collect();
    let inputs = Inputs { rows, sequence: Some(sequences), ..Inputs::default() };
    let catalogue = Catalogue {
        shape: Some(CatalogueShape { item_field: 0, category_field: Some(1), price_number: None }),
        tokens: (0..items).map(|item| item + 2).collect(),
        is_item: vec![true; items as usize],
        other: None,
    };
    Log { problem: Problem { shape, inputs, labels: Labels::Class(labels), classes, split, rfm: Vec::new() }, catalogue, users: keys }
}

impl Log {
    fn train(&self, architecture: Option<Architecture>, options: &Options, threads: usize) -> crate::Result<Trained> {
        let cancel = CancellationToken::new();
        let rows = Labelled { users: &self.users, ..self.problem.rows() };
        let base = request(&self.problem, options, &cancel, &|_| {});
        train_rows(Request { rows, catalogue: Some(&self.catalogue), architecture, threads, ..base })
    }

    fn retriever(&self, trained: &Trained) -> Retriever {
        let network = models::load(&trained.config, &trained.parameters).unwrap();
        Retriever::new(Scorer::new(network.into(), trained.calibration.clone()), &self.problem.classes)
    }

    /// What the user of a row did before it.
    fn history(&self, row: usize) -> History {
        let sequences = self.problem.inputs.sequence.as_ref().unwrap();
        let (start, len) = sequences.spans[row];
        History { classes: (start..start + len).map(|step| sequences.tokens[step as usize * 2] - 2).collect() }
    }
}

fn quick(epochs: u32) -> Options {
    Options {
        epochs: Some(epochs),
        hidden_dim: Some(16),
        embedding_dim: Some(16),
        learning_rate: Some(1e-2),
        dropout: Some(0.0),
        ..options()
    }
}

#[test]
fn every_network_over_items_finds_the_blocks() {
    let log = log(600, 50);
    for architecture in [Architecture::Mf, Architecture::TwoTower, Architecture::Gru] {
        let trained = log.train(Some(architecture), &quick(8), 2).unwrap();
        if architecture.is_retrieval() {
            assert_eq!(trained.metric, Metric::Ndcg);
            // Chance within the block of ten.
            assert!(trained.test > 0.35 && trained.baseline < 0.15, "{architecture}: {} against {}", trained.test, trained.baseline);
        }
        let retriever = log.retriever(&trained);
        let rows: Vec<usize> = (0..log.problem.inputs.rows).filter(|row| log.problem.split[*row] == Rows::Test).collect();
        let histories: Vec<History> = (0..log.problem.inputs.rows).map(|row| log.history(row)).collect();
        let all = retriever.recommend(&log.problem.inputs, &histories, 3, true).unwrap();
        let (mut right, mut total) = (0, 0);
        for row in rows {
            let block = histories[row].classes[0] % BLOCKS;
            for found in &all[row] {
                assert!(!histories[row].classes.contains(&found.class), "{architecture} recommends what was seen");
                total += 1;
                right += u32::from(found.class % BLOCKS == block);
                if let Reason::Adds(because, _) | Reason::Like(because, _) = found.reason {
                    assert!(histories[row].classes.contains(&because));
                }
            }
            assert!(all[row].windows(2).all(|pair| pair[0].score >= pair[1].score));
        }
        assert!(f64::from(right) > 0.97 * f64::from(total), "{architecture}: {right} of {total}");
        let near = retriever.similar_items(7, 3).unwrap().unwrap();
        assert!(near.iter().all(|(_, item)| item % BLOCKS == 7 % BLOCKS), "{architecture}: {near:?}");
    }
}

#[test]
fn a_user_without_known_items_gets_the_popular_ones() {
    let log = log(300, 50);
    let trained = log.train(Some(Architecture::Mf), &quick(2), 1).unwrap();
    let mut inputs = Inputs { rows: 1, ..Inputs::default() };
    inputs.sequence = Some(Sequences { tokens: vec![1, 0], numeric: vec![0.0], spans: vec![(0, 1)] });
    let found = log.retriever(&trained).recommend(&inputs, &[History { classes: vec![NO_CLASS] }], 4, true).unwrap();
    assert_eq!(
        found[0].iter().map(|item| (item.class, item.reason)).collect::<Vec<_>>(),
        (0..4).map(|c| (c, Reason::Popular)).collect::<Vec<_>>()
    );
}

/// The parts that the steps of a history add are the score.
#[test]
fn a_factorisation_says_what_its_scores_are_made_of() {
    let log = log(300, 50);
    let trained = log.train(Some(Architecture::Mf), &quick(3), 1).unwrap();
    let network = models::load(&trained.config, &trained.parameters).unwrap();
    let mut batch = models::Batch::default();
    models::Batch::gather(&log.problem.inputs, &trained.config.shape, &[0, 1, 2, 3], &mut batch);
    let out = network.forward(&batch).unwrap();
    let classes: Vec<u32> = vec![0, 7, 1, 8, 2, 9, 3, 4];
    let parts = network.contributions(&batch, &classes).unwrap().unwrap();
    for (at, class) in classes.iter().enumerate() {
        let sum: f32 = parts[at * batch.seq_len..(at + 1) * batch.seq_len].iter().sum();
        let logit = out.logits[at / 2 * 50 + *class as usize];
        assert!((sum - logit).abs() < 1e-5, "{sum} instead of {logit}");
    }
    assert_eq!(network.embed(&batch).unwrap(), out.embedding);
}

#[test]
fn many_items_are_learned_from_samples_with_the_same_bytes_for_any_threads() {
    let items = DENSE_CLASSES_MAX as u32 + 8;
    let log = log(1500, items);
    for architecture in [Architecture::TwoTower, Architecture::Gru, Architecture::Transformer, Architecture::Mf] {
        for negatives in [Some(64), Some(0)] {
            if negatives == Some(0) && architecture != Architecture::TwoTower && architecture != Architecture::Gru {
                continue;
            }
            let options = Options { negatives, batch_size: Some(256), ..quick(2) };
            let (one, two) = (log.train(Some(architecture), &options, 1).unwrap(), log.train(Some(architecture), &options, 2).unwrap());
            assert_eq!(one.parameters.to_safetensors().unwrap(), two.parameters.to_safetensors().unwrap(), "{architecture}");
            assert_eq!(one.metric, Metric::Ndcg);
            assert!(one.history.iter().all(|record| record.train_loss.is_finite() && record.valid_loss.is_finite()));
        }
    }
}

#[test]
fn a_sample_of_the_items_teaches_what_all_of_them_do() {
    let items = DENSE_CLASSES_MAX as u32 + 8;
    let log = log(3000, items);
    let test = |negatives: u32| {
        let options = Options { negatives: Some(negatives), batch_size: Some(256), ..quick(6) };
        let history = log.train(Some(Architecture::TwoTower), &options, 2).unwrap().history;
        history.iter().map(|record| record.valid_loss).fold(f64::INFINITY, f64::min)
    };
    let (sampled, full) = (test(256), test(0));
    // A perfect model knows the block: ln(items / BLOCKS); knowing nothing is ln(items).
    let (known, nothing) = (f64::from(items / BLOCKS).ln(), f64::from(items).ln());
    assert!(full < nothing && sampled < nothing && sampled < full + 0.25, "{sampled} and {full}, between {known} and {nothing}");
}

#[test]
fn what_cannot_be_is_refused() {
    let log = log(300, 50);
    let code = |architecture, options: &Options, catalogue: Option<&Catalogue>| {
        let cancel = CancellationToken::new();
        let base = request(&log.problem, options, &cancel, &|_| {});
        train_rows(Request { catalogue, architecture: Some(architecture), ..base }).unwrap_err().code
    };
    let hidden = Catalogue { shape: None, ..log.catalogue.clone() };
    let weighted = Options { class_weights: ClassWeights::Balanced, ..options() };
    assert_eq!(code(Architecture::Mf, &options(), None), Code::InvalidParameter);
    assert_eq!(code(Architecture::TwoTower, &options(), Some(&hidden)), Code::InvalidParameter);
    assert_eq!(code(Architecture::Mf, &weighted, Some(&log.catalogue)), Code::InvalidParameter);
    let many = self::log(300, DENSE_CLASSES_MAX as u32 + 8);
    let refused = many.train(Some(Architecture::Logreg), &options(), 1).unwrap_err();
    assert_eq!(refused.code, Code::InvalidParameter);
}
