#!/bin/bash
# signon.sh - the agent's service on Windows signs on to an API that demands NTLM, through Windows' own SSPI, for calls that come
# by the relay; and is refused with a password that is wrong.
set -euo pipefail
. "$(dirname "$0")/wine.sh"
. "$wine_here/lab.sh"
wine_up
folder=$WINEPREFIX/drive_c/ProgramData/Sallyport
rm -rf "$folder" # another trial's
[ -e "$WINE_LAB/bin/sallyport-agent.exe" ] || windows_build "$WINE_LAB/bin/sallyport-agent.exe" ./cmd/sallyport-agent
mkdir -p "$WINEPREFIX/drive_c/Program Files/Sallyport"
cp "$WINE_LAB/bin/sallyport-agent.exe" "$WINEPREFIX/drive_c/Program Files/Sallyport/"
agent() { windows 'C:\Program Files\Sallyport\sallyport-agent.exe' "$@"; }
traces() { tail -n 20 "$work"/*.log >&2 || true; grep -a ReportEvent "$WINE_LAB/eventlog" | tail -n 10 >&2 || true; }

(cd "$tree" && go build -o "$work/api" ./test/lab/windows/api)
relay_up
guarded=$(port)
"$work/api" "127.0.0.1:$guarded" 'CORP\svc-örders' 'Zo€ Pässw0rd' 2>"$work/api.log" &
pids+=($!)
agent join <"$work/join.txt" >/dev/null
cat >>"$folder/agent.yaml" <<Y
apis:
  - name: negotiate
    url: http://127.0.0.1:$guarded
    auth: {windows: {as: account, account: 'CORP\svc-örders', secret: erp}}
    allow: ['GET,POST /**']
  - name: ntlm
    url: http://127.0.0.1:$guarded
    auth: {windows: {as: account, account: 'CORP\svc-örders', secret: erp, protocol: ntlm}}
    allow: ['GET,POST /**']
  - name: wrong
    url: http://127.0.0.1:$guarded
    auth: {windows: {as: account, account: 'CORP\svc-örders', secret: other}}
    allow: ['GET,POST /**']
Y
printf 'Zo€ Pässw0rd' | agent secret set erp >/dev/null
printf 'Ganz-f4lsch' | agent secret set other >/dev/null
agent service install >"$work/install.log"
for api in negotiate ntlm wrong; do relay connector publish "plant1/$api" --auth none >/dev/null; done
signed() { [ "$(curl -fsS -m 20 "$RELAY/plant1/$1/" "${@:2}")" = 'CORP\svc-örders' ]; }
eventually 30 signed negotiate
signed ntlm || fail "NTLM alone was refused"
head -c 300000 /dev/zero >"$work/large"
signed negotiate --data-binary "@$work/large" || fail "a large body was refused"
one() { signed negotiate && signed ntlm; }
for _ in 1 2 3 4; do one & many+=($!); done
for pid in "${many[@]}"; do wait "$pid" || fail "one of several calls at once was refused"; done
step "the service signs on to the API as the account of its secret: Negotiate and NTLM, small and large bodies, several at once"

status=$(curl -sS -m 20 -o "$work/refused" -w '%{http_code}' "$RELAY/plant1/wrong/")
[ "$status" = 502 ] && grep -q 'problem+json\|"code"' "$work/refused" || fail "a wrong password: $status $(cat "$work/refused")"
grep -q 'f4lsch\|Pässw0rd' "$work/refused" && fail "a password was told"
eventually 20 grep -aq 'exchange failed.*svc-' "$WINE_LAB/eventlog"
grep -a ReportEvent "$WINE_LAB/eventlog" | grep -q 'f4lsch\|ssw0rd' && fail "a password is in the event log"
agent service uninstall >/dev/null
step "a wrong password is a 502 without a word of it, and an event that names the account"
