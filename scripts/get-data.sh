#!/usr/bin/env bash
# Fetches a data set that is not part of the program, says where it lies and checks that it is the published one.
#
#   scripts/get-data.sh fashion-mnist      installs Debian's package dataset-fashion-mnist (30 MB; sudo where not root)
#   scripts/get-data.sh mnist              no package has it: says what to put where, and checks what is there
#   scripts/get-data.sh NAME FOLDER        checks the four files in FOLDER, fetches nothing
#
# Running it again changes nothing. Files may be gzip or plain; hashes are of the unpacked bytes. Exit code 0: there and right;
# 2: usage; 4: absent, not to be installed, or not the published bytes.
set -euo pipefail

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }

hashes() {
  case $1 in
    mnist) cat <<'END' ;;
ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db train-images-idx3-ubyte
65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5 train-labels-idx1-ubyte
0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7 t10k-images-idx3-ubyte
ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2 t10k-labels-idx1-ubyte
END
    fashion-mnist) cat <<'END' ;;
c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888 train-images-idx3-ubyte
bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9 train-labels-idx1-ubyte
5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b t10k-images-idx3-ubyte
0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34 t10k-labels-idx1-ubyte
END
    *) usage ;;
  esac
}

has_files() { compgen -G "$1/train-images-idx3-ubyte*" >/dev/null; }

check() {
  local name=$1 folder=$2 expected file found
  while read -r expected file; do
    if [ -f "$folder/$file.gz" ]; then
      found=$(gzip -dc "$folder/$file.gz" 2>/dev/null | sha256sum) || found="(broken gzip)"
    elif [ -f "$folder/$file" ]; then
      found=$(sha256sum <"$folder/$file")
    else
      echo "get-data: $name: no $file.gz nor $file in $folder" >&2
      exit 4
    fi
    if [ "${found%% *}" != "$expected" ]; then
      printf 'get-data: %s: %s/%s: sha256 of the unpacked bytes is %s, expected %s\n  Hint: remove it and fetch it again\n' \
        "$name" "$folder" "$file" "${found%% *}" "$expected" >&2
      exit 4
    fi
  done < <(hashes "$name")
  echo "$name: 60,000 images to train, 10,000 to test in $folder (sha256 as published)"
}

install_fashion() {
  local package=dataset-fashion-mnist as_root=()
  command -v apt-get >/dev/null || { echo "get-data: no apt-get here; fetch the four idx files of Fashion-MNIST by hand and run this with their folder" >&2; exit 4; }
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "get-data: not root and no sudo; install by hand: apt-get install $package" >&2; exit 4; }
    as_root=(sudo)
  fi
  echo "get-data: installing Debian's $package" >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package" >&2 ||
    { "${as_root[@]}" apt-get update -q >&2 &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package" >&2; } ||
    { echo "get-data: apt-get could not install $package (its messages stand above)" >&2; exit 4; }
}

name=${1:-}
case $name in mnist | fashion-mnist) ;; *) usage ;; esac
[ $# -le 2 ] || usage
if [ $# -eq 2 ]; then
  check "$name" "$2"
  exit
fi

root=${DTRAIN_DATA:-data}
debian=/usr/share/datasets/fashion-mnist
if has_files "$root/$name"; then
  check "$name" "$root/$name"
elif [ "$name" = fashion-mnist ]; then
  has_files "$debian" || install_fashion
  check "$name" "$debian"
else
  cat >&2 <<END
get-data: no package has MNIST. Put these four files (gzip or plain) into $root/mnist and run this again:
  train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz  t10k-images-idx3-ubyte.gz  t10k-labels-idx1-ubyte.gz
They are those of LeCun, Cortes and Burges, "The MNIST database of handwritten digits"; any copy will do, since the unpacked
bytes are checked. data.root or DTRAIN_DATA say where else the folder mnist may lie.
END
  exit 4
fi
