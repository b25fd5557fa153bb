#!/bin/bash
# agent.sh - the agent as a program on Windows: it joins a relay outside, keeps its files, and calls an API.
set -euo pipefail
. "$(dirname "$0")/wine.sh"
. "$wine_here/lab.sh"
wine_up
agent=$WINE_LAB/bin/sallyport-agent.exe
[ -e "$agent" ] || windows_build "$agent" ./cmd/sallyport-agent
folder=$WINEPREFIX/drive_c/ProgramData/Sallyport
[ ! -e "$folder" ] || fail "the prefix has been used already"

windows "$agent" version --json >"$work/version"
grep -q '"os":"windows"' "$work/version" || fail "$(cat "$work/version")"
code 2 windows "$agent" nonsense
step "the agent runs on Windows: $(tr -d '\r\n' <"$work/version")"

relay_up
windows "$agent" join <"$work/join.txt" >"$work/joined.log"
[ -e "$folder/identity.json" ] && [ -e "$folder/agent.yaml" ] || fail "join left no key or no configuration in ProgramData: $(ls -R "$folder")"
[ -z "$(find "$folder" -perm /007 -not -name agent.yaml)" ] || fail "others may use $(find "$folder" -perm /007)"
apis >>"$folder/agent.yaml"
windows "$agent" config check >/dev/null
printf 'a password' | windows "$agent" secret set erp >/dev/null
grep -q 'a password' -r "$folder/secrets" && fail "the secret lies there in the clear"
step "it joins, and keeps its key and secrets in a folder of its own"

relay connector publish plant1/orders --auth none >/dev/null
WINDOWS_LIMIT=300 windows "$agent" run >"$work/agent.log" 2>&1 </dev/null &
pids+=($!)
eventually 30 call
code 22 curl -fsS -X DELETE "$RELAY/plant1/orders/hello"
windows "$agent" status --json >"$work/state"
grep -q '"joined": *true' "$work/state" || fail "$(cat "$work/state")"
windows "$agent" pause orders >/dev/null
eventually 30 bash -c "! curl -fsS '$RELAY/plant1/orders/hello'"
windows "$agent" resume >/dev/null
eventually 30 call
printf 'nonsense: 1\n' >>"$folder/agent.yaml"
eventually 30 grep -q 'the configuration is wrong' "$work/agent.log"
call || fail "a wrong configuration ended the one before"
step "it links to a relay outside, calls an API, and is told what to do while it runs"
