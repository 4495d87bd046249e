#!/usr/bin/env bash
# The Debian packages that the test cluster needs: lists what is missing; installs it only as root with INSTALL=1 or CI=true.
#   packages.sh [--check]       --check never installs; exit code 1: something is missing
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

NEEDED=(ip:iproute2 unshare:util-linux nsenter:util-linux pgrep:procps hostname:hostname sshd:openssh-server
    ssh:openssh-client ssh-keygen:openssh-client munged:munge slurmctld:slurmctld slurmd:slurmd sinfo:slurm-client pdsh:pdsh)

missing_packages() {
    local pair
    for pair in "${NEEDED[@]}"; do
        command -v "${pair%%:*}" > /dev/null || echo "${pair##*:}"
    done | sort -u
}

mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} = 0 ]; then exit 0; fi
echo "cluster: Debian packages are missing: ${missing[*]}" >&2
if [ "${1:-}" != --check ] && [ "$(id -u)" = 0 ] && { [ "${INSTALL:-}" = 1 ] || [ "${CI:-}" = true ]; }; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
    mapfile -t missing < <(missing_packages)
    if [ ${#missing[@]} = 0 ]; then exit 0; fi
    echo "cluster: still missing after the installation: ${missing[*]}" >&2
    exit 1
fi
echo "cluster: install them with: apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
echo "cluster: or, as root, let this do it: make test-cluster INSTALL=1" >&2
exit 1
