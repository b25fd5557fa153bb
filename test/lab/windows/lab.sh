# shellcheck shell=bash
# lab.sh - to be sourced by the trials after wine.sh: how they speak, and a relay with an API outside of Windows.

set -E
trap 'echo "FAILED at line $LINENO: $BASH_COMMAND" >&2; traces' ERR
work=$(mktemp -d)
pids=()
# shellcheck disable=SC2154
finish() {
  local rc=$? pid
  trap - ERR
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  wine_down
  rm -rf "$work"
  exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM

traces() { tail -n 30 "$work"/*.log >&2 2>/dev/null || true; }
step() { echo "ok  $*"; }
fail() { echo "FAILED: $*" >&2; traces; exit 1; }
eventually() { # SECONDS CMD...
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "it never came to be: $*"
    sleep 0.2
  done
}
code() { # CODE CMD...: how it ends; what it said is in $work/code.out
  local want=$1 got=0
  shift
  "$@" >"$work/code.out" 2>&1 || got=$?
  [ $got = "$want" ] || fail "$* ended with $got instead of $want: $(cat "$work/code.out")"
}
said() { grep -q -- "$1" "$work/code.out" || fail "it does not say '$1' but: $(cat "$work/code.out")"; }
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# relay_up starts a relay of this system with the gateway plant1, and an API. Then: RELAY, API, $work/join.txt.
relay_up() {
  [ -x "$WINE_LAB/bin/sallyport-relay" ] || (cd "$tree" && go build -o "$WINE_LAB/bin/" ./cmd/sallyport-relay)
  RELAY=http://127.0.0.1:$(port) API=$(port)
  mkdir -p "$work/relay" "$work/www"
  echo "from inside" >"$work/www/hello"
  python3 -m http.server --bind 127.0.0.1 --directory "$work/www" "$API" >/dev/null 2>&1 &
  pids+=($!)
  printf 'listen: %s\npublic_url: %s\ndata: %s\n' "${RELAY#http://}" "$RELAY" "$work/relay" >"$work/relay.yaml"
  "$WINE_LAB/bin/sallyport-relay" serve --config "$work/relay.yaml" >"$work/relay.log" 2>&1 &
  pids+=($!)
  eventually 30 curl -fsS "$RELAY/_/readyz"
  export SALLYPORT_RELAY_SOCKET=$work/relay/admin.sock
  "$WINE_LAB/bin/sallyport-relay" gateway add plant1 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["join"])' >"$work/join.txt"
}
relay() { "$WINE_LAB/bin/sallyport-relay" "$@"; }
apis() { # the part of agent.yaml that names the API
  printf 'apis:\n  - name: orders\n    url: http://127.0.0.1:%s\n    auth: none\n    allow: [GET /**]\n' "$API"
}
call() { [ "$(curl -fsS -m 20 "$RELAY/plant1/orders/hello")" = "from inside" ]; }
value() { # FIELD: of what the script's agent says of its service
  local said _
  for _ in 1 2; do # of some thousand programs that Wine was told to start beside other work one ended without a word
    said=$(agent service status --json || true)
    [ -z "$said" ] || break
    echo "note: 'service status --json' said nothing; asking once more" >&2
  done
  python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1], ""))' "$1" <<<"$said"
}
