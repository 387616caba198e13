#!/usr/bin/env bash
# Installs what dtrain is built with: Debian packages, and LibTorch from the PyPI wheel in an environment of its own.
# Everything outside apt lies in ${XDG_CACHE_HOME:-~/.cache}/dtrain and is shared by all checkouts.
# Quick and silent when there is nothing to do. Prints the environment's folder as its last line with --print-env.
set -euo pipefail

torch_version=2.11.0
python_packages=("torch==$torch_version" "numpy==2.3.4" "safetensors==0.6.2" "tensorboard==2.20.0")
apt_packages=(g++ cmake ninja-build ccache git python3 python3-venv python3-dev pkg-config
  libabsl-dev libcxxopts-dev libyaml-cpp-dev nlohmann-json3-dev libspdlog-dev libisal-dev zlib1g-dev libssl-dev
  libgtest-dev libgmock-dev libbenchmark-dev clang-format clang-tidy strace e2fsprogs iproute2 openmpi-bin libopenmpi-dev)

cache=${XDG_CACHE_HOME:-$HOME/.cache}/dtrain
environment=$cache/python-torch-$torch_version
stamp=$environment/.dtrain-complete
wanted="${python_packages[*]}"

missing_apt() {
  local package
  for package in "${apt_packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

install_apt() {
  local missing
  missing=$(missing_apt)
  [ -n "$missing" ] || return 0
  echo "set-up: installing $(wc -w <<<"$missing") Debian packages" >&2
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "set-up: not root and no sudo; install by hand: apt-get install $(tr '\n' ' ' <<<"$missing")" >&2; exit 4; }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -q >&2
  # shellcheck disable=SC2086
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2
}

install_torch() {
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return 0
  echo "set-up: installing LibTorch $torch_version (about 4.7 GB) into $environment" >&2
  local python=/usr/bin/python3
  [ -x "$python" ] || python=python3
  "$python" -m venv "$environment" >&2
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir "${python_packages[@]}" >&2
  echo "$wanted" >"$stamp"
}

mkdir -p "$cache"
exec 9>"$cache/.set-up-lock"
flock 9   # two checkouts that set up at once take turns
install_apt
install_torch
[ "${1:-}" != --print-env ] || echo "$environment"
