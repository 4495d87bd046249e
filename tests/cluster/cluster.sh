#!/usr/bin/env bash
# A real cluster on one machine, for tests: host "head" (slurmctld) and node1..nodeN (slurmd), each with a network, host
# name, process table, /run and /dev/shm of its own, munged and sshd; the file system is shared. Root only, no systemd.
#
#   cluster.sh up [N]           start head and N nodes (default 2), wait until all are idle and reachable
#   cluster.sh exec HOST CMD…   run CMD on HOST, in this folder, with this environment
#   cluster.sh status           hosts, nodes, queue (exit code 3: not up)
#   cluster.sh down             end all of it
#
# Everything is written below ZHGPT_CLUSTER_DIR (default: zhgpt-cluster in the folder for temporary files); nothing outside
# it changes: no ~/.ssh, /etc/hosts or /etc/slurm. Clusters in different folders do not see each other.
# ZHGPT_CLUSTER_OWNER=PID takes the cluster down when that process ends, however it ends.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
SELF=$(readlink -f "${BASH_SOURCE[0]}")
STATE=${ZHGPT_CLUSTER_DIR:-${TMPDIR:-/tmp}/zhgpt-cluster}
NAME=zh$(printf %s "$STATE" | sha256sum | cut -c 1-6)    # prefix of the network namespaces: one list for the whole machine
CPUS=${ZHGPT_CLUSTER_CPUS:-4}                            # CPUs that each node claims to have
READY_SECONDS=${ZHGPT_CLUSTER_READY_SECONDS:-60}
NETWORK=10.77.0                                          # inside the cluster's own switch, not reachable from outside

say() { echo "cluster: $*" >&2; }
die() { say "error: $*"; exit 1; }

# --- what must be there ---------------------------------------------------------------------------------------------

check_machine() {
    [ "$(id -u)" = 0 ] || die "must be root (namespaces, sshd)"
    "$(dirname "$SELF")/packages.sh" --check || die "Debian packages are missing, see above"
    unshare --net --mount --pid --uts --ipc --fork ip link add probe0 type veth peer name probe1 2> /dev/null ||
        die "this kernel or container allows no new namespaces with veth links (CAP_SYS_ADMIN, CONFIG_VETH)"
}

# --- files ----------------------------------------------------------------------------------------------------------

write_names() {
    local i
    echo "127.0.0.1 localhost"
    echo "$NETWORK.1 head"
    for ((i = 1; i <= $1; i++)); do echo "$NETWORK.$((10 + i)) node$i"; done
}

write_ssh() {
    ssh-keygen -q -t ed25519 -N '' -f "$STATE/user_key"
    ssh-keygen -q -t ed25519 -N '' -f "$STATE/host_key"
    cat > "$STATE/etc/ssh_config" << END
IdentityFile $STATE/user_key
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
ConnectTimeout 5
ServerAliveInterval 10
END
    cat > "$STATE/etc/sshd_config" << END
HostKey $STATE/host_key
AuthorizedKeysFile $STATE/user_key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
PidFile none
MaxStartups 100
END
}

write_slurm() { # timings are short, so that a test sees in seconds what takes minutes elsewhere
    cat > "$STATE/etc/slurm/slurm.conf" << END
ClusterName=$NAME
SlurmctldHost=head
SlurmUser=root
StateSaveLocation=$STATE/slurmctld
SlurmdSpoolDir=$STATE/spool/%n
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
MinJobAge=86400
KillWait=30
SlurmdTimeout=10
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=node[1-$1] CPUs=$CPUS RealMemory=1024 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
    echo "CgroupPlugin=cgroup/v1" > "$STATE/etc/slurm/cgroup.conf"    # else slurmd looks for a mounted cgroup tree and stops
}

write_files() {
    mkdir -p "$STATE"/{etc/slurm,log,run,spool,slurmctld}
    chmod 700 "$STATE"
    write_names "$1" > "$STATE/etc/hosts"
    printf '%s: files\n' hosts passwd group shadow > "$STATE/etc/nsswitch.conf"    # no DNS: an unknown name fails at once
    (umask 077; head -c 128 /dev/urandom > "$STATE/munge_key")
    write_ssh
    write_slurm "$1"
    echo "$1" > "$STATE/run/nodes"    # last: from here on the cluster exists
}

# --- hosts ----------------------------------------------------------------------------------------------------------

all_hosts() { echo head; seq -f 'node%g' "$(cat "$STATE/run/nodes")"; }
address_of() { awk -v host="$1" '$2 == host { print $1 }' "$STATE/etc/hosts"; }

is_up() { # its `unshare` runs, and is no zombie or later process with the same number
    [ -s "$STATE/run/$1.pid" ] && [[ $(cat "/proc/$(cat "$STATE/run/$1.pid")/stat" 2> /dev/null) =~ \(unshare\)\ [^Z] ]]
}

first_process_of() {
    is_up "$1" || die "host $1 is not up"
    pgrep -P "$(cat "$STATE/run/$1.pid")" || die "host $1 is just ending"
}

start_host() { # a network cable to the switch, then the first process in namespaces of its own
    local host=$1
    ip netns del "$NAME-$host" 2> /dev/null || true
    ip netns add "$NAME-$host"
    ip -n "$NAME-switch" link add "port-$host" type veth peer name eth0 netns "$NAME-$host"
    ip -n "$NAME-switch" link set "port-$host" master bridge up
    ip -n "$NAME-$host" addr add "$(address_of "$host")/24" dev eth0
    ip -n "$NAME-$host" link set eth0 up
    ip -n "$NAME-$host" link set lo up
    env -i PATH="$PATH" HOME="$HOME" LANG=C.UTF-8 ZHGPT_CLUSTER_DIR="$STATE" setsid \
        ip netns exec "$NAME-$host" unshare --uts --ipc --mount --pid --fork --kill-child --mount-proc \
        "$SELF" __first_process "$host" > "$STATE/log/$host.log" 2>&1 < /dev/null &
    echo $! > "$STATE/run/$host.pid"
}

be_first_process() { # process 1 of a host: its own /run, /etc files and daemons
    local host=$1 file i
    hostname "$host"
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mkdir -p /run/munge /run/sshd "$STATE/spool/$host"
    hostname > /run/hostname
    mount --bind /run/hostname /etc/hostname
    for file in hosts nsswitch.conf slurm; do mount --bind "$STATE/etc/$file" "/etc/$file"; done
    mount --bind "$STATE/etc/ssh_config" /etc/ssh/ssh_config
    munged --foreground --force --key-file="$STATE/munge_key" --socket=/run/munge/munge.socket.2 --num-threads=2 \
        --pid-file=/run/munge/munged.pid --log-file=/run/munge/munged.log --seed-file=/run/munge/seed &
    "$(command -v sshd)" -D -f "$STATE/etc/sshd_config" -E "$STATE/log/sshd-$host.log" &
    for ((i = 0; i < 100; i++)); do if [ -S /run/munge/munge.socket.2 ]; then break; fi; sleep 0.1; done
    if [ "$host" = head ]; then slurmctld -D -i & else slurmd -D & fi
    sleep infinity &
    while :; do wait || true; done    # and bury the orphans
}

stop_host() { # SIGKILL to `unshare` ends the host's first process, and that one every other on it
    local pid first
    is_up "$1" || return 0
    pid=$(cat "$STATE/run/$1.pid")
    first=$(pgrep -P "$pid" || true)
    kill -KILL "$pid"
    while is_up "$1" || { [ -n "$first" ] && [ -n "$(ls "/proc/$first/fd" 2> /dev/null)" ]; }; do sleep 0.05; done
    rm -f "$STATE/run/$1.pid"
}

on_host() {
    local first host=$1
    shift
    first=$(first_process_of "$host")
    # shellcheck disable=SC2016 # that shell expands them
    exec nsenter -t "$first" -m -u -i -n -p -- /bin/sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
}

# --- commands -------------------------------------------------------------------------------------------------------

is_ready() { # $1 nodes are idle and every sshd answers
    [ "$( (on_host head sinfo -h -N -o '%N %T') 2> /dev/null | grep -c ' idle$')" = "$1" ] &&
        (on_host head pdsh -S -R ssh -w "$(all_hosts | paste -sd,)" true) > /dev/null 2>&1
}

up() {
    local nodes=$1 host end started=$SECONDS
    [[ $nodes =~ ^[1-9][0-9]?$ ]] || die "the number of nodes must be 1 to 99, not '$nodes'"
    check_machine
    [ ! -f "$STATE/run/nodes" ] || die "a cluster is up in $STATE already; take it down first"
    rm -rf "$STATE"
    write_files "$nodes"
    ip netns add "$NAME-switch"
    ip -n "$NAME-switch" link add bridge type bridge
    ip -n "$NAME-switch" link set bridge up
    for host in $(all_hosts); do start_host "$host"; done
    if [ -n "${ZHGPT_CLUSTER_OWNER:-}" ]; then setsid "$SELF" __watch "$ZHGPT_CLUSTER_OWNER" > /dev/null 2>&1 < /dev/null & fi
    end=$((SECONDS + READY_SECONDS))
    until is_ready "$nodes"; do
        if [ $SECONDS -ge $end ]; then
            (on_host head sinfo -N -l) >&2 || true
            tail -n 5 "$STATE"/log/*.log >&2 || true
            down
            die "not all of $nodes nodes were ready after $READY_SECONDS s; logs in $STATE/log"
        fi
        sleep 0.2
    done
    say "up: head and $nodes nodes in $((SECONDS - started)) s"
}

watch_owner() { while kill -0 "$1" 2> /dev/null && [ -f "$STATE/run/nodes" ]; do sleep 1; done; down; }

down() {
    local host
    [ -f "$STATE/run/nodes" ] || { say "not up"; return 0; }
    for host in $(all_hosts); do stop_host "$host"; ip netns del "$NAME-$host" 2> /dev/null || true; done
    ip netns del "$NAME-switch" 2> /dev/null || true
    rm -rf "${STATE:?}"/{run,slurmctld,spool,etc} "$STATE"/*_key*    # the logs stay until the next `up`
    say "down"
}

status() {
    local host
    [ -f "$STATE/run/nodes" ] || { say "not up"; return 3; }
    for host in $(all_hosts); do echo "$host $(address_of "$host") $(is_up "$host" && echo up || echo off)"; done
    (on_host head sinfo -N -l)
    (on_host head squeue -l)
}

case ${1:-} in
    up) up "${2:-2}" ;;
    down) down ;;
    status) status ;;
    exec)
        shift
        [ -f "$STATE/run/nodes" ] || die "no cluster is up in $STATE"
        grep -qx "${1:-}" <<< "$(all_hosts)" || die "no host '${1:-}'; hosts: $(all_hosts | paste -sd ' ')"
        on_host "$@"
        ;;
    __first_process) be_first_process "$2" ;;
    __watch) watch_owner "$2" ;;
    *) sed -n '2,/^set /{ s/^# \{0,1\}//p }' "$SELF" >&2; exit 2 ;;
esac
