#!/bin/bash
# units.sh - the tests of what is written for Windows alone, and of what stands next to it, as Windows programs.
set -euo pipefail
. "$(dirname "$0")/wine.sh"
. "$wine_here/lab.sh"
wine_up

# What asks for Unix file modes has its counterpart in agent/state/access_windows_test.go.
modes='TestGetRefusesExposedAndEmptyFile|TestSetGetListRemove|TestSaveAndLoad|TestLoadRefusesExposedFile|TestRecordIsOneLinePerEvent'
# Wine has files inherit no access list from their folder.
inherit='TestRecordKeysAreRemembered|TestFilesAreOneChain'
# Those in the lab (TestLab) are delegation.sh's.
# shellcheck disable=SC2034
packages=(./agent/state ./agent/secret ./agent/identity ./agent/audit ./agent/logfile ./agent/policy ./agent/proxy
  ./agent/winauth ./agent/winauth/kerberos ./agent/winauth/lockout ./agent/winauth/ntlm ./agent/winauth/spnego 
  ./internal/access ./internal/service ./internal/eventlog)

rc=0
WINEDEBUG=-all windows_test -timeout 3m -v -skip "^($modes|$inherit|TestLab.*)$" "${packages[@]}" >"$work/units.log" 2>&1 || rc=$?
# Of gate's, those that a Windows of Wine's can pass: it sends no MIC and no channel binding.
[ $rc != 0 ] || windows_test -v -run '^(TestSystem|TestRefusals)' ./agent/winauth/gate >>"$work/units.log" 2>&1 || rc=$?
# Of update's, what is written for Windows: the rest builds programs of this system.
[ $rc != 0 ] || windows_test -v -run '^TestAProgramThatIsHeld' ./agent/update >>"$work/units.log" 2>&1 || rc=$?
count() { grep -cE "^ *--- $1: " "$work/units.log" || true; }
echo "    $(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped in ${#packages[@]} packages and parts of two"
echo "    left out, Unix modes: ${modes//|/ }"
echo "    left out, Wine inherits no access lists: ${inherit//|/ }"
[ $rc = 0 ] || fail "$(grep -E '^ *--- FAIL|^FAIL|_test.go:|^panic|: undefined' "$work/units.log" | head -40)"
[ "$(count SKIP)" = 0 ] && [ "$(count PASS)" -gt 100 ] || fail "there are fewer tests than expected"
step "the tests of these packages pass as Windows programs"
