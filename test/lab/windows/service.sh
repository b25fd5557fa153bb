#!/bin/bash
# service.sh - the life of the agent as a service of Windows, in the very program that is shipped: installed, linked to a relay
# outside, called through, restarted with the machine, drained, and away again.
set -euo pipefail
. "$(dirname "$0")/wine.sh"
. "$wine_here/lab.sh"
wine_up
folder=$WINEPREFIX/drive_c/ProgramData/Sallyport
rm -rf "$folder" # another trial's
programs="$WINEPREFIX/drive_c/Program Files/Sallyport"
mkdir -p "$programs"
[ -e "$WINE_LAB/bin/sallyport-agent.exe" ] || windows_build "$WINE_LAB/bin/sallyport-agent.exe" ./cmd/sallyport-agent
cp "$WINE_LAB/bin/sallyport-agent.exe" "$programs/"
agent() { windows 'C:\Program Files\Sallyport\sallyport-agent.exe' "$@"; }
registry() { windows reg query "HKLM\\SYSTEM\\CurrentControlSet\\Services\\$1" /v "$2" 2>/dev/null | tr -d '\r'; }
told() { grep -aq "$1" "$WINE_LAB/eventlog"; } # of the event log, since Wine was started
traces() { tail -n 20 "$work"/*.log >&2 || true; agent service status >&2 || true; grep ReportEvent "$WINE_LAB/eventlog" | tail -n 10 >&2 || true; }

# --- refusals ----------------------------------------------------------------------------------------------------------

code 4 agent service status
code 1 agent service start
said 'not installed'
code 1 agent service install --account LocalSystem
said 'does not run as SYSTEM'
code 1 agent service install --account bob
said 'DOMAIN'
code 1 agent service install --account 'NT SERVICE\other'
said 'another service'
code 1 agent service run
said "service manager; by hand"
code 1 agent check --as-service
said 'not installed'
mkdir -p "$WINEPREFIX/drive_c/open" && chmod 777 "$WINEPREFIX/drive_c/open" && cp "$programs/sallyport-agent.exe" "$WINEPREFIX/drive_c/open/"
code 1 windows 'C:\open\sallyport-agent.exe' service install
said 'put the program where only administrators can write'
code 0 agent service install --dry-run
said 'would make the service sallyport-agent, which runs as NT SERVICE.sallyport-agent'
code 4 agent service status
[ ! -e "$folder" ] || fail "a dry run has made $folder"
step "what cannot be done is refused with its reason, and a dry run changes nothing"

# --- from nothing to a call ----------------------------------------------------------------------------------------------

code 0 agent service install
said 'It starts once it is configured'
registry sallyport-agent ImagePath | grep -qF '"C:\Program Files\Sallyport\sallyport-agent.exe" service run' || fail "$(registry sallyport-agent ImagePath)"
registry sallyport-agent ObjectName | grep -qF 'NT SERVICE\sallyport-agent' || fail "$(registry sallyport-agent ObjectName)"
registry sallyport-agent PreshutdownTimeout | grep -qi 0xafc8 || fail "$(registry sallyport-agent PreshutdownTimeout)"
registry 'EventLog\Application\sallyport-agent' EventMessageFile | grep -q EventCreate.exe || fail "there is no source of the event log"
[ "$(value state)" = stopped ] && [ "$(value automatic)" = True ] || fail "$(agent service status)"
code 1 agent service start
said 'not configured'
relay_up
agent join <"$work/join.txt" >/dev/null
apis >>"$folder/agent.yaml"
relay connector publish plant1/orders --auth none >/dev/null
code 0 agent service install
said 'done: start it'
eventually 30 call
code 0 agent service status
[ "$(value state)" = running ] && [ "$(value account)" = 'NT SERVICE\sallyport-agent' ] || fail "$(agent service status)"
[ -z "$(find "$folder" -perm /007)" ] || fail "others may use $(find "$folder" -perm /007)"
step "install, join, and the first call through the service"

# --- again, and half done --------------------------------------------------------------------------------------------------

before=$(value pid)
code 0 agent service install
# Wine keeps no access lists, so that install writes them each time.
[ "$(grep -c '^done:' "$work/code.out")" = 1 ] && said 'done: give the folder' || fail "$(cat "$work/code.out")"
[ "$(value pid)" = "$before" ] || fail "an install that had nothing to do restarted the agent"
windows reg add 'HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\sallyport-agent' /v EventMessageFile /d nonsense /f >/dev/null
agent service stop >/dev/null
windows sc delete sallyport-agent >/dev/null
windows sc create sallyport-agent binPath= 'C:\elsewhere\sallyport-agent.exe run' start= demand >/dev/null
[ "$(value automatic)" = False ] || fail "$(agent service status)"
code 0 agent service install
said 'done: set program, account and start'
said 'done: make the source'
said 'done: start it'
[ "$(value account)" = 'NT SERVICE\sallyport-agent' ] || fail "$(agent service status)"
[ "$(value automatic)" = True ] || fail "install did not mend the start with the machine"
eventually 30 call
printf 'P4ss word!' | agent service install --account 'CORP\svc-orders' >"$work/code.out" 2>&1 && fail "an account that is not there was taken"
said 'nltest'
who=$(windows whoami | tr -d '\r')
printf 'P4ss word!' | agent service install --account "$who" >"$work/code.out" 2>&1 || fail "$(cat "$work/code.out")"
said 'the right to log on as a service'
head -n 1 "$work/code.out" | grep -q 'done: drain and stop it' || fail "the folder changes hands while the service uses it: $(cat "$work/code.out")"
grep -q 'P4ss' "$work/code.out" && fail "the password was shown"
[ "$(value account)" = "$who" ] || fail "$(agent service status)"
code 0 agent service install --account 'NT AUTHORITY\LocalService'
[ "$(value account)" = 'NT AUTHORITY\LocalService' ] || fail "$(agent service status)"
code 0 agent service install --account 'NT SERVICE\sallyport-agent'
[ "$(value account)" = 'NT SERVICE\sallyport-agent' ] || fail "$(agent service status)"
eventually 30 call
step "install again does nothing, mends what is half done, and changes the account"

cp "$folder/agent.yaml" "$work/joined.yaml"
printf 'identity: {entra: {credential: arc, scope: "api://sallyport/.default", relay_key: "sha256:%s"}}\n' "$(printf 'A%.0s' $(seq 43))" >>"$folder/agent.yaml"
code 0 agent service install --dry-run
grep -q 'ask Azure Arc for tokens' "$work/code.out" || fail "it does not speak of Azure Arc: $(cat "$work/code.out")"
cp "$work/joined.yaml" "$folder/agent.yaml"
step "with Azure Arc the account is to join the group that may ask for tokens"

# --- start, stop, faults -----------------------------------------------------------------------------------------------------

code 0 agent service stop
code 3 agent service status
[ "$(value state)" = stopped ] || fail "$(agent service status)"
code 0 agent service stop
code 0 agent service start
code 0 agent service start
code 0 agent service restart
eventually 30 call
dd if=/dev/urandom of="$work/www/large" bs=1M count=24 status=none
curl -fsS --limit-rate 6M "$RELAY/plant1/orders/large" -o "$work/large" &
slow=$!
sleep 1
code 0 agent service stop
wait $slow && cmp -s "$work/large" "$work/www/large" || fail "a call under way did not end with the drain"
cp "$folder/agent.yaml" "$work/good.yaml"
echo 'nonsense: 1' >>"$folder/agent.yaml"
code 1 agent service start
said 'Get-WinEvent -MaxEvents 5 -ProviderName sallyport-agent'
code 3 agent service status
[ "$(value state)" = failed ] || fail "$(agent service status)"
cat "$work/good.yaml" >"$folder/agent.yaml"
code 0 agent service start
eventually 30 call
step "start, stop and restart, twice too; a stop drains; a start that fails is told"

# --- as the service ------------------------------------------------------------------------------------------------------------

finding() { # ID STATUS: of the last 'check --json' in $work/code.out
  python3 -c 'import json, sys
f = [f for f in json.load(open(sys.argv[1])) if f["id"] == sys.argv[2]]
sys.exit(not f or f[0]["status"] != sys.argv[3])' "$work/code.out" "$1" "$2" || fail "$1 is not $2: $(cat "$work/code.out")"
}
as_service() { agent check --json "$@"; }
sed -i "s,^    auth: none,&\n    check: GET /hello," "$folder/agent.yaml"
code 0 agent check --json
finding service ok
finding api.orders.call ok
pid=$(value pid)
code 0 as_service --as-service --api orders
finding service ok
finding api.orders.call ok
[ "$(value pid)" = "$pid" ] && [ ! -e "$folder/errand" ] || fail "the service is another one, or something is left: $(ls "$folder")"
code 2 agent check --as-service --api stock
said 'no such API'
code 0 agent service stop
code 0 as_service --as-service --api orders
finding api.orders.call ok
finding service warn
code 3 agent service status
[ "$(value state)" = stopped ] || fail "a check has left the service $(value state)"
cp "$folder/agent.yaml" "$work/checked.yaml"
echo 'nonsense: 1' >>"$folder/agent.yaml"
code 1 agent service start
code 1 as_service --as-service
finding config fail
finding service warn
[ "$(value state)" = failed ] || fail "a check has made the failed service $(value state)"
cat "$work/checked.yaml" >"$folder/agent.yaml"
code 0 agent service start
eventually 30 call
step "check --as-service: by the service that runs, and by one that is started for it alone and ends as it was"

wine_stop
rm -f "$WINE_LAB/eventlog"
wine_start
eventually 60 call
step "it starts with the machine"

# --- the log file -------------------------------------------------------------------------------------------------------------

logged() { grep -q -- "$1" "$folder"/log/agent-*.log; }
logged 'level=INFO msg="agent starts"' || fail "the log file has not the start: $(ls -l "$folder/log")"
logged 'level=ERROR msg="the agent could not start".*nonsense' || fail "the log file has not the start that failed"
! logged 'level=DEBUG' || fail "the log file has what nobody asked for"
agent log-level debug --for 10m >/dev/null
eventually 30 logged 'the log level has changed.*DEBUG'
[ "$(curl -s -o "$work/refused" -w '%{http_code}' -X DELETE "$RELAY/plant1/orders/hello")" = 403 ] || fail "it was not refused: $(cat "$work/refused")"
eventually 10 logged 'level=INFO msg="call refused"'
agent log-level usual >/dev/null
[ -z "$(find "$folder/log" -perm /007)" ] || fail "others may use $(find "$folder/log" -perm /007)"
code 0 agent support-bundle --out "Z:$work/bundle.zip"
python3 -m zipfile -e "$work/bundle.zip" "$work/bundle"
grep -q 'msg="agent starts"' "$work/bundle/agent.log" || fail "the archive has not the log file"
step "the log file has all of the log, and the archive has it"

# --- the event log -------------------------------------------------------------------------------------------------------------

# Wine tells the text and the level, not the ID; internal/eventlog's tests know those.
sed 's,GET /[*][*],GET /hello,' "$work/good.yaml" >"$folder/agent.yaml"
eventually 30 told 'trace.*"configuration in force'
echo 'nonsense: 1' >>"$folder/agent.yaml"
eventually 30 told 'err.*"the configuration is wrong'
code 0 agent service stop
code 1 agent service start
cat "$work/good.yaml" >"$folder/agent.yaml"
for event in 'trace.*"agent starts' 'trace.*"link up' 'trace.*"agent stopped' 'err.*"the agent could not start.*nonsense'; do
  told "$event" || fail "the event log was not told: $event"
done
told '"agent offers\|"call refused' && fail "the event log was told what is not for it"
step "the event log is told of start, link, configuration, stop and failure"
sed 's,GET /[*][*],GET /hello,' "$work/good.yaml" >"$folder/agent.yaml"
echo 'audit: {event_log: refusals}' >>"$folder/agent.yaml"
code 0 agent service start
eventually 30 call
[ "$(curl -s -o "$work/refused" -w '%{http_code}' "$RELAY/plant1/orders/large")" = 403 ] || fail "it was not refused: $(cat "$work/refused")"
code 0 agent service stop
told 'warn.*event.*call.*GET.*/large.*refused' || fail "the event log was not told of a refused call"
told 'trace.*event.*call.*GET.*/hello' && fail "the event log was told of a call that is not for it"
cat "$work/good.yaml" >"$folder/agent.yaml"
step "the event log has the record's refusals, if agent.yaml says so"

# --- and away --------------------------------------------------------------------------------------------------------------------

agent service start >/dev/null
code 0 agent service uninstall
code 4 agent service status
code 0 agent service uninstall
said 'Nothing to do'
[ -e "$folder/agent.yaml" ] && [ -e "$folder/identity.json" ] || fail "uninstall took the configuration or the key"
registry 'EventLog\Application\sallyport-agent' EventMessageFile | grep -q . && fail "uninstall left the source of the event log"
code 0 agent service install
eventually 30 call
code 0 agent service uninstall
step "uninstall leaves configuration and key, and the next install goes on as before"
