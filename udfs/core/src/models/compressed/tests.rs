//! Every architecture with weights of 8 and of 4 bits: close to itself, the same after a file, the same in any company.

use super::*;
use crate::features::inputs::{ImageShape, InputShape, SequenceShape};
use crate::models::ops::Philox;
use crate::models::{Batch, Network, Outputs, Task, load, load_bytes, load_compressed, parameters_of};

const ROWS: usize = 21;

fn config(architecture: Architecture) -> NetworkConfig {
    NetworkConfig {
        architecture,
        shape: InputShape {
            numeric: 3,
            categorical: vec![5, 90],
            sequence: Some(SequenceShape { fields: vec![70, 40], numeric: 2, max_len: 9 }),
            image: None,
            ..InputShape::default()
        },
        outputs: 3,
        task: Task::Classification,
        hidden_dim: 40,
        layers: 2,
        embedding_dim: 16,
        dropout: 0.0,
        members: if architecture == Architecture::Dnn { 4 } else { 1 },
        bins: if architecture == Architecture::Logreg { 0 } else { 6 },
        numeric_embedding_dim: 4,
        catalogue: None,
        variant: crate::models::Variant::default(),
    }
}

fn configs() -> Vec<NetworkConfig> {
    let picture = InputShape { image: Some(ImageShape { height: 6, width: 6, channels: 1 }), ..InputShape::default() };
    let pictures = NetworkConfig { shape: picture, hidden_dim: 4, layers: 1, ..config(Architecture::Cnn) };
    let classes = NetworkConfig { outputs: 50, members: 1, ..config(Architecture::Dnn) };
    let all = Architecture::ALL.into_iter().filter(|own| own.is_supervised() && !own.is_retrieval());
    all.map(config).chain([pictures, classes]).collect()
}

/// Weights as large as after training: the untrained ones would leave everything near zero.
fn parameters(config: &NetworkConfig) -> Parameters {
    let mut parameters = Parameters::default();
    for spec in module(config).unwrap().specs() {
        let random = Philox::named(3, &spec.name);
        let fan_in = spec.shape.iter().skip(1).product::<usize>().max(1) as f64;
        let value = |at: u64| match spec.shape.len() {
            _ if spec.name.ends_with("edges") => (at % 7) as f64 / 3.0 - 1.0,
            _ if spec.name.contains("running_var") => 1.0,
            _ if spec.name.ends_with("std") => 80.0,
            _ if spec.name.contains("scale_") => 1.0 + 0.2 * random.normal(at),
            1 if spec.name.contains("norm") => 0.5 + random.uniform(at),
            1 => 0.1 * random.normal(at),
            _ if spec.name.starts_with("tokens") || spec.name.starts_with("categorical") => 0.5 * random.normal(at),
            // A state that forgets: one that does not blows every difference up, those of rounded floats too.
            _ if spec.name.contains("weight_hh") => 0.7 * random.normal(at) / fan_in.sqrt(),
            _ => 1.2 * random.normal(at) / fan_in.sqrt(),
        };
        let count = spec.shape.iter().product::<usize>() as u64;
        let values = (0..count).map(|at| value(at) as f32).collect();
        parameters.0.insert(spec.name, (spec.shape, values));
    }
    parameters
}

fn batch(config: &NetworkConfig, rows: std::ops::Range<usize>) -> Batch {
    let random = Philox::new(8, 8);
    let shape = &config.shape;
    let sequence = shape.sequence.clone().unwrap_or_default();
    let (fields, steps) = (sequence.fields.len(), sequence.max_len);
    let mut batch = Batch { rows: ROWS, seq_len: steps, ..Batch::default() };
    batch.numeric = (0..ROWS * shape.numeric).map(|at| random.normal(at as u64) as f32).collect();
    let ids = |count: usize, sizes: &[usize], stream: u32| -> Vec<u32> {
        (0..count).map(|at| random.fork(stream).below(at as u64, sizes[at % sizes.len()] as u32)).collect()
    };
    if !shape.categorical.is_empty() {
        batch.categorical = ids(ROWS * shape.categorical.len(), &shape.categorical, 1);
    }
    if fields > 0 {
        batch.tokens = ids(ROWS * steps * fields, &sequence.fields, 2);
        batch.step_numeric = (0..ROWS * steps * sequence.numeric).map(|at| random.fork(3).normal(at as u64) as f32).collect();
        batch.lengths = (0..ROWS).map(|row| (row % (steps + 1)) as u32).collect();
    } else {
        batch.seq_len = 0;
    }
    batch.images = (0..ROWS * shape.image.map_or(0, |image| image.len())).map(|at| random.fork(4).below(at as u64, 256) as u8).collect();
    if shape.image.is_some() {
        batch.pictured = (0..ROWS as u32).collect();
    }
    batch.part(shape, rows)
}

fn outputs(network: &dyn Network, config: &NetworkConfig) -> Outputs {
    network.forward(&batch(config, 0..ROWS)).unwrap()
}

/// The largest difference, as a share of the spread of `expected`.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let mean = expected.iter().map(|x| f64::from(*x)).sum::<f64>() / expected.len() as f64;
    let spread = (expected.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / expected.len() as f64).sqrt();
    let largest = found.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    assert!(largest.is_finite());
    largest / spread
}

#[test]
fn logits_stay_close() {
    for config in configs() {
        let parameters = parameters(&config);
        let expected = outputs(&*load(&config, &parameters).unwrap(), &config);
        // No logit moves by more than this share of the logits' own spread: a tenth for 8 bits, all of it for 4.
        for (scheme, bound) in [(Scheme::Float32, 0.0), (Scheme::Int8, 0.1), (Scheme::Int4, 1.0)] {
            let network = load_compressed(&config, &Compressed::of(&config, &parameters, scheme).unwrap()).unwrap();
            let found = outputs(&*network, &config);
            let (logits, embedding) = (difference(&found.logits, &expected.logits), difference(&found.embedding, &expected.embedding));
            assert!(logits <= bound && embedding <= 1.5 * bound, "{} {scheme:?}: {logits:.4} {embedding:.4}", config.architecture);
        }
    }
}

#[test]
fn files_hold_what_was_rounded() {
    for config in configs() {
        let parameters = parameters(&config);
        let whole = parameters.to_safetensors().unwrap();
        assert!(!is_compressed(&whole));
        assert_eq!(parameters_of(&config, &whole).unwrap(), parameters);
        let mut sizes = vec![whole.len()];
        for scheme in [Scheme::Int8, Scheme::Int4] {
            let own = Compressed::of(&config, &parameters, scheme).unwrap();
            assert_eq!(own.scheme(), scheme, "{}", config.architecture);
            let bytes = own.to_safetensors().unwrap();
            assert_eq!(bytes, Compressed::of(&config, &parameters, scheme).unwrap().to_safetensors().unwrap());
            assert!(is_compressed(&bytes));
            let back = Compressed::from_safetensors(&config, &bytes).unwrap();
            assert_eq!(back, own);
            let network = load_bytes(&config, &bytes).unwrap();
            assert_eq!(outputs(&*network, &config).logits, outputs(&*load_compressed(&config, &own).unwrap(), &config).logits);
            assert_eq!((network.parameter_count(), own.count()), (parameters.count(), parameters.count()));
            assert!(network.bytes() <= parameters.bytes(), "{}", config.architecture);
            assert_eq!(parameters_of(&config, &bytes).unwrap(), own.parameters());
            sizes.push(bytes.len());
        }
        assert!(sizes.is_sorted_by(|a, b| a > b), "{}: {sizes:?}", config.architecture);
    }
}

#[test]
fn large_matrices_shrink_by_their_bits() {
    let config = NetworkConfig { hidden_dim: 128, ..config(Architecture::Lstm) };
    let parameters = parameters(&config);
    let size = |scheme| Compressed::of(&config, &parameters, scheme).unwrap().to_safetensors().unwrap().len() as f64;
    let whole = parameters.to_safetensors().unwrap().len() as f64;
    assert!(whole / size(Scheme::Int8) > 3.4, "{whole} {}", size(Scheme::Int8));
    assert!(whole / size(Scheme::Int4) > 5.5, "{whole} {}", size(Scheme::Int4));
    let network = load_compressed(&config, &Compressed::of(&config, &parameters, Scheme::Int8).unwrap()).unwrap();
    assert!(network.bytes() * 3 < parameters.bytes());
}

#[test]
fn a_row_is_the_same_alone() {
    for config in configs() {
        let network = load_compressed(&config, &Compressed::of(&config, &parameters(&config), Scheme::Int8).unwrap()).unwrap();
        let all = outputs(&*network, &config);
        for row in [0, 3, ROWS - 1] {
            let alone = network.forward(&batch(&config, row..row + 1)).unwrap();
            assert_eq!(alone.logits, all.logits[row * config.outputs..(row + 1) * config.outputs], "{}", config.architecture);
        }
    }
}

#[test]
fn damage_is_noticed() {
    let config = config(Architecture::Gru);
    let own = Compressed::of(&config, &parameters(&config), Scheme::Int8).unwrap();
    let refused = |change: &dyn Fn(&mut Compressed)| {
        let mut damaged = own.clone();
        change(&mut damaged);
        let bytes = damaged.to_safetensors().unwrap();
        load_bytes(&config, &bytes).unwrap_err().code == Code::DataCorrupted
    };
    assert!(refused(&|own| drop(own.0.remove("gru.weight_hh_l0"))));
    assert!(refused(&|own| drop(own.0.insert("head.bias".into(), (vec![40], Stored::Float(vec![f32::NAN; 40]))))));
    assert!(refused(&|own| drop(own.0.insert("head.bias".into(), (vec![39], Stored::Float(vec![0.0; 39]))))));
    // Weights that AVX2's 16-bit sums could not hold.
    let heavy = Matrix8::stored(vec![127; 120 * 40], vec![0x3C00; 120]).unwrap();
    assert!(refused(&|own| drop(own.0.insert("gru.weight_hh_l0".into(), (vec![120, 40], Stored::Int8(heavy.clone()))))));
    let bytes = own.to_safetensors().unwrap();
    assert_eq!(load_bytes(&config, &bytes[..bytes.len() - 1]).unwrap_err().code, Code::DataCorrupted);
    // A file of another network.
    let other = NetworkConfig { hidden_dim: 32, ..config.clone() };
    assert_eq!(load_bytes(&other, &bytes).unwrap_err().code, Code::DataCorrupted);
}
