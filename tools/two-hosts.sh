#!/usr/bin/env bash
# Runs a command under mpirun on two emulated hosts: network name spaces joined by a link of a given rate, each with a host
# name of its own. Needs root, iproute2 and Open MPI; where name spaces are not allowed it says so and ends with code 77.
#
#   tools/two-hosts.sh RATE DELAY COMMAND...        one process a host; RATE and DELAY as tc has them: 100mbit 200us
set -euo pipefail

[ $# -ge 3 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
rate=$1 delay=$2
shift 2
skip() { echo "two-hosts: skipped: $*" >&2; exit 77; }
for program in ip tc mpirun unshare; do command -v "$program" >/dev/null || skip "no $program"; done

id=$$
net=10.77.$((id % 250))
agent=$(mktemp)
clean() {
    for side in 1 2; do ip netns delete "cutplane-$id-$side" 2>/dev/null || true; done
    rm -f "$agent"
}
trap clean EXIT

ip netns add "cutplane-$id-1" 2>/dev/null || skip "network name spaces are not allowed"
ip netns add "cutplane-$id-2"
ip link add "cp$((id % 100000))a" netns "cutplane-$id-1" type veth peer name "cp$((id % 100000))b" netns "cutplane-$id-2" ||
    skip "no virtual Ethernet"
for side in 1 2; do
    name=cp$((id % 100000))$([ $side = 1 ] && echo a || echo b)
    inside=(ip netns exec "cutplane-$id-$side")
    "${inside[@]}" ip link set lo up
    # A whole packet a segment: what offloading would bundle passes a token bucket in bursts.
    command -v ethtool >/dev/null && "${inside[@]}" ethtool -K "$name" tso off gso off gro off >/dev/null 2>&1 || true
    "${inside[@]}" ip address add "$net.$side/24" dev "$name"
    "${inside[@]}" ip link set "$name" up
    "${inside[@]}" tc qdisc add dev "$name" root handle 1: tbf rate "$rate" burst 64kb latency 400ms 2>/dev/null ||
        skip "no rate limit: the kernel has no token bucket (sch_tbf)"
    [ "$delay" = 0 ] || "${inside[@]}" tc qdisc add dev "$name" parent 1:1 handle 10: netem delay "$delay" 2>/dev/null ||
        echo "two-hosts: no delay: the kernel has no sch_netem" >&2
done

# What mpirun calls instead of ssh: AGENT HOST COMMAND...
cat >"$agent" <<AGENT
#!/bin/sh
side=\${1##*.}
shift
exec ip netns exec "cutplane-$id-\$side" unshare --uts sh -c "hostname host-\$side; \$*"
AGENT
chmod +x "$agent"

ip netns exec "cutplane-$id-1" unshare --uts sh -c 'hostname host-1; exec "$@"' sh \
    mpirun --allow-run-as-root -np 2 --host "$net.1:1,$net.2:1" --bind-to none \
    --mca plm_rsh_agent "$agent" --mca btl tcp,self --mca btl_tcp_if_include "$net.0/24" \
    --mca oob_tcp_if_include "$net.0/24" "$@"
