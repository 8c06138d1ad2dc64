//! A trained network whose weights lie on a device, for scoring many rows.

use std::sync::{Arc, Mutex, PoisonError};

use super::device::Device;
use super::trainer::outputs;
use crate::error::{Code, Result};
use crate::models::architecture::Weights;
use crate::models::ops::Var;
use crate::models::{Batch, ItemTable, Module, Network, NetworkConfig, Outputs, Parameters};

/// Rows below which a batch that finds no memory goes to the host instead of being halved.
const ROWS_MIN: usize = 64;

/// A network on a device. Callers take turns; a batch that finds no memory is halved, at last the host answers.
#[derive(Debug)]
pub struct DeviceNetwork {
    host: Arc<dyn Network>,
    module: Box<dyn Module>,
    weights: Weights,
    device: Arc<Device>,
    turn: Mutex<()>,
}

impl DeviceNetwork {
    /// The network `host`, of these parameters, on `device`.
    ///
    /// # Errors
    /// `OutOfMemory`; `Internal` when a parameter is missing.
    pub fn new(host: Arc<dyn Network>, module: Box<dyn Module>, parameters: &Parameters, device: &Arc<Device>) -> Result<Self> {
        let mut weights = Weights::default();
        for (name, (shape, values)) in &parameters.0 {
            weights.insert(name.clone(), Var::on_device(shape, device.keep(values)?, None)?);
        }
        Ok(Self { host, module, weights, device: Arc::clone(device), turn: Mutex::default() })
    }

    fn run(&self, batch: &Batch) -> Result<Outputs> {
        match outputs(&self.device, self.host.config(), &*self.module, &self.weights, batch, true) {
            Err(error) if error.code == Code::OutOfMemory => self.device.release(),
            other => return other,
        }
        if batch.rows < 2 * ROWS_MIN {
            return self.host.forward(batch);
        }
        let shape = &self.host.config().shape;
        let mut all = self.run(&batch.part(shape, 0..batch.rows / 2))?;
        let rest = self.run(&batch.part(shape, batch.rows / 2..batch.rows))?;
        all.logits.extend(rest.logits);
        all.embedding.extend(rest.embedding);
        Ok(all)
    }
}

impl Network for DeviceNetwork {
    fn forward(&self, batch: &Batch) -> Result<Outputs> {
        if batch.rows == 0 {
            return Ok(Outputs::default());
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.run(batch)
    }

    fn parameter_count(&self) -> usize {
        self.host.parameter_count()
    }

    fn bytes(&self) -> usize {
        self.host.bytes()
    }

    fn embedding_dim(&self) -> usize {
        self.host.embedding_dim()
    }

    fn config(&self) -> &NetworkConfig {
        self.host.config()
    }

    fn embed(&self, batch: &Batch) -> Result<Vec<f32>> {
        self.host.embed(batch)
    }

    fn items(&self) -> Result<Option<ItemTable>> {
        self.host.items()
    }

    fn contributions(&self, batch: &Batch, classes: &[u32]) -> Result<Option<Vec<f32>>> {
        self.host.contributions(batch, classes)
    }
}
