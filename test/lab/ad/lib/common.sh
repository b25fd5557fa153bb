# common.sh - sourced by every script of the lab: where things are, and how to speak.
# After it: HERE (the lab's scripts), S (the state directory of this lab), and the addresses.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Debian's own python3 and samba-tool must come first: a pyenv shim has none of Samba's modules.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
# Unix socket paths end at 107 bytes and Samba nests them deep, so the state lives in a short path, never in the tree.
export ADLAB_STATE=${ADLAB_STATE:-${TMPDIR:-/tmp}/adlab-$(id -u)}
S=$ADLAB_STATE
NET=${ADLAB_NET:-127.0.0}
DC=$NET.10 WEB=$NET.11 EPA=$NET.12 PROXY=$NET.13 LEGACY=$NET.14 DEAD=$NET.99

say() { echo "adlab: $*"; }
die() { echo "adlab: $*" >&2; exit 1; }

# need_root explains itself: the lab makes namespaces and binds low ports.
need_root() { [ "$(id -u)" = 0 ] || die "must be root (it makes a mount namespace and binds ports below 1024)"; }

# holder prints the process id that keeps this lab's namespaces alive, and fails if the lab does not run.
holder() {
  local pid ns
  pid=$(cat "$S/pid/holder" 2>/dev/null) || return 1
  ns=$(cat "$S/pid/mnt" 2>/dev/null) || return 1
  # The number may have been given to another process since: it must still be in the namespace that up.sh noted.
  [ "$(readlink "/proc/$pid/ns/mnt" 2>/dev/null)" = "$ns" ] || return 1
  [ "$ns" != "$(readlink /proc/self/ns/mnt)" ] || return 1
  echo "$pid"
}

# inside CMD... runs CMD in the lab's namespaces.
inside() {
  local pid
  pid=$(holder) || die "not up (state $S)"
  # shellcheck disable=SC2046  # the file holds the flags, "-m" or "-m -n"
  nsenter -t "$pid" $(cat "$S/pid/ns") -- "$@"
}

# start NAME CMD... starts a daemon inside the lab, in a process group of its own whose number is in pid/NAME.
start() {
  local name=$1 pid
  shift
  pid=$(holder) || die "not up (state $S)"
  # shellcheck disable=SC2046
  (exec setsid nsenter -t "$pid" $(cat "$S/pid/ns") -- "$@" </dev/null >>"$S/log/$name.out" 2>&1) &
  echo $! >"$S/pid/$name"
}

# await_port ADDRESS PORT waits up to 15 s for something to listen there.
await_port() {
  local i
  for ((i = 0; i < 300; i++)); do
    inside bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null && return 0
    sleep .05
  done
  die "nothing listens at $1:$2; the logs are in $S/log"
}

# render FILE prints a template of conf/ with its @NAMES@ filled in.
render() {
  sed -e "s|@S@|$S|g" -e "s|@DC@|$DC|g" -e "s|@WEB@|$WEB|g" -e "s|@EPA@|$EPA|g" -e "s|@PROXY@|$PROXY|g" \
    -e "s|@LEGACY@|$LEGACY|g" "$HERE/conf/$1"
}
