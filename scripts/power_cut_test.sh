#!/usr/bin/env bash
# Cuts the power of a real file system, again and again, while a program saves checkpoints on it: an ext4 image on a loop device,
# shut down without writing back data or log, mounted again. The newest checkpoint must load and be at least the last one whose
# save was acknowledged. Then the same with every fsync left out, which must lose something: else this test proves nothing.
# Usage: scripts/power_cut_test.sh BUILD_FOLDER [ROUNDS]. Needs root and loop devices; exits with 77 where it has none.
set -euo pipefail

build=${1:?usage: scripts/power_cut_test.sh BUILD_FOLDER [ROUNDS]}
rounds=${2:-30}
program=$build/bin/checkpoint_crash_program
shut_down=$build/bin/shutdown_filesystem
for needed in "$program" "$shut_down"; do
  [ -x "$needed" ] || { echo "power cut test: $needed is missing; build it first" >&2; exit 4; }
done

folder=$(mktemp -d)
image=$folder/disk.img
mount_point=$folder/mounted
mkdir "$mount_point"
clean_up() {
  umount "$mount_point" 2>/dev/null || true
  rm -rf "$folder"
}
trap clean_up EXIT

skip() { echo "power cut test: skipped: $1"; exit 77; }
[ "$(id -u)" -eq 0 ] || skip "not root"
command -v mkfs.ext4 >/dev/null || skip "mkfs.ext4 is absent"

new_disk() {
  rm -f "$image"
  truncate -s 64M "$image"
  # A commit interval longer than the test: nothing gets to the disk by the journal's own clock.
  mkfs.ext4 -q -F "$image"
}
mount_disk() { mount -o loop,commit=300 "$image" "$mount_point" 2>"$folder/mount.log"; }

# cut ROUND SYNC: one power cut while saving. Prints "ok", or what was lost.
cut() {
  local round=$1 sync=$2 saved=$folder/saved newest first pid acknowledged after_ms
  mount_disk
  newest=$("$program" check "$mount_point/run" | sed -n 's/^newest //p')
  first=$(( ${newest/none/0} + 1 ))
  : >"$saved"
  "$program" save "$mount_point/run" "$first" $((first + 100000)) 200 $sync >"$saved" 2>/dev/null &
  pid=$!
  # Spread over the length of several saves; the seed is the round.
  after_ms=$(( 20 + (round * 7919) % 281 ))
  sleep "$(printf '0.%03d' "$after_ms")"
  "$shut_down" "$mount_point"
  # Before it is killed: what it acknowledges after the shut-down would be a lie (and is checked as one).
  for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" 2>/dev/null || break; sleep 0.02; done
  kill -9 "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  umount "$mount_point"
  mount_disk
  acknowledged=$(sed -n 's/^saved //p' "$saved" | tail -1)
  acknowledged=${acknowledged:-${newest/none/0}}
  if ! newest=$("$program" check "$mount_point/run" 2>"$folder/check.log" | sed -n 's/^newest //p') || [ -z "$newest" ]; then
    echo "step $acknowledged was acknowledged, but: $(head -2 "$folder/check.log" | tr '\n' ' ')"
  elif [ "${newest/none/0}" -lt "$acknowledged" ]; then
    echo "step $acknowledged was acknowledged, but the newest is $newest"
  else
    echo "ok: $acknowledged acknowledged, $newest found"
  fi
  umount "$mount_point"
}

new_disk
mount_disk || skip "a loop device cannot be mounted here: $(cat "$folder/mount.log")"
"$shut_down" "$mount_point" 2>"$folder/mount.log" || skip "$(cat "$folder/mount.log")"
umount "$mount_point"

new_disk
for round in $(seq "$rounds"); do
  result=$(cut "$round" "")
  echo "power cut $round: $result"
  [[ $result == ok* ]] || { echo "power cut test: FAILED" >&2; exit 1; }
done

for round in $(seq "$rounds"); do
  new_disk
  result=$(cut "$round" no-sync)
  if [[ $result != ok* ]]; then
    echo "without fsync, power cut $round: $result"
    echo "power cut test: $rounds cuts with fsync lost nothing; without fsync cut $round did"
    exit 0
  fi
done
echo "power cut test: FAILED: even without fsync $rounds cuts lost nothing, so the test sees nothing" >&2
exit 1
