#!/usr/bin/env bash
# Usage: nightly.sh DATA_DIR DATA_ROOT   (PORTRAIT names the binary; default: the one on the PATH)
set -euo pipefail
data_dir=$1 data_root=$2
here=$(cd "$(dirname "$0")" && pwd)
portrait() { "${PORTRAIT:-portrait}" sql --data-dir "$data_dir" --data-root "$data_root" "$@"; }

portrait -f "$here/setup.sql"

# The newest as_of that was scored completely; each INSERT is one commit, so a run that died left nothing behind.
since=$(portrait --format csv -c "SELECT coalesce(max(as_of), TIMESTAMPTZ '1970-01-01 00:00:00Z') AS since FROM scores" | tail -n 1)

portrait -c "INSERT INTO scores SELECT user_id, intent, probability, as_of, model_version FROM score_users('nightly', since => '$since')"
portrait -c "SELECT count(*) AS users, max(as_of) AS as_of FROM latest_scores"
