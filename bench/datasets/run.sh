#!/usr/bin/env bash
# The loader beside torch.utils.data.DataLoader, in turns on the same machine; prints both and the ratio.
# usage: bench/datasets/run.sh [build folder, default build] [seconds a measurement, default 2]
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build}
seconds=${2:-2}
bench=$build/bin/loader_bench
[ -x "$bench" ] || { echo "run: no $bench; build the target loader_bench first" >&2; exit 4; }
python=$(scripts/setup.sh --print-env)/bin/python
root=${DTRAIN_DATA:-}
[ -n "$root" ] || { [ -d ../shared/data ] && root=../shared/data || root=data; }

# Three rounds in turns, since other programs on the machine come and go; the best of each counts.
lines=""
for _ in 1 2 3; do
  round=$("$bench" "$seconds" "$root"; "$python" bench/datasets/dataloader_peer.py "$seconds" "$root")
  echo "$round"
  lines+=$round$'\n'
done
# For each batch: ours with one prefetch thread against the peer's best number of workers by the clock on the wall, and the work
# itself, gathered in the loop's own thread on both sides, by processor time.
awk '
  function field(name,   i, pair) { for (i = 2; i <= NF; ++i) { split($i, pair, "="); if (pair[1] == name) return pair[2] + 0 } return 0 }
  function raise(best, batch, rate) { if (rate > best[batch]) best[batch] = rate }
  $1 == "dtrain" && field("threads") == 1 { raise(ours, field("batch"), field("samples_per_s")) }
  $1 == "dtrain" && field("threads") == 0 { raise(ours_cpu, field("batch"), field("samples_per_cpu_s")) }
  $1 == "torch" { raise(peer, field("batch"), field("samples_per_s")); raise(peer_cpu, field("batch"), field("samples_per_cpu_s")) }
  END {
    for (batch in ours) {
      printf "batch %d: dtrain %.2f M samples/s, DataLoader at its best %.3f M: %.1f times", batch, ours[batch] / 1e6, peer[batch] / 1e6, ours[batch] / peer[batch]
      printf "; per second of processor time %.2f M and %.3f M: %.1f times\n", ours_cpu[batch] / 1e6, peer_cpu[batch] / 1e6, ours_cpu[batch] / peer_cpu[batch]
    }
  }' <<<"$lines" | sort -k2 -n
