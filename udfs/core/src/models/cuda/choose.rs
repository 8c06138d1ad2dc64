//! Which device a training or a scoring runs on: the option `device`, what this build and this machine have, and whether
//! the work is worth the way.

use std::sync::{Arc, OnceLock};

use super::backend::Precision;
use super::device::Device;
use crate::error::{Code, Error, Result};
use crate::models::{Architecture, NetworkConfig, Numbers, specs};

/// Multiplications that are worth the way to a GPU: some seconds of one CPU core.
const WORK_MIN: f64 = 1e10;

/// A GPU of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its number: `cuda:<index>`.
    pub index: usize,
    /// Its name, as its maker says.
    pub name: String,
    /// Bytes of memory it has.
    pub memory_bytes: usize,
}

/// What the option `device` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The GPU when there is one and the work is worth it.
    Auto,
    /// The CPU.
    Cpu,
    /// That GPU, or an error.
    Cuda(usize),
}

impl Choice {
    /// From the option's text; what it does not know is `auto`.
    #[must_use]
    pub fn named(text: &str) -> Self {
        match text.split_once(':') {
            Some(("cuda", index)) => Self::Cuda(index.parse().unwrap_or(0)),
            _ if text == "cuda" => Self::Cuda(0),
            _ if text == "cpu" => Self::Cpu,
            _ => Self::Auto,
        }
    }
}

/// The device that was chosen.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// `None` = the CPU.
    pub device: Option<Arc<Device>>,
    /// Its name, for the training's row: `cpu`, `cuda:0`.
    pub name: String,
    /// What a person should know: why a GPU is not used.
    pub note: Option<String>,
}

impl Chosen {
    /// The CPU.
    #[must_use]
    pub fn cpu(note: Option<String>) -> Self {
        Self { device: None, name: "cpu".into(), note }
    }
}

/// Whether this build can use CUDA at all.
pub const BUILT_IN: bool = cfg!(feature = "cuda");

/// The GPUs of this machine, looked for once: drivers do not come and go while a process runs.
///
/// # Errors
/// A sentence without its dot that says why there is none.
pub fn gpus() -> std::result::Result<&'static [Gpu], &'static str> {
    static FOUND: OnceLock<std::result::Result<Vec<Gpu>, String>> = OnceLock::new();
    match FOUND.get_or_init(find) {
        Ok(gpus) => Ok(gpus),
        Err(reason) => Err(reason),
    }
}

#[cfg(feature = "cuda")]
fn find() -> std::result::Result<Vec<Gpu>, String> {
    super::driver::find()
}

#[cfg(not(feature = "cuda"))]
fn find() -> std::result::Result<Vec<Gpu>, String> {
    Err("This build has no CUDA in it".into())
}

/// Opens a GPU.
///
/// # Errors
/// `FeatureNotSupported` when it is not there or a library of CUDA is missing.
pub fn open(index: usize, precision: Precision) -> Result<Arc<Device>> {
    let gpus = gpus().map_err(|reason| missing(index, reason))?;
    if index >= gpus.len() {
        let noun = if gpus.len() == 1 { "GPU" } else { "GPUs" };
        return Err(missing(index, &format!("This machine has {} {noun}", gpus.len())));
    }
    start(index, precision)
}

#[cfg(feature = "cuda")]
fn start(index: usize, precision: Precision) -> Result<Arc<Device>> {
    let backend = super::driver::open(index, precision).map_err(|reason| missing(index, &reason))?;
    let device = Device::new(Box::new(backend));
    super::trial::settle(&device);
    Ok(device)
}

#[cfg(not(feature = "cuda"))]
fn start(index: usize, _precision: Precision) -> Result<Arc<Device>> {
    Err(missing(index, "This build has no CUDA in it"))
}

fn missing(index: usize, reason: &str) -> Error {
    let error = Error::new(Code::FeatureNotSupported, format!("device \"cuda:{index}\" is not available")).detail(format!("{reason}."));
    error.hint(if BUILT_IN {
        "Use device => 'cpu' or 'auto'; CUDA needs NVIDIA's driver, and cuBLAS and NVRTC on LD_LIBRARY_PATH."
    } else {
        "Use device => 'cpu' or 'auto', or a build with the feature cuda."
    })
}

/// Refuses a device that is asked for by name and not there, before anything is read.
///
/// # Errors
/// `FeatureNotSupported`.
pub fn check(device: &str) -> Result<()> {
    let Choice::Cuda(index) = Choice::named(device) else { return Ok(()) };
    match gpus() {
        Ok(gpus) if index < gpus.len() => Ok(()),
        Ok(gpus) => Err(missing(index, &format!("The last of this machine's GPUs is cuda:{}", gpus.len().saturating_sub(1)))),
        Err(reason) => Err(missing(index, reason)),
    }
}

/// Whether every operator of the network has kernels.
#[must_use]
pub fn supports(config: &NetworkConfig) -> bool {
    lacking(config).is_none()
}

/// What of the network has no kernels.
fn lacking(config: &NetworkConfig) -> Option<String> {
    use Architecture::{Dnn, Gru, Logreg, Lstm, Rnn, Transformer};
    let (shape, variant) = (&config.shape, &config.variant);
    let part = if !matches!(config.architecture, Logreg | Dnn | Gru | Lstm | Rnn | Transformer) {
        return Some(format!("architecture \"{}\" has no kernels for it", config.architecture));
    } else if shape.image.is_some() {
        "pictures have"
    } else if !shape.texts.is_empty() {
        "texts have"
    } else if variant.bidirectional {
        "layers in both directions have"
    } else if variant.numbers == Numbers::Periodic && shape.numeric > 0 {
        "periodic embeddings of numbers have"
    } else {
        return None;
    };
    Some(format!("{part} no kernels for it"))
}

/// Refuses a GPU that is asked for by name where `reason` keeps the work on the CPU.
///
/// # Errors
/// `FeatureNotSupported`.
pub fn refuse(device: &str, reason: &str) -> Result<()> {
    match Choice::named(device) {
        Choice::Cuda(index) => Err(Error::new(Code::FeatureNotSupported, format!("device \"cuda:{index}\" cannot be used: {reason}"))
            .hint("Use device => 'cpu' or 'auto'.")),
        Choice::Auto | Choice::Cpu => Ok(()),
    }
}

/// Multiplications of one pass over `rows` rows, roughly.
fn work(config: &NetworkConfig, rows: usize) -> f64 {
    let steps = config.shape.sequence.as_ref().map_or(1, |sequence| sequence.max_len).max(1);
    let steps = if config.architecture.is_sequential() { steps } else { config.members.max(1) };
    let matrices =
        specs(config).unwrap_or_default().iter().filter(|spec| spec.decays).map(|spec| spec.shape.iter().product::<usize>()).sum::<usize>();
    rows as f64 * steps as f64 * matrices as f64
}

/// Whether a pass over `rows` rows is worth the way to a GPU, should this machine have one.
#[must_use]
pub fn is_worth(config: &NetworkConfig, rows: usize) -> bool {
    BUILT_IN && supports(config) && work(config, rows) >= WORK_MIN
}

/// The device for passes over `rows` rows. `beside` is something else that speaks against a device.
///
/// # Errors
/// `FeatureNotSupported` when a GPU is asked for by name and cannot be had or cannot run the network.
pub fn choose(device: &str, precision: Precision, config: &NetworkConfig, rows: usize, beside: Option<&str>) -> Result<Chosen> {
    let choice = Choice::named(device);
    if choice == Choice::Cpu {
        return Ok(Chosen::cpu(None));
    }
    let against = beside.map(ToOwned::to_owned).or_else(|| lacking(config));
    if let Some(reason) = &against {
        refuse(device, reason)?;
    }
    let index = match choice {
        Choice::Cuda(index) => index,
        _ if against.is_some() || !is_worth(config, rows) => return Ok(Chosen::cpu(None)),
        _ => 0,
    };
    match open(index, precision) {
        Ok(device) => Ok(Chosen { device: Some(device), name: format!("cuda:{index}"), note: None }),
        Err(error) if choice == Choice::Auto => {
            let reason = error.detail.unwrap_or(error.message);
            Ok(Chosen::cpu(Some(format!("no GPU can be used, the CPU is: {}", reason.trim_end_matches('.')))))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::inputs::{ImageShape, InputShape, SequenceShape, TextShape};
    use crate::models::{Task, Variant};

    fn config(architecture: Architecture) -> NetworkConfig {
        NetworkConfig {
            architecture,
            shape: InputShape { sequence: Some(SequenceShape { fields: vec![100], numeric: 0, max_len: 64 }), ..InputShape::default() },
            outputs: 2,
            task: Task::Classification,
            hidden_dim: 64,
            layers: 1,
            embedding_dim: 32,
            dropout: 0.0,
            members: 1,
            bins: 0,
            numeric_embedding_dim: 1,
            variant: Variant::default(),
            catalogue: None,
        }
    }

    #[test]
    fn names() {
        let named = ["auto", "cpu", "cuda", "cuda:2"].map(Choice::named);
        assert_eq!(named, [Choice::Auto, Choice::Cpu, Choice::Cuda(0), Choice::Cuda(2)]);
    }

    #[test]
    fn work_grows_with_rows_and_history() {
        let gru = config(Architecture::Gru);
        assert!(work(&gru, 1000) < WORK_MIN && work(&gru, 100_000) > WORK_MIN);
    }

    #[test]
    fn without_a_gpu_it_is_an_error_by_name_and_the_cpu_else() {
        if gpus().is_ok() {
            return;
        }
        let gru = config(Architecture::Gru);
        let error = choose("cuda", Precision::Full, &gru, 1 << 20, None).unwrap_err();
        assert_eq!(error.code, Code::FeatureNotSupported);
        assert!(
            error.detail.is_some_and(|detail| detail.contains("CUDA") || detail.contains("libcuda") || detail.contains("GPU"))
                && error.hint.is_some_and(|hint| hint.contains("'cpu'"))
        );
        assert!(check("cuda:1").is_err() && check("auto").is_ok() && check("cpu").is_ok());
        let chosen = choose("auto", Precision::Full, &gru, 1 << 20, None).unwrap();
        assert!(chosen.device.is_none() && chosen.name == "cpu");
        assert_eq!(chosen.note.is_some(), BUILT_IN, "a build with CUDA says why it is not used");
        assert!(choose("auto", Precision::Full, &gru, 10, None).unwrap().note.is_none(), "too little work to speak of");
        let beside = choose("cuda", Precision::Full, &gru, 10, Some("training is private")).unwrap_err();
        assert!(beside.message.contains("private"));
    }

    /// By name each of these is an error that says why, whatever this machine has; by itself each takes the CPU.
    #[test]
    fn what_has_no_kernels_stays_on_the_cpu() {
        let usual = config(Architecture::Gru);
        assert!(supports(&usual));
        let shaped = |shape| NetworkConfig { shape, ..usual.clone() };
        let varied = |variant| NetworkConfig { variant, ..usual.clone() };
        let (text, image) = (TextShape { vocabulary: 9, buckets: 1, max_len: 4 }, ImageShape { height: 2, width: 2, channels: 1 });
        let periodic = NetworkConfig {
            shape: InputShape { numeric: 1, ..usual.shape.clone() },
            ..varied(Variant { numbers: Numbers::Periodic, ..Variant::default() })
        };
        let refused = [
            ("texts", shaped(InputShape { texts: vec![text], ..usual.shape.clone() })),
            ("pictures", shaped(InputShape { image: Some(image), ..usual.shape.clone() })),
            ("both directions", varied(Variant { bidirectional: true, ..Variant::default() })),
            ("periodic", periodic),
        ];
        let architectures = Architecture::ALL.into_iter().filter(|architecture| !supports(&config(*architecture)));
        let architectures: Vec<_> = architectures.map(|architecture| (architecture.name(), config(architecture))).collect();
        assert_eq!(architectures.len(), 6);
        for (what, config) in refused.into_iter().chain(architectures) {
            assert!(!supports(&config) && !is_worth(&config, usize::MAX), "{what}");
            let error = choose("cuda", Precision::Full, &config, 1 << 20, None).unwrap_err();
            assert!(error.code == Code::FeatureNotSupported && error.message.contains(what), "{error:?}");
            let chosen = choose("auto", Precision::Full, &config, 1 << 20, None).unwrap();
            assert!(chosen.device.is_none() && chosen.note.is_none());
        }
        assert!(supports(&varied(Variant { relu: true, ..Variant::default() })));
        assert!(refuse("cuda:1", "it rains").is_err_and(|error| error.message.contains("it rains")));
        assert!(refuse("auto", "it rains").is_ok() && refuse("cpu", "it rains").is_ok());
    }
}
