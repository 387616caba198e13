#!/usr/bin/env bash
# Sets up what is missing and builds dtrain into build/ (or the folder given). Quick when nothing changed.
#   scripts/build.sh [BUILD_FOLDER [--configure-only] [CMAKE_OPTION ...]]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${1:-$root/build}
shift || true
configure_only=
if [ "${1:-}" = --configure-only ]; then configure_only=yes; shift; fi
environment=$("$root/scripts/setup.sh" --print-env)
# Objects of one checkout serve another: paths are hashed relative to the root.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=true CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
if [ ! -f "$build/build.ninja" ] || [ $# -gt 0 ]; then
  cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release "-DDTRAIN_PYTHON_ENVIRONMENT=$environment" "$@" >"$build.configure.log" 2>&1 ||
    { cat "$build.configure.log" >&2; exit 4; }
  rm -f "$build.configure.log"
fi
[ -z "$configure_only" ] || exit 0
ninja -C "$build" ${DTRAIN_TARGETS:-} >"$build/build.log" 2>&1 || { grep -vE '^\[[0-9]+/' "$build/build.log" >&2; exit 4; }
