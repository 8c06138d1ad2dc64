//! What the benches share: a synthetic event log of any size, a server on it, and a process's peak memory.

#![allow(dead_code, reason = "not every bench uses all of it")]

pub mod synthetic;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The largest resident set of a process so far, bytes (`VmHWM`); zero where the system does not tell.
pub fn peak_resident_bytes(pid: u32) -> u64 {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().split(' ').next()).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// A server on a folder of Parquet files, ended when it is dropped.
pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts it and waits until it is ready.
    pub fn start(root: &std::path::Path, port: u16, memory_limit: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir_in(root.parent().unwrap_or(root))?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_portrait"))
            .args(["serve", "--auth", "trust", "--listen", &format!("127.0.0.1:{port}"), "--memory-limit", memory_limit, "--data-dir"])
            .arg(folder.path())
            .arg("--data-root")
            .arg(root)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child.stderr.take().ok_or("no log")?;
        let mut lines = BufReader::new(log).lines();
        for line in lines.by_ref() {
            if line?.contains("ready") {
                break;
            }
        }
        std::thread::spawn(move || lines.for_each(drop)); // keep the pipe empty
        Ok(Self { child, folder })
    }

    /// The server's largest resident set so far, MiB.
    pub fn peak_mib(&self) -> f64 {
        peak_resident_bytes(self.child.id()) as f64 / (1024.0 * 1024.0)
    }

    /// Lets [`peak_mib`](Self::peak_mib) begin anew, where the system can.
    pub fn forget_peak(&self) {
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.folder.path();
    }
}
