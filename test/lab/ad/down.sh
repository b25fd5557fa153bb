#!/bin/bash
# down.sh [--purge] - stops the lab: TERM, and after 2 s KILL, to every process in the lab's own mount namespace, where
# only up.sh and labexec.sh put any. --purge also removes the state directory.
set -uo pipefail
. "$(dirname "$0")/lib/common.sh"

# members prints the processes in the lab's namespace, except the one that holds it open.
members() {
  local link pid ns
  ns=$(cat "$S/pid/mnt")
  for link in /proc/[0-9]*/ns/mnt; do
    [ "$(readlink "$link" 2>/dev/null)" = "$ns" ] || continue
    pid=${link#/proc/}
    pid=${pid%%/*}
    [ "$pid" = "$1" ] || echo "$pid"
  done
}

if pid=$(holder); then
  # A frozen daemon does not hear TERM: continue everything first.
  # shellcheck disable=SC2046
  {
    kill -CONT $(members "$pid") 2>/dev/null
    kill $(members "$pid") 2>/dev/null
  }
  for ((i = 0; i < 40; i++)); do
    [ -n "$(members "$pid")" ] || break
    sleep .05
  done
  # shellcheck disable=SC2046
  [ -z "$(members "$pid")" ] || kill -9 $(members "$pid") 2>/dev/null
  kill "$pid" 2>/dev/null
fi
rm -f "$S/up" "$S"/pid/*
# Only what looks like a lab is removed.
if [ "${1:-}" = --purge ] && [ -f "$S/hosts" ] && [ -d "$S/samba" ]; then rm -rf "$S"; fi
say "down"
