#!/bin/bash
# check.sh - is the lab healthy? One line for each thing; exits 1 if any fails. About 1 s.
set -uo pipefail
. "$(dirname "$0")/lib/common.sh"
. "$S/env.sh" 2>/dev/null || die "not up (state $S)"
export KRB5CCNAME=FILE:$S/check.cc
failed=0
probe() {
  local name=$1
  shift
  if inside "$@" >/dev/null 2>&1; then echo "ok   $name"; else
    echo "FAIL $name"
    failed=1
  fi
}
# shellcheck disable=SC2016  # the inner shell expands them
curl='curl -sS --fail -m 10 --cacert $ADLAB_CA'
epa="/usr/bin/python3 $HERE/lib/epaclient.py https://epa.corp.example/epa-require/x $EPA $ADLAB_CA"
probe "kinit alice" sh -c "echo 'Al1ce-Pass!' | kinit alice"
probe "Apache Kerberos" sh -c "$curl --negotiate -u : https://intranet.corp.example/kerb/whoami | grep -qx REMOTE_USER=alice@CORP.EXAMPLE"
# The password goes by a file, as everywhere: no argument list shows it.
(umask 077 && printf '%s\n' 'user = "CORP\\alice:Al1ce-Pass!"' >"$S/check.curl")
probe "winauthd NTLM (winbind)" sh -c "$curl -K $S/check.curl --ntlm https://epa.corp.example/ntlm/x | grep -q 'REMOTE_USER=CORP.alice'"
probe "winauthd takes a right channel binding" sh -c "$epa good | grep -q '^200 '"
probe "winauthd refuses a wrong channel binding" sh -c "$epa bad | grep -q '^401 '"
probe "winauthd refuses an absent channel binding" sh -c "$epa none | grep -q '^401 '"
probe "squid Negotiate CONNECT" sh -c "$curl --proxy http://proxy.corp.example:3128 --proxy-negotiate --proxy-user : https://intranet.corp.example/open/whoami"
rm -f "$S/check.cc" "$S/check.curl"
exit $failed
