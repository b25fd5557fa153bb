#!/bin/bash
# run.sh - all trials on Windows, each in turn: agent.sh, service.sh, units.sh and whatever else is there by such a name.
# They share one prefix of Wine's. Ends with the exit code of the first that fails; docs/windows.md says what this can show.
set -euo pipefail
. "$(dirname "$0")/wine.sh"
trap wine_down EXIT
trap 'exit 130' INT TERM
wine_up
echo "ok  a fresh prefix: $("$WINE_LOADER" --version), after $SECONDS s"
for trial in "$wine_here"/*.sh; do
  case ${trial##*/} in wine.sh | lab.sh | run.sh) continue ;; esac
  echo "--- ${trial##*/}"
  bash "$trial"
done
echo "ok  all of it, in $SECONDS s"
