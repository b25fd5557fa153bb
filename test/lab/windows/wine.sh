# shellcheck shell=bash
# wine.sh - a Windows of Wine's for tests. To be sourced; docs/windows.md says what it can show and what not.
#
#   . test/lab/windows/wine.sh
#   wine_up              # a fresh prefix in $WINE_LAB, a temporary folder if that is not set; nothing if it is there already
#   windows PROGRAM...   # runs a Windows program in it, at most $WINDOWS_LIMIT s (60)
#   windows_build OUT PACKAGE...   # builds programs for it, from $tree
#   windows_test PACKAGE...        # 'go test' of packages in it
#   wine_down            # ends what runs in it, and takes the folder away if wine_up made it
#
# Whoever sources it should run wine_down in a trap on EXIT. Packages: wine, wine64, gcc-mingw-w64-x86-64-win32, winbind (NTLM);
# wixl, msitools and osslsigncode for what is installed.

wine_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$(cd "$wine_here/../../.." && pwd)
wine_made=

# wine_missing says what keeps Wine from running here; nothing if it can.
wine_missing() {
  [ "$(uname -m)" = x86_64 ] || { echo "the machine is no amd64" && return; }
  [ -n "$(wine_loader)" ] || echo "Wine is not installed (packages wine, wine64)"
  command -v x86_64-w64-mingw32-gcc >/dev/null || echo "there is no gcc-mingw-w64-x86-64-win32"
  command -v ntlm_auth >/dev/null || echo "there is no ntlm_auth (package winbind), without which Wine has no NTLM"
  command -v wixl >/dev/null && command -v msibuild >/dev/null || echo "there is no wixl or msibuild (packages wixl, msitools)"
  command -v osslsigncode >/dev/null || echo "there is no osslsigncode"
}

# Debian's /usr/bin/wine asks for 32 bits first; the loader itself does not.
wine_loader() { for p in /usr/lib/wine/wine64 /usr/bin/wine64; do [ ! -x $p ] || { echo $p && return; }; done; }
wine_server() { for p in /usr/lib/wine/wineserver64 /usr/lib/wine/wineserver; do [ ! -x $p ] || { echo $p && return; }; done; }

wine_env() {
  export WINE_LAB WINEPREFIX=$WINE_LAB/prefix WINEDEBUG=${WINEDEBUG--all} WINEDLLOVERRIDES="mscoree,mshtml=" LC_ALL=C.UTF-8
  WINE_LOADER=$(wine_loader) WINE_SERVER=$(wine_server)
}

wine_up() {
  if [ -n "${WINE_LAB:-}" ] && [ -d "$WINE_LAB/prefix" ]; then
    wine_env
    return
  fi
  local missing
  missing=$(wine_missing)
  [ -z "$missing" ] || { echo "wine.sh: $missing" >&2 && return 1; }
  [ -n "${WINE_LAB:-}" ] || { WINE_LAB=$(mktemp -d) && wine_made=1; }
  mkdir -p "$WINE_LAB"
  wine_env
  wine_overlay || return 1
  x86_64-w64-mingw32-gcc -shared -nostdlib -O2 -e DllMain -o "$WINE_LAB/bcryptprimitives.dll" "$wine_here/bcryptprimitives.c" -ladvapi32 -lkernel32 || return 1
  # Whatever starts Wine's daemons must not hold a pipe: they keep it open, and who reads from it waits for ever.
  timeout -k 5 120 "$WINE_LOADER" wineboot -i </dev/null >/dev/null 2>&1 || { echo "wine.sh: wineboot failed" >&2 && return 1; }
  "$WINE_SERVER" -w
  cp "$WINE_LAB/bcryptprimitives.dll" "$WINEPREFIX/drive_c/windows/system32/"
  wine_start
}

# wine_start starts the server, which stays, and with it the services that start with the machine. The trace of what is
# written to the event log, which Wine does not keep, goes to $WINE_LAB/eventlog.
wine_start() {
  "$WINE_SERVER" -p </dev/null >/dev/null 2>&1
  WINEDEBUG=-all,+eventlog timeout -k 5 60 "$WINE_LOADER" wineboot </dev/null >/dev/null 2>>"$WINE_LAB/eventlog"
}

# wine_stop ends all that runs, as if the machine lost its power.
wine_stop() {
  "$WINE_SERVER" -k 2>/dev/null || true
  timeout 20 "$WINE_SERVER" -w || true
}

wine_down() {
  [ -n "${WINE_LAB:-}" ] && [ -n "${WINE_SERVER:-}" ] || return 0
  [ -n "$wine_made" ] || return 0 # it belongs to who made it
  wine_stop
  rm -rf "$WINE_LAB"
}

windows() { timeout -k 5 "${WINDOWS_LIMIT:-60}" "$WINE_LOADER" "$@"; }

# wine_overlay has Go's file deletion take Wine 8's "not implemented" for what it is, so that tests can clean up behind
# themselves. It is for test programs alone; the agent runs without.
wine_overlay() {
  local from
  from=$(go env GOROOT)/src/internal/syscall/windows/at_windows.go
  sed 's/case STATUS_INVALID_INFO_CLASS,/case NTStatus(0xC0000002), STATUS_INVALID_INFO_CLASS,/' "$from" >"$WINE_LAB/at_windows.go"
  grep -q 'NTStatus(0xC0000002)' "$WINE_LAB/at_windows.go" || { echo "wine.sh: this Go deletes files in another way; adapt wine_overlay" >&2 && return 1; }
  printf '{"Replace": {"%s": "%s"}}\n' "$from" "$WINE_LAB/at_windows.go" >"$WINE_LAB/overlay.json"
}

windows_build() { (cd "$tree" && GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go build -o "$@"); }

windows_test() {
  (cd "$tree" && GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go test -overlay "$WINE_LAB/overlay.json" -exec "$WINE_LOADER" "$@")
}
