//! A training that is killed goes on from its checkpoint and ends with the bytes of one that was not.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::files_below;

const LOG: &str = "CREATE VIEW log AS SELECT u.value AS user_id, to_timestamp_seconds(1704067200 + d.value * 86400 + u.value % 20 * 3600) \
     AS event_time, CASE WHEN u.value % 3 = 0 AND (d.value + u.value) % 9 = 0 THEN 'purchase' WHEN d.value % 4 = 1 THEN 'cart' ELSE 'view' \
     END AS event_type FROM generate_series(1, 240) AS u, generate_series(0, 59) AS d WHERE (u.value + d.value) % 3 = 0;";

fn train(epochs: u32) -> String {
    format!(
        "SELECT epochs, message FROM train_profile_model('kept', 'log', target => 'purchase', arch => 'gru', epochs => {epochs}, \
         patience => 1000, hidden_dim => 8, batch_size => 16, checkpoint_every => 1)"
    )
}

#[test]
fn a_killed_training_resumes_to_the_same_bytes() {
    let (killed, whole) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let statement = train(12);
    assert_ok(&sql(whole.path(), &format!("{LOG} {statement}")));
    assert_ok(&sql(killed.path(), LOG));
    let mut child = portrait(killed.path()).args(["-c", &statement]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let begun = Instant::now();
    while find(killed.path(), "gru.ckpt").is_empty() {
        assert!(child.try_wait().expect("status").is_none(), "the training ended before its first checkpoint was seen");
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(find(killed.path(), "weights.safetensors").is_empty());
    let resumed = sql(killed.path(), &statement);
    assert_ok(&resumed);
    assert!(String::from_utf8_lossy(&resumed.stderr).contains("goes on from its checkpoint"), "{resumed:?}");
    assert_eq!(weights(killed.path()), weights(whole.path()));
    assert!(find(killed.path(), "gru.ckpt").is_empty(), "the checkpoint of a training that ended is still there");
}

#[test]
fn another_statement_starts_anew_and_says_so() {
    let data = tempfile::tempdir().expect("a folder");
    assert_ok(&sql(data.path(), LOG));
    let mut child = portrait(data.path()).args(["-c", &train(500)]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let begun = Instant::now();
    while find(data.path(), "gru.ckpt").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let other = sql(data.path(), &train(2));
    assert_ok(&other);
    assert!(String::from_utf8_lossy(&other.stderr).contains("training starts anew"), "{other:?}");
    assert!(find(data.path(), "gru.ckpt").is_empty());
}

/// `portrait sql` that says on stderr what it notices.
fn portrait(data: &Path) -> Command {
    let mut command = crate::common::portrait("sql", data);
    command.args(["--format", "csv"]);
    command
}

fn sql(data: &Path, text: &str) -> Output {
    portrait(data).args(["-c", text]).output().expect("portrait runs")
}

#[track_caller]
fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn weights(data: &Path) -> Vec<u8> {
    let found = find(data, "weights.safetensors");
    assert_eq!(found.len(), 1, "{found:?}");
    std::fs::read(&found[0]).expect("weights")
}

/// Every file of that name under a folder.
fn find(folder: &Path, name: &str) -> Vec<PathBuf> {
    files_below(folder).into_iter().filter(|path| path.file_name().is_some_and(|file| file == name)).collect()
}
