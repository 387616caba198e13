#!/usr/bin/env bash
# Goal: a job across three hosts gives the same parameters as one process, by --rendezvous and by mpirun, and ends when a link is
# cut. Method: three network namespaces on this machine, joined by a bridge. Exit 77: not allowed here.
#   hosts_test.sh DTRAIN CONFIG MPIRUN(or empty)
set -uo pipefail
dtrain=$1 config=$2 mpirun=${3:-}
tag=dt$$
net=10.$((64 + $$ % 64)).$(($$ / 64 % 256))
folder=$(mktemp -d)
hosts=(a b c)
clean() {
  for host in "${hosts[@]}"; do
    for pid in $(ip netns pids "$tag$host" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
    ip netns del "$tag$host" 2>/dev/null
  done
  ip link del "$tag" 2>/dev/null
  rm -rf "$folder"
}
trap clean EXIT
skip() { echo "no namespaces: $1"; exit 77; }
fail() { echo "FAILED: $*"; cat "$folder"/*.txt 2>/dev/null; exit 1; }
ip link add "$tag" type bridge 2>/dev/null || skip "ip link add bridge is not allowed"
ip link set "$tag" up
number=1
for host in "${hosts[@]}"; do
  ip netns add "$tag$host" 2>/dev/null || skip "ip netns add is not allowed"
  ip link add "$tag$host" type veth peer name eth0 netns "$tag$host" || skip "veth is not there"
  ip link set "$tag$host" master "$tag" up
  ip -n "$tag$host" addr add "$net.$number/24" dev eth0
  ip -n "$tag$host" link set eth0 up
  ip -n "$tag$host" link set lo up
  number=$((number + 1))
done
# A host has a network, a name and shared memory of its own (Open MPI's segments are told apart by the host's name).
cat >"$folder/host.sh" <<HOST
#!/bin/sh
name=\$1
shift
exec ip netns exec "$tag\$name" unshare --uts --mount sh -c 'hostname "\$0"; mount -t tmpfs tmpfs /dev/shm; exec "\$@"' "\$name" "\$@"
HOST
chmod +x "$folder/host.sh"
on() { "$folder/host.sh" "$@"; }
cd "$folder" || exit 1
export DTRAIN_TOKEN=0123456789abcdef0123456789abcdef
words=(train "$config" train.duration=3ep "model.hidden=[128, 64]")
hash_of() { sed -n 's/.*"parameter_hash": *"\([0-9a-f]*\)".*/\1/p' "runs/$1/result.json"; }
"$dtrain" "${words[@]}" run.name=whole -q >whole.txt 2>&1 || fail "one process"
expected=$(hash_of whole)
[ -n "$expected" ] || fail "no hash"

echo "== three hosts by --rendezvous, TCP"
rank() { on "$1" "$dtrain" "${words[@]}" strategy.backend=tcp --rendezvous "$net.1:29500" --rank "$2" --world 3 "${@:3}" >"rank$2.txt" 2>&1; }
rank b 1 run.name=hosts & rank c 2 run.name=hosts &
rank a 0 run.name=hosts || fail "rank 0 of three hosts"
wait
[ "$(hash_of hosts)" = "$expected" ] || fail "three hosts gave $(hash_of hosts), one process $expected"
grep -q 'ring over TCP, 3 ranks' rank0.txt || fail "not the ring"

echo "== a cut link ends the job within its deadline"
endless=(run.name=cut train.duration=100000ep strategy.deadline=1s checkpoint.every=50st)
rank b 1 "${endless[@]}" & rank c 2 "${endless[@]}" &
rank a 0 "${endless[@]}" & first=$!
for _ in $(seq 200); do [ -e runs/cut/LATEST ] && break; sleep 0.1; done
[ -e runs/cut/LATEST ] || fail "no checkpoint before the cut"
ip link set "${tag}c" down
begun=$SECONDS
wait $first
code=$?
[ $code = 5 ] || fail "exit code $code after a cut link, expected 5"
[ $((SECONDS - begun)) -le 20 ] || fail "took $((SECONDS - begun)) s to notice a cut link"
grep -q 'rank 2' rank0.txt || fail "rank 2 is not named"
wait
ip link set "${tag}c" up

if [ -n "$mpirun" ]; then
  echo "== three hosts by mpirun"
  cat >agent.sh <<AGENT
#!/bin/sh
case "\$1" in $net.1) h=a ;; $net.2) h=b ;; *) h=c ;; esac
shift
exec "$folder/host.sh" "\$h" sh -c "\$*"
AGENT
  chmod +x agent.sh
  unset DTRAIN_TOKEN
  for backend in tcp mpi; do
  on a timeout 100 "$mpirun" --allow-run-as-root --mca plm_rsh_agent "$folder/agent.sh" --mca btl_tcp_if_include "$net.0/24" --mca oob_tcp_if_include "$net.0/24" \
    -n 4 -H "$net.1:2,$net.2:1,$net.3:1" "$dtrain" "${words[@]}" "strategy.backend=$backend" run.name=mpi-$backend >mpi.txt 2>&1 || fail "mpirun, $backend"
  [ "$(hash_of mpi-$backend)" = "$expected" ] || fail "mpirun over three hosts, $backend, gave $(hash_of mpi-$backend), one process $expected"
  done
fi
echo "all hosts agree: $expected"
