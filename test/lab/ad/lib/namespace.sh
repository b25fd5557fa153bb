# namespace.sh - sourced by up.sh: a mount namespace (and a network one, if asked) that a sleeping process holds open.
# Inside it /run/samba, /etc/hosts and /etc/resolv.conf are the lab's own; outside nothing changes.

cat >"$S/hosts" <<HOSTS
127.0.0.1 localhost
$DC dc1.corp.example dc1 corp.example
$WEB intranet.corp.example intranet portal.corp.example
$LEGACY legacy.corp.example
$EPA epa.corp.example
$PROXY proxy.corp.example
HOSTS
printf 'nameserver %s\nsearch corp.example\noptions timeout:1 attempts:1\n' "$DC" >"$S/resolv.conf"

flags=-m
[ -z "${ADLAB_NETNS:-}" ] || flags="-m -n"
echo "$flags" >"$S/pid/ns"
# shellcheck disable=SC2086
(exec setsid unshare $flags --propagation private sleep infinity </dev/null >/dev/null 2>&1) &
echo $! >"$S/pid/holder"
pid=$(cat "$S/pid/holder")
# unshare becomes sleep only after it has left our namespaces.
for ((i = 0; i < 200; i++)); do
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = sleep ] && break
  sleep .02
done
readlink "/proc/$pid/ns/mnt" >"$S/pid/mnt" || die "unshare failed: no right to make namespaces here?"
holder >/dev/null || die "unshare failed: the namespace is not one of its own"
inside sh -ec "
  mkdir -p /run/samba
  mount -t tmpfs -o mode=755 tmpfs /run/samba
  mount --bind $S/hosts /etc/hosts
  mount --bind $S/resolv.conf /etc/resolv.conf
  [ '$flags' = -m ] || ip link set lo up"
