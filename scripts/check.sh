#!/usr/bin/env bash
# Formats, builds and tests everything; what a change must pass.
#   scripts/check.sh          format, build, all tests, sanitizers over the torch-free tests
#   scripts/check.sh --full   also what takes long or needs rights: power cuts, many seeds, mutants
#   scripts/check.sh --quick  without sanitizers
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
mode=${1:-}
case "$mode" in "" | --full | --quick) ;; *) echo "check: found '$mode', expected --full, --quick or nothing" >&2; exit 2 ;; esac

shares=()
begun=$SECONDS
part_begun=$SECONDS
share() { shares+=("$(printf '%-12s %4d s' "$1" $((SECONDS - part_begun)))"); part_begun=$SECONDS; }

echo "== set-up"
scripts/setup.sh
share set-up

echo "== format"
mapfile -t sources < <(git ls-files -co --exclude-standard -- '*.cc' '*.h')
clang-format --dry-run --Werror "${sources[@]}"
for script in scripts/*.sh .ci/run; do bash -n "$script"; done
share format

if [ -z "${DTRAIN_DATA:-}" ] && [ -d "$root/../shared/data" ]; then export DTRAIN_DATA=$root/../shared/data; fi
[ -n "${DTRAIN_DATA:-}" ] && echo "data sets: $DTRAIN_DATA" || echo "data sets: none (tests that read them are skipped; set DTRAIN_DATA)"

echo "== build"
scripts/build.sh "$root/build"
share build

# run_tests FOLDER [ctest option ...]: all tests. Says what was skipped and why; a test that reads data (its reason begins
# with "no data:") may not skip where the data sets are.
run_tests() {
  local build=$1 log=$1/tests.log skipped
  shift
  ctest --test-dir "$build" --output-on-failure --no-tests=error -j 2 "$@" 2>&1 | tee "$log" | grep -vE '^ *[0-9]+/[0-9]+ Test .* Passed|^ *Start ' || true
  grep -q '^100% tests passed' "$log" || { echo "check: tests failed in $build" >&2; exit 1; }
  # CTest's log has each test's own output, the reason of a skip on the line behind "Skipped" or on its own.
  skipped=$(grep -aE 'no data: |: Skipped$' -A1 "$build/Testing/Temporary/LastTest.log" | grep -avE ': Skipped$|^--$|^$|^\[|^<end of' | sort | uniq -c || true)
  [ -z "$skipped" ] || printf 'skipped, and why:\n%s\n' "$skipped"
  if [ -n "${DTRAIN_DATA:-}" ] && grep -q 'no data: ' <<<"$skipped"; then
    echo "check: tests of data were skipped though DTRAIN_DATA is $DTRAIN_DATA" >&2
    exit 1
  fi
}

# What the sanitizers' result depends on: the torch-free sources, how they are built, and with what.
sanitizer_key() {
  { c++ --version; cat cmake/*.cmake scripts/build.sh scripts/check.sh
    git ls-files -co --exclude-standard -- '*.cc' '*.h' '*CMakeLists.txt' | grep -vE '(^|/)torch_|^models/|^bench/' | LC_ALL=C sort |
      while read -r file; do echo "$file"; cat "$file"; done; } | sha256sum | cut -d' ' -f1
}

if [ "$mode" != --quick ]; then
  echo "== clang-tidy over the torch-free sources"
  scripts/build.sh "$root/build-asan" --configure-only -DDTRAIN_TORCH=OFF -DDTRAIN_SANITIZE=address,undefined
  scripts/tidy.sh "$root/build-asan"
  share tidy
  echo "== sanitizers: address and undefined behaviour, then threads, over the torch-free tests"
  stamp=${XDG_CACHE_HOME:-$HOME/.cache}/dtrain/sanitizers/$(sanitizer_key)
  if [ -e "$stamp" ] && [ "$mode" != --full ]; then
    echo "passed before with these very sources: $(cat "$stamp"); --full runs them again"
  else
    scripts/build.sh "$root/build-asan" -DDTRAIN_TORCH=OFF -DDTRAIN_SANITIZE=address,undefined
    share asan-build
    run_tests "$root/build-asan" -LE 'slow|python' --timeout 300
    share asan
    # Threads: only the programs that have several.
    threaded=(exchange_test shm_communicator_test checkpoint_test loader_test cluster_member_test cluster_links_test
              cluster_mesh_test)
    DTRAIN_TARGETS=${threaded[*]} scripts/build.sh "$root/build-tsan" -DDTRAIN_TORCH=OFF -DDTRAIN_SANITIZE=thread
    for program in "${threaded[@]}"; do
      "$root/build-tsan/bin/$program" --gtest_brief=1 || { echo "check: $program failed under the thread sanitizer" >&2; exit 1; }
    done
    share tsan
    mkdir -p "$(dirname "$stamp")"
    find "$(dirname "$stamp")" -type f -mtime +30 -delete
    date -u '+%Y-%m-%d %H:%M UTC' >"$stamp"
  fi
fi

if [ "$mode" = --full ]; then
  echo "== mutants"
  scripts/mutants.sh
  share mutants
  echo "== Slurm"
  tests/cluster/slurm.sh "$root/build/bin/cluster_rendezvous_test_rank" || { [ $? -eq 77 ] || exit 1; }
  share slurm
  echo "== power cuts"
  scripts/power_cut_test.sh "$root/build" || { [ $? -eq 77 ] || exit 1; }  # 77: not allowed here; it said why
  share power-cuts
fi

echo "== tests"
run_tests "$root/build"
share tests

printf '%s\n' "== time" "${shares[@]}"
printf 'all          %4d s\n' $((SECONDS - begun))
grep -E 'tests passed' "$root/build/tests.log"
