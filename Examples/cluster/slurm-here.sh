#!/usr/bin/env bash
# A Slurm cluster of one machine, this one, on the loopback address: munged, slurmctld and slurmd from Debian, with all their files in FOLDER.
#
#   apt-get install slurmctld slurmd slurm-client munge     # and root, since slurmd starts jobs as their users
#   Examples/cluster/slurm-here.sh FOLDER COMMAND...        # runs COMMAND with the cluster up, then takes it down
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
cores=$(nproc)
memory=$(awk '/^MemTotal/ { print int($2 / 1024) - 256 }' /proc/meminfo)
mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
chmod 700 "$folder/munge"
head -c 1024 /dev/urandom >"$folder/munge/key"
chmod 600 "$folder/munge/key"
cat >"$folder/slurm.conf" <<END
ClusterName=here
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=2
JobRequeue=1
MailProg=/bin/true
ReturnToService=2
NodeName=here NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=here Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$folder/slurm.conf
started=()
take_down() {
    # The controller's and the daemon's own processes, then munge.
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        kill "${started[i]}" 2>/dev/null || true
        wait "${started[i]}" 2>/dev/null || true
    done
}
trap take_down EXIT
munged --foreground --force --socket="$folder/munge/socket" --key-file="$folder/munge/key" --pid-file="$folder/munge/pid" \
    --seed-file="$folder/munge/seed" --log-file="$folder/munge/log" >"$folder/munge/out" 2>&1 &
started+=($!)
for _ in $(seq 100); do [ -S "$folder/munge/socket" ] && break || sleep 0.1; done
slurmctld -D -c >"$folder/slurmctld.out" 2>&1 &
started+=($!)
slurmd -D -N here >"$folder/slurmd.out" 2>&1 &
started+=($!)
for _ in $(seq 300); do
    if sinfo -h -o %T 2>/dev/null | grep -qx idle; then break; fi
    for process in "${started[@]}"; do
        kill -0 "$process" 2>/dev/null || { tail -n 5 "$folder"/*.out "$folder/munge/out" >&2; exit 1; }
    done
    sleep 0.2
done
sinfo -h -o %T | grep -qx idle || { tail -n 5 "$folder"/*.log >&2; exit 1; }
"$@"
