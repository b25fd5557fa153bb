#!/bin/bash
# nspawn.sh SCRIPT [FILE...] - boots a real systemd (Debian, in systemd-nspawn), runs SCRIPT there as root in a folder with
# the FILEs and lib.sh, prints what it printed, and exits as it did. What it changes is lost. It shares the host's loopback and kernel.
#
# Needs root and the packages debootstrap and systemd-container. The root file system is made once, in SYSTEMD_LAB_STATE
# (default /var/tmp/sallyport-systemd); TIMEOUT bounds one run, in seconds (default 300).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=${SYSTEMD_LAB_STATE:-/var/tmp/sallyport-systemd}
root=$state/rootfs
mkdir -p "$state"
exec 9>"$state/lock"
flock 9
if [ ! -e "$root/complete" ]; then
  rm -rf "$root"
  release=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
  echo "systemd lab: making a Debian $release in $root, about a minute" >&2
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,curl,python3 \
    "$release" "$root" "$mirror" >"$state/debootstrap.log" 2>&1 || { tail -n 20 "$state/debootstrap.log" >&2; exit 99; }
  touch "$root/complete"
fi
flock -u 9

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$1" "$work/guest.sh"
cp "$here/lib.sh" "$work/"
shift
[ $# = 0 ] || cp -r "$@" "$work/"
cat >"$work/guest.service" <<'U'
[Unit]
Description=Run the script and power off
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
WorkingDirectory=/share
ExecStart=/bin/sh -c 'bash ./guest.sh > out.txt 2>&1; echo $$? > rc.txt'
TimeoutStartSec=infinity
U
cat >"$work/guest.target" <<'U'
[Unit]
Requires=multi-user.target
Wants=guest.service
After=multi-user.target
U
machine=sallyport-$$
rc=0
timeout -k 10 "${TIMEOUT:-300}" systemd-nspawn -q -M "$machine" -D "$root" --volatile=overlay --bind="$work:/share" \
  --bind-ro="$work/guest.service:/etc/systemd/system/guest.service" --bind-ro="$work/guest.target:/etc/systemd/system/guest.target" \
  --register=no --keep-unit -b systemd.unit=guest.target </dev/null >"$work/console.log" 2>&1 || rc=$?
[ ! -e "$work/out.txt" ] || cat "$work/out.txt"
if [ ! -s "$work/rc.txt" ]; then
  echo "systemd lab: no result (systemd-nspawn exited with $rc)" >&2
  tail -n 30 "$work/console.log" >&2
  exit 98
fi
exit "$(cat "$work/rc.txt")"
