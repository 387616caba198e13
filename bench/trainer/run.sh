#!/usr/bin/env bash
# Fashion-MNIST, 784-512-512-10, SGD: dtrain beside its peers, interleaved, medians. Needs DTRAIN_DATA (or data/) and quiet.
#   bench/trainer/run.sh [ROUNDS]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${DTRAIN_BIN:-$root/build/bin}
rounds=${1:-5}
python=$("$root/scripts/setup.sh" --print-env)/bin/python
if [ -z "${DTRAIN_DATA:-}" ]; then export DTRAIN_DATA=$root/data; [ ! -d "$root/../shared/data" ] || DTRAIN_DATA=$root/../shared/data; fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
# Steps of a run; all programs leave the first 20 out.
steps=3000
ours() { # RANKS THREADS GLOBAL_BATCH [key=value ...]
  local ranks=$1 threads=$2 batch=$3
  shift 3
  "$bin/dtrain" train "$root/configs/fashion_parity.yaml" -n "$ranks" train.threads="$threads" data.batch.global="$batch" data.sampler=shuffled \
    train.duration=${steps}st eval.every=never checkpoint.every=never run.name="r$RANDOM$RANDOM" --json "$@" |
    "$python" -c 'import json,sys; print(round(json.load(sys.stdin)["samples_per_s"]))'
}
side_by_side() { # two bare loops at once, added
  "$bin/bare_loop" 32 1 $steps >a.txt & local first=$!
  "$bin/bare_loop" 32 1 $steps >b.txt
  wait $first
  echo $(($(cat a.txt) + $(cat b.txt)))
}
ddp() { "$python" -m torch.distributed.run --standalone --nproc_per_node 2 "$root/bench/trainer/eager_peer.py" 32 1 600 2>/dev/null; }
for round in $(seq "$rounds"); do
  ours 1 2 64 >>ours-1.txt
  "$bin/bare_loop" 64 2 $steps >>bare-1.txt
  "$python" "$root/bench/trainer/eager_peer.py" 64 2 1500 >>eager-1.txt
  ours 2 1 64 >>ours-2.txt
  side_by_side >>bare-2.txt
  ddp >>ddp-2.txt
  ours 1 1 64 run.reproducible=true data.batch.micro_batches=4 >>tree.txt
  "$bin/bare_loop" 64 1 $steps 4 >>cut.txt
  "$bin/bare_loop" 64 1 $steps >>whole.txt
done
"$python" - <<'PYTHON'
import statistics
m = {n: statistics.median(float(l) for l in open(n + ".txt")) for n in "ours-1 bare-1 eager-1 ours-2 bare-2 ddp-2 tree cut whole".split()}
print(f"{'what':58} {'dtrain':>9} {'peer':>9} {'ratio':>6} {'target':>6}")
for what, ours, peer, target in (
    ("1 process, batch 64, 2 threads / PyTorch eager", "ours-1", "eager-1", 1.1),
    ("1 process, batch 64, 2 threads / bare LibTorch loop", "ours-1", "bare-1", 0.97),
    ("-n 2, batch 32 each / two unconnected processes", "ours-2", "bare-2", 0.7),
    ("-n 2, batch 32 each / torchrun + Gloo DDP", "ours-2", "ddp-2", 3.0),
    ("reproducible, 4 leaves of 16, 1 thread / same cut by hand", "tree", "cut", 0.85)):
    print(f"{what:58} {m[ours]:9.0f} {m[peer]:9.0f} {m[ours] / m[peer]:6.2f} {target:6.2f}")
print(f"whole batch of 64 in one piece, 1 thread, by hand: {m['whole']:.0f} samples/s")
PYTHON
