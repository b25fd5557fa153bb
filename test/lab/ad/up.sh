#!/bin/bash
# up.sh - starts an Active Directory lab on loopback: Samba AD DC, Apache (Negotiate/NTLM), winauthd (channel bindings)
# and squid. README.md says what is where.
#   ./up.sh            a healthy lab that runs already is left alone
#   ./up.sh --fresh    start over
#   ADLAB_STATE=DIR    where everything lives (keep it short: unix sockets); default: adlab-UID in the temporary directory
#   ADLAB_NETNS=1      a network namespace of its own: no port of the host is used; run things by ./labexec.sh
#   ADLAB_NET=127.0.0  the first three numbers of the addresses
set -euo pipefail
. "$(dirname "$0")/lib/common.sh"
need_root
for b in samba samba-tool apache2 squid kinit nsenter; do
  command -v $b >/dev/null || die "$b is missing: run install.sh"
done
# One up.sh at a time for one state.
[ -n "${ADLAB_LOCKED:-}" ] || ADLAB_LOCKED=1 exec flock -o "$S.lock" "$0" "$@"

if [ "${1:-}" != --fresh ] && [ -f "$S/up" ] && "$HERE/check.sh" >/dev/null 2>&1; then
  say "already up"
  cat "$S/up"
  exit 0
fi
"$HERE/down.sh" --purge >/dev/null 2>&1 || true
[ ! -e "$S" ] || [ -O "$S" ] || die "$S belongs to somebody else"
[ ${#S} -le 60 ] || die "ADLAB_STATE is too long for unix sockets (${#S} > 60 bytes): $S"

since() { say "[$SECONDS s] $*"; }
SECONDS=0
umask 022
mkdir -p "$S"/{log,pid,keytab,tls,samba/{etc,lock,run,state,cache,private},apache,squid,cgi,htdocs,deleg}
chmod 755 "$S"
# Apache and squid give up root: their account must get to the state directory.
setpriv --reuid=www-data --regid=www-data --clear-groups test -x "$S" || die "the account www-data cannot get to $S (chmod o+x the directories above it)"
. "$HERE/lib/namespace.sh"
since "namespace ready"
. "$HERE/lib/certificates.sh"
. "$HERE/lib/dc.sh"
since "domain controller up"
. "$HERE/lib/web.sh"
since "Apache, winauthd and squid up"
"$HERE/check.sh" || die "NOT healthy; the logs are in $S/log"
mv "$S/up.new" "$S/up"
since "ready"
cat "$S/up"
