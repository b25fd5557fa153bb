#!/bin/bash
# test.sh - everything that is checked, on one machine. See --help.
set -uo pipefail
cd "$(dirname "$0")" || exit 1

usage() {
  cat <<'USAGE'
usage: ./test.sh [--quick] [--help]

Installs what the labs need (as root on Debian), then checks form (gofumpt, vet, staticcheck), runs every test under the
race detector, builds all programs for Linux and Windows, runs the system tests inside an Active Directory lab of its
own, the demo, and each fuzz target for a moment. The last line is "N passed, N failed, N skipped"; each check and each
fuzz target counts as one, tests are counted singly. The exit code is 0 only if nothing failed.

  --quick   form and tests alone: nothing is installed, no lab, no cross builds, no demo, no fuzzing
  --help    this text

Environment:
  SALLYPORT_LAB=required   what cannot run here is a failure, not a skip (CI=true means the same)
  FUZZTIME=3s              how long each fuzz target runs
USAGE
}

quick=
for arg in "$@"; do
  case $arg in
    --quick) quick=1 ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done

# --- ground: one temporary directory for all of it, and nothing left behind -------------------------------------------

command -v go >/dev/null || { echo "test.sh: Go is not installed (https://go.dev/dl; go.mod names the version)" >&2; exit 1; }
[ "${CI:-}" != true ] || export SALLYPORT_LAB=required
T=$(mktemp -d "${TMPDIR:-/tmp}/sp.XXXXXX") || exit 1
mkdir -p "$T/tmp" "$T/bin" "$T/json"
chmod 711 "$T" # the lab's daemons have accounts of their own and must get to their state
export ADLAB_STATE=$T/ad ADLAB_NETNS=1
LAB=test/lab/ad
lab_up=
started=$SECONDS

# strays prints the processes whose program lies in our temporary directory: what a test started and left behind.
strays() {
  local link
  for link in /proc/[0-9]*/exe; do
    case $(readlink "$link" 2>/dev/null) in "$T"/*) link=${link#/proc/} && echo "${link%/exe}" ;; esac
  done
}

# descendants prints the processes below one, the deepest first.
descendants() {
  local pid
  for pid in $(ps -o pid= --ppid "$1"); do
    descendants "$pid"
    echo "$pid"
  done
}

finish() {
  local rc=$? pid
  trap '' INT TERM
  for pid in $(descendants $$) $(strays); do kill "$pid" 2>/dev/null; done
  [ -z "$lab_up" ] || $LAB/down.sh --purge >/dev/null 2>&1
  for pid in $(strays); do kill -9 "$pid" 2>/dev/null; done
  chmod -R u+w "$T" 2>/dev/null
  rm -rf "$T"
  exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM

section() { printf '\n=== %s\n' "$*"; }
record() { echo "STEP $*" >>"$T/json/steps"; }

# check NAME SECONDS CMD... is one check: quiet if it passes, all it printed if it does not.
check() {
  local name=$1 limit=$2 start=$SECONDS
  shift 2
  # In the background, because bash hears a signal only while it waits, not while a command runs.
  timeout -k 10 "$limit" "$@" >"$T/out" 2>&1 </dev/null &
  if wait $!; then
    printf '    ok    %-44s %4d s\n' "$name" $((SECONDS - start))
    record pass "$name"
  else
    printf '    FAIL  %-44s %4d s\n' "$name" $((SECONDS - start))
    tail -n 100 "$T/out" | sed 's/^/          /'
    record fail "$name"
    return 1
  fi
}

# cannot NAME REASON is a check that cannot be made here: loud, and a failure where it must be made.
cannot() {
  printf '\n!!! NOT RUN: %s\n!!! because: %s\n' "$1" "$2"
  if [ "${SALLYPORT_LAB:-}" = required ]; then record fail "$1 (could not run: $2)"; else record skip "$1 ($2)"; fi
}

# gotest NAME SECONDS CMD... runs a "go test -json"; each package is a line, the tests are counted at the end.
gotest() {
  local name=$1 limit=$2 rc
  shift 2
  {
    timeout -k 20 "$limit" "$@" 2>&1
    echo $? >"$T/rc"
  } </dev/null | tee "$T/json/$name" | grep --line-buffered -E '^\{.*"Action":"(pass|fail|skip)"' |
    grep --line-buffered -v '"Test":' |
    sed -u -E 's/.*"Action":"([a-z]+)","Package":"([^"]+)"(,"Elapsed":([0-9.]+))?.*/    \1  \2  \4 s/' &
  wait $!
  rc=$(cat "$T/rc")
  # A run that failed without a failed test (it did not start, it took too long) is a failure of its own.
  if [ "$rc" != 0 ] && ! grep -q '"Action":"fail"' "$T/json/$name"; then
    echo "    FAIL  $name (exit code $rc)"
    tail -n 20 "$T/json/$name"
    record fail "$name (exit code $rc)"
  fi
}

# --- what the labs need ------------------------------------------------------------------------------------------------

# missing_packages prints the Debian packages that are wanted beside the lab's own: the race detector's C compiler, and
# runtimes of callers that makers use.
missing_packages() {
  command -v gcc >/dev/null || echo gcc libc6-dev
  command -v curl >/dev/null || echo curl
  command -v node >/dev/null || echo nodejs
  command -v npm >/dev/null || echo npm
  command -v prometheus >/dev/null && command -v promtool >/dev/null || echo prometheus
  command -v debootstrap >/dev/null || echo debootstrap
  command -v systemd-nspawn >/dev/null || echo systemd-container
  command -v javac >/dev/null || echo default-jdk-headless
  [ "$(uname -m)" = x86_64 ] || return 0 # the trials on Windows
  [ -x /usr/lib/wine/wine64 ] || [ -x /usr/bin/wine64 ] || echo wine wine64
  command -v x86_64-w64-mingw32-gcc >/dev/null || echo gcc-mingw-w64-x86-64-win32
  command -v ntlm_auth >/dev/null || echo winbind
  command -v wixl >/dev/null && command -v msibuild >/dev/null || echo wixl msitools
  command -v osslsigncode >/dev/null || echo osslsigncode
}

# newman runs the Postman collections that the relay makes, as makers do. It is no Debian package.
newman_version=6.2.2
install_newman() {
  command -v npm >/dev/null || { echo "    there is no npm here" && return 1; }
  echo "    newman $newman_version, by npm, into $T/npm"
  (cd / && timeout -k 5 180 npm install --prefix "$T/npm" --no-fund --no-audit --no-update-notifier --loglevel=error "newman@$newman_version" </dev/null) &&
    PATH=$T/npm/node_modules/.bin:$PATH && export PATH && echo "    newman $(newman --version)"
}

lab_reason=
prepare() {
  section "what the labs need"
  if [ "$(id -u)" != 0 ]; then
    lab_reason="not root: the lab makes namespaces and binds low ports"
  elif ! command -v apt-get >/dev/null || ! grep -qs '^ID=debian' /etc/os-release; then
    lab_reason="not Debian: the lab's packages have other names elsewhere"
  elif ! $LAB/install.sh; then
    lab_reason="the lab's packages could not be installed"
  fi
  local packages
  packages=$(missing_packages)
  if [ -n "$packages" ] && [ -z "$lab_reason" ]; then
    # shellcheck disable=SC2086
    $LAB/install.sh $packages || echo "    not installed: $packages; the tests that need them say so"
  fi
  command -v newman >/dev/null || install_newman || echo "    not installed: newman; the test that needs it says so"
}

# --- the checks ----------------------------------------------------------------------------------------------------------

modules() { find . -name go.mod -not -path '*/testdata/*' -printf '%h\n' | sort; }

gofumpt_clean() {
  local files
  files=$(go tool -modfile=tools.mod gofumpt -l .) || return 1
  [ -z "$files" ] || { echo "not in gofumpt's form:" && echo "$files" && return 1; }
}

form() {
  section "form"
  check "gofumpt" 300 bash -c "$(declare -f gofumpt_clean); gofumpt_clean"
  check "go.mod is tidy" 120 go mod tidy -diff
  check "go vet, Linux" 600 go vet ./...
  check "go vet, Windows" 600 env GOOS=windows CGO_ENABLED=0 go vet ./...
  check "staticcheck is built" 600 go build -modfile=tools.mod -o "$T/bin/" honnef.co/go/tools/cmd/staticcheck
  check "staticcheck, Linux" 600 "$T/bin/staticcheck" ./...
  check "staticcheck, Windows" 600 env GOOS=windows CGO_ENABLED=0 "$T/bin/staticcheck" ./...
  local m
  for m in $(modules); do
    [ "$m" = . ] || check "vet and build of the module $m" 600 bash -c "cd $m && go vet ./... && go build -o $T/bin/ ./..."
  done
  check "shell scripts parse" 10 bash -c 'for f in test.sh .ci/run $(find test installer -name "*.sh"); do bash -n "$f" || exit 1; done'
}

# without_lab says why the lab is not there and runs the system tests all the same: most of them need none.
without_lab() {
  section "system tests, without the lab"
  TMPDIR=$T/tmp gotest system 900 env -u SALLYPORT_LAB go test -race -json -parallel 4 -timeout 14m ./test/system
}

tests() {
  section "tests, race detector"
  local packages
  packages=$(go list ./... | grep -v '/test/system$')
  # shellcheck disable=SC2086
  TMPDIR=$T/tmp gotest units 1200 env -u SALLYPORT_LAB go test -race -json -timeout 10m $packages
}

# system_tests runs them inside the lab, with all the other tests that know it.
system_tests() {
  if [ -n "$lab_reason" ]; then
    without_lab
    return
  fi
  section "system tests, in the Active Directory lab"
  lab_up=1
  if ! check "the lab comes up" 180 $LAB/up.sh; then
    without_lab
    return
  fi
  local packages
  packages=$(grep -rlE 'loud\.NeedsLab|ADLAB_' --include='*_test.go' . | xargs -r -n1 dirname | sort -u | grep -v '/test/system$')
  # shellcheck disable=SC2086
  TMPDIR=$T/tmp SALLYPORT_LAB=required gotest lab 1200 \
    $LAB/labexec.sh go test -race -json -p 1 -parallel 4 -timeout 19m ./test/system $packages
  check "the lab goes down" 60 $LAB/down.sh --purge
}

cross_builds() {
  section "builds"
  local os arch
  for os in linux windows; do
    for arch in amd64 arm64; do
      mkdir -p "$T/bin/$os-$arch"
      check "all commands, $os/$arch" 600 env CGO_ENABLED=0 GOOS=$os GOARCH=$arch \
        go build -trimpath -o "$T/bin/$os-$arch/" ./cmd/...
    done
  done
  rm -rf "$T"/bin/*-arm64 "$T"/bin/windows-*
}

# beside NAME SECONDS CMD... starts a check that waits more than it works, so that others run meanwhile; beside_end says how
# they all went, in the order in which they were started.
beside_names=() beside_pids=() beside_began=()
beside() {
  local name=$1 limit=$2
  shift 2
  local out=$T/beside.${#beside_names[@]}
  (
    timeout -k 10 "$limit" "$@" >"$out" 2>&1 </dev/null
    rc=$?
    echo $SECONDS >"$out.ended"
    exit $rc
  ) &
  beside_pids+=($!)
  beside_names+=("$name")
  beside_began+=($SECONDS)
  echo "    $name: begun, beside what follows"
}

beside_end() {
  [ ${#beside_names[@]} != 0 ] || return 0
  section "which ran beside what is above"
  local i rc
  for i in "${!beside_names[@]}"; do
    rc=0
    wait "${beside_pids[i]}" || rc=$?
    local took=$(($(cat "$T/beside.$i.ended") - beside_began[i]))
    if [ $rc = 0 ]; then
      grep -E '^(ok|---)|passed' "$T/beside.$i" | sed 's/^/          /'
      printf '    ok    %-44s %4d s\n' "${beside_names[i]}" $took
      record pass "${beside_names[i]}"
    else
      printf '    FAIL  %-44s %4d s\n' "${beside_names[i]}" $took
      tail -n 100 "$T/beside.$i" | sed 's/^/          /'
      record fail "${beside_names[i]}"
    fi
  done
}

# packages builds the Debian packages and lives through them in a real systemd. Its root file system is kept in /var/tmp.
packages() {
  if [ "$(id -u)" != 0 ]; then
    cannot "the packages in a real systemd" "not root"
  elif ! command -v debootstrap >/dev/null || ! command -v systemd-nspawn >/dev/null; then
    cannot "the packages in a real systemd" "debootstrap or systemd-container is not installed"
  else
    beside "install, run, upgrade, remove under systemd" 900 env TMPDIR="$T/tmp" test/lab/systemd/run.sh
  fi
}

# windows_trials runs the programs for Windows under Wine, in a prefix of their own.
windows_trials() {
  local missing
  missing=$(bash -c '. test/lab/windows/wine.sh && wine_missing')
  if [ -n "$missing" ]; then
    cannot "the agent on Windows" "$missing"
    return
  fi
  beside "the agent on Windows, by Wine" 900 env TMPDIR="$T/tmp" test/lab/windows/run.sh
}

demo() {
  section "the demo"
  check "sallyport-demo --once" 60 env TMPDIR="$T/tmp" "$T/bin/linux-$(go env GOARCH)/sallyport-demo" --once
}

# fuzz_one NAME PACKAGE fuzzes for a moment. Go's fuzzer sometimes reports its own deadline as a failure, with no input that
# failed (golang/go issue 75804, mended in Go 1.27); that, and only that, gets another try. It gives way to what runs beside.
fuzz_one() {
  local try out
  for try in 1 2 3; do
    out=$(nice go test -run='^$' -fuzz="^$1\$" -fuzztime="${FUZZTIME:-3s}" "$2" 2>&1) && { echo "$out"; return 0; }
    echo "$out"
    grep -q 'context deadline exceeded' <<<"$out" && ! grep -q 'Failing input' <<<"$out" || return 1
    echo "the fuzzer ran into its own deadline; try $((try + 1))"
  done
  return 1
}

fuzz() {
  section "fuzz targets"
  local name pkg targets=()
  while read -r name pkg _; do
    case $name in
      Fuzz*) targets+=("$name") ;;
      ok)
        for name in "${targets[@]}"; do
          # The first ones compile what they need with the fuzzer's counters: minutes on a machine that has never done it.
          check "$name ${pkg#sallyport/}" 600 bash -c "$(declare -f fuzz_one); fuzz_one $name $pkg"
        done
        targets=()
        ;;
    esac
  done < <(go test -list '^Fuzz' ./... 2>/dev/null)
}

# skew needs the history. A checkout without it (an archive, a shallow clone) is no fault of the machine's, so that is said
# loudly and fails nothing.
skew() {
  if [ -z "$(git tag --list 'v[0-9]*' 2>/dev/null)" ] &&
    ! git rev-parse --quiet --verify "$(<test/skew/baseline)^{commit}" >/dev/null 2>&1; then
    printf '\n!!! NOT RUN: core system tests across versions\n!!! because: this checkout has no history (an archive or a shallow clone)\n'
    record skip "core system tests across versions (no history)"
    return
  fi
  section "one version apart"
  check "core system tests across versions" 1200 env TMPDIR="$T/tmp" go run ./test/skew
}

leftovers() {
  local pids
  pids=$(strays)
  [ -z "$pids" ] && record pass "nothing is left running" && return
  section "left running"
  # shellcheck disable=SC2086
  ps -o pid,args -p $(echo $pids | tr ' ' ,)
  record fail "nothing is left running"
}

# A function, so that bash has read the file to its end before anything runs: it may be edited meanwhile.
main() {
  [ -n "$quick" ] || prepare
  form
  tests
  if [ -n "$quick" ]; then
    lab_reason="--quick"
    system_tests
    section "left out by --quick: the lab, cross builds, packages, the demo, other versions, fuzzing"
  else
    system_tests
    [ -z "$lab_reason" ] || cannot "the Active Directory lab" "$lab_reason"
    cross_builds
    section "in a real systemd, and on Windows (Wine)"
    packages
    windows_trials
    demo
    skew
    fuzz
    beside_end
  fi
  leftovers

  section "what came of it, after $((SECONDS - started)) s"
  go run ./test/tally "$T"/json/*
}

main; exit
