#!/bin/bash
# support.sh - the archive for who helps, on Windows: the service's part of the event log is in it, and what Windows' service manager
# says of the service; masked and bounded. Wine keeps no events and has no functions to read them: wevtapi.c has them, over a file.
set -euo pipefail
. "$(dirname "$0")/wine.sh"
. "$wine_here/lab.sh"
wine_up
folder=$WINEPREFIX/drive_c/ProgramData/Sallyport
rm -rf "$folder" "$WINEPREFIX/drive_c/events" # another trial's
[ -e "$WINE_LAB/bin/sallyport-agent.exe" ] || windows_build "$WINE_LAB/bin/sallyport-agent.exe" ./cmd/sallyport-agent
agent() { windows "$WINE_LAB/bin/sallyport-agent.exe" "$@"; }
bundle() { # NAME ARG...: unpacked into $work/NAME
  local name=$1
  shift
  code 0 agent support-bundle --out "Z:$work/$name.zip" "$@"
  python3 -m zipfile -e "$work/$name.zip" "$work/$name"
}
in_log() { grep -q -- "$2" "$work/$1/log.txt" || fail "the archive's log has no '$2': $(head -c 2000 "$work/$1/log.txt")"; } # NAME TEXT
not_in() { ! grep -rq -- "$2" "$work/$1" || fail "the archive has '$2': $(grep -r -- "$2" "$work/$1" | head -c 500)"; }
event() { # SOURCE ID LEVEL TIME DATA...
  printf "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System><Provider Name='%s'/><EventID Qualifiers='0'>%s</EventID><Level>%s</Level><TimeCreated SystemTime='%s'/></System><EventData>" "$1" "$2" "$3" "$4"
  printf '<Data>%s</Data>' "${@:5}"
  printf '</EventData></Event>\n'
}

relay_up
agent join <"$work/join.txt" >/dev/null
apis >>"$folder/agent.yaml"
printf 'Tr0ub4dor&3' | agent secret set erp >/dev/null
bundle none
in_log none 'could not be had: .*event log Application'
said 'without log.txt'
[ -s "$work/none/agent.yaml" ] && [ -s "$work/none/check.json" ] || fail "an event log that cannot be read keeps the rest away: $(ls "$work/none")"
step "where the event log cannot be read the archive says so, and has the rest"

x86_64-w64-mingw32-gcc -shared -Wall -Wno-parentheses -O2 -o "$WINE_LAB/wevtapi.dll" "$wine_here/wevtapi.c"
own=$WINEPREFIX/drive_c/windows/system32/wevtapi.dll
[ -e "$WINE_LAB/wevtapi.own" ] || cp "$own" "$WINE_LAB/wevtapi.own"
cp "$WINE_LAB/wevtapi.dll" "$own"
export WINEDLLOVERRIDES="$WINEDLLOVERRIDES;wevtapi=n"
mkdir -p "$WINEPREFIX/drive_c/events"
{
  event sallyport-agent 120 4 2026-01-02T03:04:05.1234567Z 'link up&#13;&#10;&#13;&#10;slot=0 relay=https://relay.example.com'
  event sallyport-agent 3 2 2026-01-02T03:04:07Z 'something bad&#13;&#10;&#13;&#10;said="Tr0ub4dor&amp;3 and Ä"'
} >"$WINEPREFIX/drive_c/events/Application.xml"
{
  event 'Service Control Manager' 7038 2 2026-01-02T03:04:06Z sallyport-agent 'CORP\svc' '%%1326'
  event 'Service Control Manager' 7036 4 2026-01-02T03:04:06Z 'Print Spooler' stopped
  event 'Service Control Manager' 7031 2 2026-01-02T03:04:08Z 'Sallyport agent' 1 5000
} >"$WINEPREFIX/drive_c/events/System.xml"
bundle some --since 2h
cat >"$work/want" <<'W'
2026-01-02T03:04:05Z info    sallyport-agent 120 link up
    slot=0 relay=https://relay.example.com
2026-01-02T03:04:06Z error   Service Control Manager 7038 its account could not log on: "sallyport-agent", "CORP\\svc", "%%1326"
2026-01-02T03:04:07Z error   sallyport-agent 3 something bad
    said="*** and Ä"
2026-01-02T03:04:08Z error   Service Control Manager 7031 ended unexpectedly; Windows does something about it: "Sallyport agent", "1", "5000"
W
diff "$work/want" "$work/some/log.txt" || fail "the log in the archive is another one"
not_in some 'Tr0ub4dor'
tr -d '\r' <"$WINEPREFIX/drive_c/events/asked" >"$work/asked"
grep -qxF "Application 0x201 *[System[Provider[@Name='sallyport-agent'] and TimeCreated[timediff(@SystemTime) <= 7200000]]]" "$work/asked" || fail "$(cat "$work/asked")"
grep -qxF "System 0x201 *[System[Provider[@Name='Service Control Manager'] and TimeCreated[timediff(@SystemTime) <= 7200000]]]" "$work/asked" || fail "$(cat "$work/asked")"
step "the archive has the service's events and those about it, in their order, and no secret that strayed into one"

long=$(head -c 30000 /dev/zero | tr '\0' x)
for i in $(seq 400); do event sallyport-agent 200 3 2026-01-02T03:05:00Z "exchange $i failed $long"; done >>"$WINEPREFIX/drive_c/events/Application.xml"
bundle much
[ "$(stat -c %s "$work/much/log.txt")" -lt $((2100 << 10)) ] || fail "the log in the archive has $(stat -c %s "$work/much/log.txt") bytes"
in_log much 'exchange 400 failed'
! grep -q 'exchange 1 failed' "$work/much/log.txt" || fail "the log in the archive keeps the old and loses the new"
step "of twelve megabytes of events the archive has the newest two"
cp "$WINE_LAB/wevtapi.own" "$own"
