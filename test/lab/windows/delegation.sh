#!/bin/bash
# delegation.sh - the Windows program acts for people (as: caller) by its own Kerberos, in the Active Directory lab: with a keytab
# and with a password, against the real domain controller, directory and API.
set -euo pipefail
. "$(dirname "$0")/wine.sh"
. "$wine_here/lab.sh"
wine_up
ad=$tree/test/lab/ad
if [ "$(id -u)" != 0 ] || ! command -v samba >/dev/null; then
  echo "NOT RUN: delegation on Windows: the Active Directory lab cannot run here (root, samba): as: caller is not tried as a Windows program"
  exit 0
fi
# The lab's daemons have accounts of their own, which must get to its files and to their own temporary ones.
lab=$(TMPDIR=/tmp mktemp -d)
chmod 711 "$lab"
export ADLAB_STATE=$lab/ad ADLAB_NETNS=1
lab_down() {
  wine_stop # its server belongs to the lab's network
  "$ad/down.sh" --purge >/dev/null 2>&1 || true
  rm -rf "$lab"
  [ -n "$wine_made" ] || wine_start
}
trap 'rc=$?; lab_down; (exit $rc); finish' EXIT
env -u TMPDIR "$ad/up.sh" --fresh >"$work/adlab.log" 2>&1 || fail "the lab does not come up: $(grep -v "^ok" "$work/adlab.log" | tail -n 20)"
step "the Active Directory lab is up"

folder='C:\ProgramData\Sallyport' unix=$WINEPREFIX/drive_c/ProgramData/Sallyport
rm -rf "$unix" # another trial's
[ -e "$WINE_LAB/bin/sallyport-agent.exe" ] || windows_build "$WINE_LAB/bin/sallyport-agent.exe" ./cmd/sallyport-agent
mkdir -p "$WINEPREFIX/drive_c/Program Files/Sallyport"
cp "$WINE_LAB/bin/sallyport-agent.exe" "$WINEPREFIX/drive_c/Program Files/Sallyport/"
(cd "$tree/agent/winauth" && GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go test -c -o "$work/winauth.exe" .)
agent() { windows 'C:\Program Files\Sallyport\sallyport-agent.exe' "$@"; }
password() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]]["password"], end="")' "$ADLAB_STATE/keytab/accounts.json" "$1"; }

# in_lab is run where the lab's names and addresses are; Wine's server has to be there too.
in_lab() {
  wine_start
  (cd "$tree/agent/winauth" && SALLYPORT_LAB=required WINDOWS_LIMIT=120 windows "$work/winauth.exe" -test.v -test.run '^TestLab(DirectoryThatLies|DelegationKeeps)$') >"$work/units.log" 2>&1 ||
    fail "$(tail -n 20 "$work/units.log")"
  [ "$(grep -c '^--- PASS: TestLab' "$work/units.log")" = 2 ] || fail "fewer tests than expected: $(tail -n 20 "$work/units.log")"
  step "who is acted for is held against the domain controller's ticket; names and tickets are kept while nobody answers"

  password svc-gw | agent secret set svc-gw >/dev/null # makes the folder
  cp "$ADLAB_STATE/keytab/svc-gw.keytab" "$ADLAB_STATE/keytab/svc-gw-kerb.keytab" "$ADLAB_STATE/krb5.conf" "$unix/"
  cat >"$unix/keys.json" <<'K'
{"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "use": "sig",
  "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}
K
  cat >"$unix/agent.yaml" <<Y
relay: https://relay.invalid
gateway: plant1
kerberos: {config: krb5.conf}
callers: {issuer: https://login.invalid, audience: [orders], keys: keys.json}
apis:
$(api keytab '{as: caller, keytab: svc-gw.keytab, principal: svc-gw@CORP.EXAMPLE}')
$(api password '{as: caller, account: svc-gw@corp.example, secret: svc-gw}')
$(api untrusted '{as: caller, keytab: svc-gw-kerb.keytab, principal: svc-gw-kerb@CORP.EXAMPLE}')
$(api system '{as: caller}')
Y
  check keytab alice@corp.example
  finding keytab delegation ok "own Kerberos"
  finding keytab call ok "200 OK as alice@CORP.EXAMPLE by kerberos"
  check password robert.brown@corp.example
  finding password delegation ok "own Kerberos"
  finding password call ok "200 OK as bob@CORP.EXAMPLE by kerberos"
  check keytab frank@corp.example
  finding keytab call fail "sensitive and cannot be delegated"
  step "agent.exe calls the lab's API in a person's name, with a keytab and with a password, and not in a sensitive account's"
  check untrusted alice@corp.example
  finding untrusted delegation fail "Use any authentication protocol"
  check system alice@corp.example # no key: Windows is asked, which Wine cannot be
  finding system delegation fail "no domain"
  finding system call skip "what it needs failed"
  step "without a key Windows is asked, and check says what is missing"
}
api() { printf '  - {name: %s, url: "http://intranet.corp.example/kerb", auth: {windows: %s}, check: GET /whoami, allow: ["GET /**"]}' "$1" "$2"; }
check() { agent check --api "$1" --caller "$2" --json >"$work/check.json" 2>"$work/check.log" || true; } # there is no relay
finding() { # API WHAT STATUS [TEXT]
  python3 - "$work/check.json" "api.$1.$2" "$3" "${4:-}" <<'P' || fail "check of $1: $(cat "$work/check.json" "$work/check.log")"
import json, sys
path, name, status, text = sys.argv[1:]
found = [f for f in json.load(open(path)) if f["id"] == name]
assert len(found) == 1 and found[0]["status"] == status and text in json.dumps(found[0]), (name, found)
P
}
wine_stop
export -f in_lab api check finding agent windows password step fail traces wine_start wine_stop
export work tree unix WINE_LOADER WINE_SERVER ADLAB_STATE
"$ad/labexec.sh" bash -euo pipefail -c in_lab
