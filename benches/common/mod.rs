//! What the benches share: a synthetic event log of any size, and the process's peak memory.

pub mod synthetic;

/// The largest resident set of a process so far, bytes (`VmHWM`); zero where the system does not tell.
pub fn peak_resident_bytes(pid: u32) -> u64 {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().split(' ').next()).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}
