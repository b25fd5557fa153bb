# shellcheck shell=bash
# lib.sh - to be sourced first by what runs inside nspawn.sh, which puts it beside: how the trials speak, wait and look at a
# command's end. Prints a line for each step; the first that fails ends the trial, with the services' last lines.

set -euo pipefail
journal() { journalctl --no-pager -n 60 -u sallyport-agent -u sallyport-relay >&2; }
trap 'echo "FAILED at line $LINENO: $BASH_COMMAND" >&2; journal' ERR

step() { echo "ok  $*"; }
fail() { echo "FAILED: $*" >&2; journal; exit 1; }
eventually() { # SECONDS CMD...
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "it never came to be: $*"
    sleep 0.2
  done
}
code() { # CODE CMD...: how it ends; what it said is in code.log
  local want=$1 got=0
  shift
  "$@" >code.log 2>&1 </dev/null || got=$?
  [ $got = "$want" ] || fail "$* ended with $got instead of $want: $(cat code.log)"
}
said() { grep -q -- "$1" code.log || fail "it does not say: $1 but: $(cat code.log)"; }
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# api PORT: an API that answers "from inside" after the seconds that the path's end says.
api() {
  cat >api.py <<'P'
import http.server, sys, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        time.sleep(float(self.path.rsplit("/", 1)[1]))
        body = b"from inside"
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
P
  python3 api.py "$1" &
}
