#!/bin/bash
# update.sh - the service's program on Windows is replaced while it runs, comes back where the next one does not stay up, and puts
# itself back where an update was cut off.
set -euo pipefail
. "$(dirname "$0")/wine.sh"
. "$wine_here/lab.sh"
wine_up
folder=$WINEPREFIX/drive_c/ProgramData/Sallyport
rm -rf "$folder" # another trial's
programs="$WINEPREFIX/drive_c/Program Files/Sallyport"
rm -rf "$programs"
mkdir -p "$programs" "$work/new" "$work/crash" "$work/next"
agent() { WINDOWS_LIMIT=180 windows 'C:\Program Files\Sallyport\sallyport-agent.exe' "$@"; }
traces() { tail -n 20 "$work"/*.log >&2 || true; agent service status >&2 || true; ls -l "$programs" >&2; }
linked() { agent status --json | python3 -c 'import json, sys; s = json.load(sys.stdin); sys.exit(not (s["version"] == sys.argv[1] and s["running"] and any(l["state"] == "up" for l in s["links"])))' "$1"; }
here() { [ "$(agent version | tr -d '\r')" = "sallyport-agent $1" ] || fail "$(agent version) lies in the place, not $1"; }

windows_build "$programs/sallyport-agent.exe" -trimpath -ldflags '-s -w -X main.linked=0.1.0' ./cmd/sallyport-agent
new=sallyport-agent-0.1.1-windows-amd64.exe crash=sallyport-agent-0.1.2-windows-amd64.exe
windows_build "$work/new/$new" -trimpath -ldflags '-s -w -X main.linked=0.1.1' ./cmd/sallyport-agent
(cd "$tree/agent/update/testdata" && GOFLAGS='' GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go build -trimpath -o "$work/crash/$crash" ./cmd/sallyport-agent)
printf '\nAGENT 0.1.2 crash\n' >>"$work/crash/$crash"
next=sallyport-agent-0.1.3-windows-amd64.exe
windows_build "$work/next/$next" -trimpath -ldflags '-s -w -X main.linked=0.1.3' ./cmd/sallyport-agent
agent release keygen "Z:$work/key.pem" | tr -d '\r' | sed -n 's/^ *- //p' >"$work/key.pub"
for release in new crash next; do
  (cd "$work/$release" && sha256sum -b ./*.exe | sed 's, [*][.]/, *,' >SHA256SUMS)
  agent release sign --key "Z:$work/key.pem" "Z:$work/$release/SHA256SUMS" >/dev/null
done

relay_up
agent join <"$work/join.txt" >/dev/null
apis >>"$folder/agent.yaml"
printf 'update: {signers: ["%s"]}\n' "$(cat "$work/key.pub")" >>"$folder/agent.yaml"
relay connector publish plant1/orders --auth none >/dev/null
agent service install >/dev/null
eventually 30 call
eventually 30 linked 0.1.0
step "an agent of version 0.1.0 runs as a service"

WINEDEBUG=-all,+eventlog code 1 agent update "Z:$work/new/$new" --yes --key ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
said 'no trusted key has signed it'
said 'err:.*an update failed.*no trusted key'
WINEDEBUG=-all,+eventlog code 0 agent update "Z:$work/new/$new" --dry-run
! grep -q ReportEvent "$work/code.out" || fail "a dry run has told the event log: $(cat "$work/code.out")"
here 0.1.0
WINEDEBUG=-all,+eventlog code 0 agent update "Z:$work/new/$new" --yes
said 'done: version 0.1.1'
said 'trace:.*the program was updated.*from=0.1.0 to=0.1.1'
here 0.1.1
linked 0.1.1 || fail "$(agent status)"
[ "$(windows 'C:\Program Files\Sallyport\sallyport-agent.old.exe' version | tr -d '\r')" = "sallyport-agent 0.1.0" ] || fail "the version before was not kept"
eventually 30 call
step "a signed version takes its place, by renaming a program that runs"

WINEDEBUG=-all,+eventlog code 5 agent update --from "Z:$work/crash" --yes
said 'warn:.*an update was rolled back'
said 'version 0.1.2 was not kept: start it: '
said 'Version 0.1.1 is back and has a link'
here 0.1.1
eventually 30 call
[ -z "$(find "$programs" -name '*.new.exe' -o -name '*.update.json')" ] || fail "something is left: $(ls "$programs")"
step "a version that does not stay up is rolled back"

# Killed at any moment: the next update ends what that one has begun.
for after in 0.4 0.8 1.2 1.6 2.4; do
  timeout -k 5 60 "$WINE_LOADER" 'C:\Program Files\Sallyport\sallyport-agent.exe' update --from "Z:$work/next" --yes >"$work/killed.log" 2>&1 </dev/null &
  killed=$!
  sleep $after
  pkill -KILL -P $killed || true
  wait $killed 2>/dev/null || true
  if [ ! -e "$programs/sallyport-agent.exe" ]; then
    code 0 windows 'C:\Program Files\Sallyport\sallyport-agent.old.exe' service start
  fi
  # Where it was killed between the stop and the start the service is stopped, and the next update starts it.
  found=$(value state)
  code 0 agent update --from "Z:$work/next" --yes
  here 0.1.3
  linked 0.1.3 || fail "$(agent status)"
  [ -z "$(find "$programs" -name '*.new.exe' -o -name '*.update.json')" ] || fail "something is left: $(ls "$programs")"
  eventually 30 call
  echo "    after $after s: the service was $found, it had said: $(tail -n 1 "$work/killed.log" | tr -d '\r')"
  code 0 agent update --back --yes
  here 0.1.1
  rm -f "$programs/sallyport-agent.refused.json"
done
step "an update that is killed is ended by the next one, whenever that was"

agent service stop >/dev/null
mv "$programs/sallyport-agent.exe" "$programs/sallyport-agent.old.exe" # an update that was cut off between its two renames
code 0 windows 'C:\Program Files\Sallyport\sallyport-agent.old.exe' service start
here 0.1.1
eventually 30 call
step "the old program puts itself back where none lies in the place"
agent service uninstall >/dev/null
