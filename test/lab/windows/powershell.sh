#!/bin/bash
# powershell.sh - the PowerShell scripts parse, and so does what the manual has people type. npm brings the grammar.
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

# Each block of the manual is a file that is named for its page and its line.
for page in "$tree"/docs/*.md; do
  awk -v out="$work/$(basename "$page")" '
    /^```/ && inside { close(file); inside = 0; next }
    /^```powershell$/ { inside = 1; file = out ":" NR ".ps1"; next }
    inside { print > file }' "$page"
done
blocks=("$work"/*.md:*.ps1)
[ ${#blocks[@]} -gt 5 ] || { echo "FAILED: the manual has ${#blocks[@]} blocks of PowerShell" >&2; exit 1; }
parse "${blocks[@]}" || { echo "FAILED: what the manual has people type does not parse" >&2; exit 1; }
echo "ok  ${#blocks[@]} blocks of the manual parse"
