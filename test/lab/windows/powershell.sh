#!/bin/bash
# powershell.sh - the PowerShell scripts parse. npm brings the grammar.
set -euo pipefail
tree=$(cd "$(dirname "$0")/../../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && timeout -k 5 180 npm install --no-fund --no-audit --no-update-notifier --loglevel=error @vscode/tree-sitter-wasm@0.3.1 </dev/null >npm.log 2>&1) ||
  { echo "FAILED: npm could not bring the grammar: $(tail -n 3 "$work/npm.log")" >&2; exit 1; }
parse() { node "$tree/test/lab/windows/parse.mjs" "$work/node_modules" "$@"; }
echo 'if ($x { 1 }' >"$work/wrong.ps1"
parse "$work/wrong.ps1" 2>/dev/null && { echo "FAILED: a wrong script parses" >&2; exit 1; }
scripts=("$tree"/installer/windows/*.ps1)
parse "${scripts[@]}" || { echo "FAILED: a script does not parse" >&2; exit 1; }
echo "ok  ${#scripts[@]} PowerShell scripts parse"
