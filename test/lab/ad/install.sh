#!/bin/bash
# install.sh [PACKAGE...] - everything the lab needs (or the packages named), from Debian's own archive. Root.
# Re-runnable: a no-op when all is there.
set -euo pipefail
PACKAGES=(samba samba-ad-provision samba-dsdb-modules samba-vfs-modules winbind smbclient
  ldb-tools ldap-utils krb5-user attr
  apache2 libapache2-mod-auth-gssapi gss-ntlmssp
  squid-openssl python3-gssapi curl openssl iproute2 util-linux)
[ $# = 0 ] || PACKAGES=("$@")

missing=()
for p in "${PACKAGES[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "adlab: all ${#PACKAGES[@]} packages present"
  exit 0
fi
[ "$(id -u)" = 0 ] || { echo "adlab: must be root to install: ${missing[*]}" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "adlab: no apt-get here; the lab is made for Debian" >&2; exit 1; }

# No package may start its daemon: it would bind 0.0.0.0. policy-rc.d says so for the time of the install only.
made=
cleanup() { [ -z "$made" ] || rm -f /usr/sbin/policy-rc.d; }
trap cleanup EXIT
if [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
  made=1
fi

export DEBIAN_FRONTEND=noninteractive
# Another apt may hold the lock (a machine that has just booted updates itself): wait for it, five minutes at most.
APT=(apt-get -y -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold)
SECONDS=0
echo "adlab: [1/2] reading the package lists"
# Right after boot two apts may also fight over the lists' own lock, which has no timeout option: try again.
for try in 1 2 3 4 5; do
  "${APT[@]}" update && break
  [ $try = 5 ] && { echo "adlab: apt-get update failed five times" >&2; exit 1; }
  echo "adlab: apt-get update failed, again in 10 s" >&2
  sleep 10
done
echo "adlab: [2/2] installing ${#missing[@]} packages: ${missing[*]}"
"${APT[@]}" install --no-install-recommends "${missing[@]}" >/dev/null
echo "adlab: installed in ${SECONDS} s"
