//! The fit's way to a device and back. The device has the weights while an epoch runs; behind it they are brought home, so
//! that everything between epochs (evaluation, the best weights, checkpoints) finds them where it always does. A device
//! answers one batch late: its last one is computed while the host makes the next ready.

use std::sync::Arc;

use super::{Fit, Learned, Made, Targets, rule};
use crate::error::{Code, Error, Result};
use crate::models::cuda::{Device, Trainer, choose};
use crate::models::ops::{Optimizer, OptimizerState, storage};
use crate::models::step::{DENSE_ROWS_MAX, Step};
use crate::models::{Batch, Outputs};

/// Rows of one pass over the validation rows.
pub(super) const PASS_ROWS: usize = 4096;

/// What a device holds of a fit.
pub(super) struct OnDevice {
    /// Released when a pass finds no memory.
    device: Arc<Device>,
    trainer: Trainer,
    name: String,
}

impl OnDevice {
    /// Orders a step; what the steps before it came to.
    pub(super) fn step(&mut self, step: &Step<'_>, rows: usize, rate: f64) -> Result<Vec<(usize, Option<f64>)>> {
        self.trainer.step(step, rows, rate)?;
        self.trainer.finished(false)
    }

    /// A pass through the network as it is; `on_host` is the way when there is no memory for it.
    pub(super) fn outputs(&self, fit: &Fit<'_>, batch: &Batch, on_host: &dyn Fn(&Batch) -> Result<Outputs>) -> Result<Outputs> {
        match self.trainer.outputs(&fit.hyper.config, &*fit.module, batch) {
            Err(error) if error.code == Code::OutOfMemory => {
                self.device.release();
                on_host(batch)
            }
            other => other,
        }
    }

    /// Begins anew from these weights.
    pub(super) fn restart(&mut self, parameters: &crate::models::Parameters) -> Result<()> {
        self.trainer.put(parameters)?;
        self.trainer.forget()
    }
}

impl Fit<'_> {
    /// What a device has no way for, beside the network.
    fn against_devices(&self) -> Option<&'static str> {
        // The host moves only those rows of such a table that a step reads: another result than that of dense steps.
        let lazy = |learned: &Learned| learned.trainable && learned.spec.shape.len() > 1 && learned.spec.shape[0] > DENSE_ROWS_MAX;
        let reasons = [
            (self.private.is_some(), "a private training takes one user at a time"),
            (self.items.is_some(), "a network over many items looks at some of them at each step"),
            (self.pull.is_some(), "a federated training runs where its rows are"),
            (self.data.teacher.is_some(), "a student learns what its teacher says"),
            (matches!(self.data.targets, Targets::Rows), "rows are learned without labels"),
            (self.learned.iter().any(lazy), "a large table is updated row by row"),
        ];
        reasons.into_iter().find(|(holds, _)| *holds).map(|(_, reason)| reason)
    }

    /// Goes to the device that the options ask for and the work is worth; says why when it stays here against expectation.
    ///
    /// # Errors
    /// `FeatureNotSupported` when a device is asked for by name and not there or cannot run this fit.
    pub(super) fn settle(&mut self) -> Result<Option<String>> {
        let beside = self.against_devices();
        let rows = self.data.train.len() * self.hyper.epochs.min(10);
        let chosen = choose::choose(&self.hyper.device, self.hyper.precision, &self.hyper.config, rows, beside)?;
        let Some(device) = chosen.device else { return Ok(chosen.note) };
        self.move_to(&device, chosen.name)
    }

    /// Puts weights and moments on `device`; says so when they do not fit.
    pub(super) fn move_to(&mut self, device: &Arc<Device>, name: String) -> Result<Option<String>> {
        let fixed = |spec_name: &str| self.learned.iter().any(|learned| learned.spec.name == spec_name && !learned.trainable);
        let specs = self.module.specs();
        let state = self.optimizer.state();
        match Trainer::new(device, &specs, &self.parameters()?, &|spec| !fixed(&spec.name), rule(self.hyper), state) {
            Ok(trainer) => {
                self.on_device = Some(OnDevice { device: Arc::clone(device), trainer, name });
                Ok(None)
            }
            Err(error) if error.code == Code::OutOfMemory => {
                Ok(Some(format!("the model does not fit the memory of device \"{name}\": training runs on the CPU")))
            }
            Err(error) => Err(error),
        }
    }

    /// Where the fit runs.
    pub(super) fn device_name(&self) -> String {
        self.on_device.as_ref().map_or_else(|| "cpu".to_owned(), |on_device| on_device.name.clone())
    }

    /// Waits for the device and copies its weights here; what its last steps came to.
    pub(super) fn bring_home(&mut self) -> Result<Vec<(usize, Option<f64>)>> {
        let Some(on_device) = &mut self.on_device else { return Ok(Vec::new()) };
        let done = on_device.trainer.finished(true)?;
        let mut parameters = on_device.trainer.parameters()?;
        for learned in self.learned.iter_mut().filter(|learned| learned.trainable) {
            let (shape, values) = parameters.0.remove(&learned.spec.name).ok_or_else(|| Error::internal("the device lost a parameter"))?;
            learned.tensor = storage::tensor(values, &shape)?;
        }
        Ok(done)
    }

    /// What a checkpoint keeps of the optimizer, wherever it is.
    pub(super) fn optimizer_state(&self) -> Result<OptimizerState> {
        match &self.on_device {
            Some(on_device) => on_device.trainer.state(),
            None => Ok(self.optimizer.state().clone()),
        }
    }

    /// Leaves a device that has no memory for a few rows of a batch, and takes the step on `rows` here.
    pub(super) fn leave_device(&mut self, rows: &[u32]) -> Result<Vec<(usize, Option<f64>)>> {
        let mut done = self.bring_home()?;
        self.optimizer = Optimizer::resume(rule(self.hyper), self.optimizer_state()?);
        let name = self.device_name();
        self.on_device = None;
        self.left_device = Some(format!("device \"{name}\" ran out of memory: training went on on the CPU"));
        // The step that failed is taken again.
        self.steps -= 1;
        done.extend(self.step(rows, Made::InStep)?);
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::super::{Data, Fit, Hyper, Part, Start, Targets, Watch};
    use crate::error::Code;
    use crate::features::inputs::{InputShape, Inputs};
    use crate::features::options::{Freeze, Options};
    use crate::models::cuda::shim::Shim;
    use crate::models::ops::{Distillation, Philox};
    use crate::models::step::DENSE_ROWS_MAX;
    use crate::models::{Architecture, Parameters, Task};
    use crate::train::distil::Teacher;
    use crate::train::hyper;

    const ROWS: usize = 300;

    /// Losses and weights after some epochs, on the host or a device with so many bytes.
    fn fitted(data: &Data<'_>, hyper: &Hyper, bytes: Option<usize>) -> (Vec<f64>, Parameters, Option<String>) {
        let cancel = CancellationToken::new();
        let watch = Watch {
            cancel: &cancel,
            progress: &|_| {},
            deadline: None,
            keep_partial: false,
            metric: &|logits| f64::from(logits.iter().sum::<f32>()),
            part: Part::default(),
            checkpoints: None,
            memory: None,
        };
        let mut fit = Fit::new(data, hyper, Start { warm: None, freeze: &Freeze::AllButHead(false) }).unwrap().0;
        if let Some(bytes) = bytes {
            assert_eq!(fit.move_to(&Shim::device(bytes, false), "shim".into()).unwrap(), None);
            assert_eq!(fit.device_name(), "shim");
        }
        let mut losses = Vec::new();
        for epoch in 1..=3 {
            let done = fit.epoch(epoch, &watch).unwrap();
            let record = fit.evaluate(epoch, &done, &watch).unwrap();
            losses.extend([record.train_loss, record.valid_loss, record.valid_metric / ROWS as f64]);
        }
        (losses, fit.parameters().unwrap(), fit.left_device.take())
    }

    fn inputs() -> Inputs {
        let random = Philox::new(4, 4);
        Inputs {
            rows: ROWS,
            numeric: (0..3 * ROWS as u64).map(|i| random.normal(i) as f32).collect(),
            categorical: (0..ROWS as u64).map(|row| random.fork(1).below(row, 6)).collect(),
            ..Inputs::default()
        }
    }

    fn data(inputs: &Inputs) -> Data<'_> {
        let labels: Vec<u32> = (0..ROWS).map(|row| u32::from(inputs.numeric[3 * row] > 0.1)).collect();
        Data {
            inputs: Cow::Borrowed(inputs),
            targets: Targets::Classes(labels.into()),
            train: (0..200).collect(),
            validation: (200..ROWS as u32).collect(),
            test: Vec::new(),
            class_weights: Some(vec![1.0, 2.0]),
            resampled: None,
            users: &[],
            teacher: None,
            catalogue: None,
        }
    }

    fn hyper(vocabulary: usize) -> Hyper {
        let options = Options {
            hidden_dim: Some(16),
            batch_size: Some(64),
            optimizer: crate::features::options::Optimizer::Sgd,
            learning_rate: Some(0.05),
            dropout: Some(0.1),
            ..Options::default()
        };
        let shape = InputShape { numeric: 3, categorical: vec![vocabulary], ..InputShape::default() };
        hyper::resolve(Architecture::Dnn, &shape, 2, Task::Classification, &options, ROWS)
    }

    /// A fit on a device is that on the host, evaluation included, and one whose device runs out of memory goes on here.
    #[test]
    fn a_fit_is_the_same_wherever_it_runs() {
        let inputs = inputs();
        let (data, hyper) = (data(&inputs), hyper(6));
        let (losses, parameters, _) = fitted(&data, &hyper, None);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-4 * b.abs().max(1.0);
        for bytes in [1 << 30, 400 << 10] {
            let (got, weights, left) = fitted(&data, &hyper, Some(bytes));
            assert!(got.iter().zip(&losses).all(|(a, b)| close(*a, *b)), "{got:?} instead of {losses:?}");
            for (name, (_, values)) in &parameters.0 {
                assert!(weights.0[name].1.iter().zip(values).all(|(a, b)| close(f64::from(*a), f64::from(*b))), "{name}");
            }
            assert!(left.is_none() || bytes < 1 << 30, "{left:?}");
        }
    }

    /// What a device has no way for is an error where a GPU is asked for by name, whatever this machine has, and stays here else.
    #[test]
    fn what_a_device_does_not_do_stays_here() {
        let inputs = inputs();
        let usual = data(&inputs);
        let how = Distillation { temperature: 2.0, share: 0.5 };
        let teacher = Some(Arc::new(Teacher { probabilities: vec![0.5; 2 * ROWS], classes: 2, how }));
        let cases = [
            ("a student", Data { teacher, ..usual.clone() }, 6),
            ("without labels", Data { targets: Targets::Rows, ..usual.clone() }, 6),
            ("row by row", usual.clone(), DENSE_ROWS_MAX + 1),
        ];
        for (what, data, vocabulary) in cases {
            let start = || Start { warm: None, freeze: &Freeze::AllButHead(false) };
            let by_name = Hyper { device: "cuda".into(), ..hyper(vocabulary) };
            let error = Fit::new(&data, &by_name, start()).unwrap().0.settle().unwrap_err();
            assert!(error.code == Code::FeatureNotSupported && error.message.contains(what), "{error:?}");
            let auto = hyper(vocabulary);
            let mut fit = Fit::new(&data, &auto, start()).unwrap().0;
            assert_eq!((fit.settle().unwrap(), fit.device_name()), (None, "cpu".to_owned()));
        }
        let hyper = hyper(6);
        let start = Start { warm: None, freeze: &Freeze::AllButHead(false) };
        assert_eq!(Fit::new(&usual, &hyper, start).unwrap().0.against_devices(), None);
    }
}
