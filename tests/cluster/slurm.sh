#!/bin/sh
# Ranks under real srun: slurm.sh RENDEZVOUS_TEST_RANK (the program cluster_rendezvous_test_rank of the build folder's bin/).
# Starts munged, slurmctld and slurmd of its own on this host, in a temporary folder, and ends them again. Needs root and the
# package slurm-wlm. Exit code 77, with the reason: cannot run here.
set -eu
program=$(realpath "${1:?usage: slurm.sh RENDEZVOUS_TEST_RANK}")
skip() { echo "skipped: $1"; exit 77; }
fail() { echo "failed: $1"; tail -n 20 "$work"/*.log "$work"/*.out 2> /dev/null || true; exit 1; }
[ "$(id -u)" = 0 ] || skip "not root"
for tool in munged slurmctld slurmd srun sbatch; do
  command -v $tool > /dev/null 2>&1 || [ -x /usr/sbin/$tool ] || skip "$tool is not installed (package slurm-wlm)"
done
PATH=$PATH:/usr/sbin
work=$(mktemp -d)
mkdir "$work/state" "$work/spool"
host=$(hostname)
finish() {
  for daemon in slurmd slurmctld munged; do
    [ ! -s "$work/$daemon.pid" ] || kill "$(cat "$work/$daemon.pid")" 2> /dev/null || true
  done
  sleep 0.5
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

cat > "$work/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$work/slurm.conf"
dd if=/dev/urandom of="$work/munge.key" bs=128 count=1 2> /dev/null
chmod 600 "$work/munge.key"
chmod 711 "$work"
munged --force --key-file="$work/munge.key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" \
  --log-file="$work/munged.log" --seed-file="$work/munged.seed" > "$work/munged.out" 2>&1 || fail "munged does not start"
slurmctld -i > "$work/slurmctld.out" 2>&1 || fail "slurmctld does not start"
slurmd > "$work/slurmd.out" 2>&1 || fail "slurmd does not start"
ready=no
for _ in $(seq 100); do
  if sinfo -h -o %t 2> /dev/null | grep -qx idle; then ready=yes; break; fi
  sleep 0.1
done
[ $ready = yes ] || fail "the node does not become idle"

# No other flag than srun's own; the token goes through the run directory.
timeout 60 srun -n 3 --overcommit "$program" slurm 0 0 "$work/run" > "$work/srun.out" 2>&1 || fail "srun -n 3"
for rank in 0 1 2; do grep -q "^rank $rank of 3 at .*: 4 links$" "$work/srun.out" || fail "rank $rank did not reach the others"; done
[ ! -e "$work/run/.control" ] || fail ".control is left over"

# The same with a token from the environment, and no common run directory.
DTRAIN_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') timeout 60 srun -n 3 --overcommit \
  sh -c "exec '$program' slurm 0 0 '$work/run-of-'\$SLURM_PROCID" > "$work/token.out" 2>&1 || fail "srun with DTRAIN_TOKEN"
[ "$(grep -c ': 4 links$' "$work/token.out")" = 3 ] || fail "with DTRAIN_TOKEN not all reached the others"

# A batch script with several tasks is no launch itself; a step of fewer tasks inside of it is.
printf '#!/bin/sh\n%s slurm 0 0 %s\nsrun -n 2 --overcommit %s slurm 0 0 %s\n' "$program" "$work/run" "$program" "$work/run" > "$work/job.sh"
timeout 60 sbatch --wait -n 4 -o "$work/batch.out" "$work/job.sh" > "$work/sbatch.out" 2>&1 || fail "sbatch"
grep -q "not started by srun" "$work/batch.out" || fail "the batch script was taken for a rank"
[ "$(grep -c ' of 2 at .*: 2 links$' "$work/batch.out")" = 2 ] || fail "the step inside the batch script"
echo "passed: srun, srun with DTRAIN_TOKEN, srun inside sbatch"
