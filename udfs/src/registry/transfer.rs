//! Models that travel: a folder with `model.safetensors` and `manifest.json`.
