#!/usr/bin/env bash
# Runs `collect` as a Slurm array of four on this one machine, and compares the index with that of one process.
#   apt-get install slurm-wlm munge && bash offline/cluster/try-slurm.sh        (as root, from the repository's root)
set -euo pipefail
work=$(mktemp -d)
host=$(hostname -s)
export PATH="$PWD/node_modules/.bin:$PATH"

mkdir -p /run/munge /etc/slurm "$work/state" "$work/spool"
[ -f /etc/munge/munge.key ] || mungekey --create
chown -R munge: /etc/munge /run/munge /var/lib/munge /var/log/munge
pgrep -x munged >/dev/null || runuser -u munge -- munged
cat >/etc/slurm/slurm.conf <<CONF
ClusterName=one
SlurmctldHost=$host
SlurmUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=$host CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
CONF
slurmctld -L "$work/slurmctld.log"
slurmd -L "$work/slurmd.log"
trap 'pkill -x slurmd; pkill -x slurmctld; pkill -x munged' EXIT
sleep 3
sinfo

config=fixtures/mnist-cnn/influence.yaml
job=$(sbatch --parsable --array=0-3 --output="$work/collect-%a.log" offline/cluster/collect.sbatch "$config" --out "$work/array")
while squeue --noheader --job "$job" | grep -q .; do sleep 1; done
tail -n 1 "$work"/collect-*.log
npx influence index "$config" --out "$work/array"
npx influence index "$config" --out "$work/alone"
sha256sum "$work"/{array,alone}/index/manifest.json
cmp "$work"/{array,alone}/index/manifest.json && echo "the same bytes"
