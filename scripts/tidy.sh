#!/usr/bin/env bash
# clang-tidy (.clang-tidy) over the torch-free sources; files that passed before, with the same headers, are not read again.
#   scripts/tidy.sh BUILD_FOLDER [FILE ...]     BUILD_FOLDER: one that was configured with -DDTRAIN_TORCH=OFF
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${1:?tidy: which build folder?}
shift
cd "$root"
stamps=${XDG_CACHE_HOME:-$HOME/.cache}/dtrain/tidy
mkdir -p "$stamps"
find "$stamps" -type f -mtime +30 -delete
if [ $# -eq 0 ]; then
  mapfile -t files < <(sed -n "s|^ *\"file\": \"$root/\(.*\.cc\)\",\?\$|\1|p" "$build/compile_commands.json" | grep -vE '^(tests|bench)/' | sort -u)
else
  files=("$@")
fi
[ ${#files[@]} -gt 0 ] || { echo "tidy: no source in $build/compile_commands.json" >&2; exit 1; }
# What every file's result depends on: the checks, the tool, all headers of ours.
common=$( (clang-tidy --version; cat .clang-tidy; git ls-files -co --exclude-standard -- '*.h' | LC_ALL=C sort | xargs cat) | sha256sum)
check() {
  local file=$1 key out
  key=$stamps/$( (echo "$common"; echo "$file"; cat "$file") | sha256sum | cut -d' ' -f1)
  [ ! -e "$key" ] || return 0
  # -w: warnings are the compiler's matter, and it knows other ones.
  if out=$(clang-tidy -p "$build" --quiet --extra-arg=-w "$file" 2>&1); then
    touch "$key"
  else
    grep -vE 'warnings? generated|Suppressed|Use -header-filter' <<<"$out"
    return 1
  fi
}
export -f check
export common stamps build
printf '%s\n' "${files[@]}" | xargs -P 2 -I{} bash -c 'check "$1"' _ {} || { echo "tidy: see above" >&2; exit 1; }
echo "tidy: ${#files[@]} files"
