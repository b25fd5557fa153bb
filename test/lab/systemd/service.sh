#!/bin/bash
# Runs inside nspawn.sh, beside bin/ with the two programs and no package: 'service ...' makes them services of a real systemd,
# mends what is half done, and takes them away. Prints a line for each step; the first that fails ends it.
. ./lib.sh
says() { # TEXT CMD...; all of the output is taken before it is looked at: grep -q would close the pipe under the program
  local out
  out=$("${@:2}" 2>&1) || true
  grep -q -- "$1" <<<"$out" || fail "${*:2} does not say: $1 but: $out"
}
value() { sallyport-agent service status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
RELAY=http://127.0.0.1:$(port) API=$(port)

# --- refusals ------------------------------------------------------------------------------------------------------------

hidden=$(mktemp -d)
cp bin/sallyport-agent "$hidden/"
code 1 "$hidden/sallyport-agent" service install
grep -q 'put it where only root can' code.log || fail "$(cat code.log)"
mkdir -m 0777 /opt/open && cp bin/sallyport-agent /opt/open/
code 1 /opt/open/sallyport-agent service install
grep -q 'others than root may write /opt/open' code.log || fail "$(cat code.log)"
install -m 0755 bin/* /usr/local/bin/
code 4 sallyport-agent service status
code 1 sallyport-agent service start
grep -q 'not installed' code.log || fail "$(cat code.log)"
code 1 setpriv --reuid 1000 --clear-groups sallyport-agent service install
grep -q 'run it as root' code.log || fail "$(cat code.log)"
code 1 sallyport-agent service install --account root
code 1 sallyport-agent service install --account 'a b'
sallyport-agent service install --dry-run >dry.log
grep -q 'would make the system account sallyport-agent' dry.log || fail "$(cat dry.log)"
[ ! -e /etc/systemd/system/sallyport-agent.service ] && ! getent passwd sallyport-agent || fail "a dry run has done something"
step "what cannot be done is refused with its reason, and a dry run changes nothing"

# --- from nothing to a call -----------------------------------------------------------------------------------------------

sallyport-relay service install >/dev/null
code 3 sallyport-relay service status
grep -q 'waits for its configuration' code.log || fail "$(cat code.log)"
printf 'listen: %s\npublic_url: %s\n' "${RELAY#http://}" "$RELAY" >/etc/sallyport/relay.yaml
sallyport-relay service start
eventually 20 curl -fsS "$RELAY/_/readyz"
code 0 sallyport-relay service status
export SALLYPORT_RELAY_SOCKET=/var/lib/sallyport-relay/admin.sock
sallyport-relay gateway add plant1 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["join"])' >join.txt
sallyport-agent join --file join.txt >/dev/null
python3 -m http.server --bind 127.0.0.1 --directory /share/www "$API" >/dev/null 2>&1 &
cat >>/etc/sallyport/agent.yaml <<Y
apis:
  - name: orders
    url: http://127.0.0.1:$API
    auth: none
    allow: [GET /**]
Y
sallyport-agent service install
sallyport-relay connector publish plant1/orders --auth none >/dev/null
mkdir -p /share/www && echo "from inside" >/share/www/hello
call() { [ "$(curl -fsS -m 30 "$RELAY/plant1/orders/hello")" = "from inside" ]; }
eventually 20 call
[ "$(value state)" = running ] && [ "$(value automatic)" = True ] && [ "$(value account)" = sallyport-agent ] || fail "$(sallyport-agent service status)"
[ "$(stat -c %U "/proc/$(value pid)")" = sallyport-agent ] || fail "the agent runs as another account"
[ "$(stat -c %U:%a /var/lib/sallyport-agent)" = sallyport-agent:700 ] || fail "the agent's folder: $(stat -c %U:%a /var/lib/sallyport-agent)"
exposure=$(systemd-analyze security sallyport-agent --no-pager | sed -n 's/.*exposure level for .*: \([0-9.]*\).*/\1/p')
[ "$(echo "$exposure 2.0" | awk '{print ($1 <= $2)}')" = 1 ] || fail "an exposure of $exposure"
step "join before install, install, and the first call; exposure $exposure"

sallyport-agent check --as-service >check.log || fail "$(cat check.log)"
grep -q '^ok    links: ' check.log || fail "$(cat check.log)"
chmod 0600 /etc/sallyport/agent.yaml
sallyport-agent check >/dev/null || fail "root cannot read agent.yaml"
code 1 sallyport-agent check --as-service
grep -q '^FAIL  config: .*permission denied' code.log || fail "$(cat code.log)"
chmod 0644 /etc/sallyport/agent.yaml
step "the doctor as the service sees what the service sees"

sallyport-agent support-bundle --out bundle.zip >/dev/null 2>&1 || fail "no support bundle"
python3 -m zipfile -e bundle.zip bundle
grep -q 'agent starts' bundle/log.txt && grep -q '"state": "running"' bundle/service.json || fail "the support bundle: $(ls bundle; cat bundle/log.txt)"
step "the support bundle has the service's log"

# --- what systemd is told ------------------------------------------------------------------------------------------------

tells() { [ "$(systemctl show "$1" -P StatusText)" = "$2" ]; } # UNIT TEXT
tells_of() { [[ "$(systemctl show "$1" -P StatusText)" == *"$2"* ]]; }
eventually 20 tells sallyport-agent "2 links to ${RELAY#http://}, 1 API"
eventually 20 tells sallyport-relay "1 of 1 agents linked, gateways: 1, connectors: 1"
sallyport-relay service stop
eventually 20 tells_of sallyport-agent "no link to ${RELAY#http://}"
sallyport-agent service restart
eventually 20 tells_of sallyport-agent "no link to ${RELAY#http://}"
[ "$(value state)" = running ] || fail "without a relay the agent does not count as started: $(sallyport-agent service status)"
sallyport-relay service start
eventually 30 call
eventually 20 tells sallyport-agent "2 links to ${RELAY#http://}, 1 API"
step "systemctl status tells of links, APIs, agents and connectors; the agent starts without the relay"

reloads() { journalctl -u sallyport-agent -o cat | grep -c 'Reloaded sallyport-agent' || true; }
before=$(reloads)
cp /etc/sallyport/agent.yaml good.yaml
echo 'nonsense: 1' >>/etc/sallyport/agent.yaml
systemctl reload sallyport-agent
eventually 20 tells_of sallyport-agent "agent.yaml as it is now is wrong"
cp good.yaml /etc/sallyport/agent.yaml
systemctl reload sallyport-agent
eventually 20 tells sallyport-agent "2 links to ${RELAY#http://}, 1 API"
eventually 20 systemctl is-active --quiet sallyport-agent
[ "$(reloads)" -ge $((before + 2)) ] || fail "systemd saw $(reloads) reloads, and $before before"
call || fail "no call after a reload"
step "a reload ends as one, of a broken file too, which the status tells"

cp /etc/sallyport/relay.yaml relay.good
printf 'log: {level: debug}\ntimeouts: {drain: 2m}\nlimits: {calls: 100, connections: 5000}\n' >>/etc/sallyport/relay.yaml
relays=$(systemctl show sallyport-relay -P MainPID)
(for _ in {1..200}; do curl -fsS -m 30 "$RELAY/plant1/orders/hello" >/dev/null || exit 1; done) & calls=$!
systemctl reload sallyport-relay
relay_says() { journalctl --sync; journalctl -u sallyport-relay -o cat | grep -c -- "$1" >/dev/null; }
eventually 20 relay_says 'msg="these settings count from the next start: restart the relay" settings=limits.connections$'
eventually 20 relay_says 'msg="the log level has changed" from=INFO to=DEBUG'
echo 'nonsense: 1' >>/etc/sallyport/relay.yaml
systemctl reload sallyport-relay
eventually 20 relay_says 'the configuration is wrong; the previous one stays in force.*nonsense'
cp relay.good /etc/sallyport/relay.yaml
systemctl reload sallyport-relay
eventually 20 relay_says 'msg="the log level has changed" from=DEBUG to=INFO'
wait $calls || fail "a call was lost while the relay read its configuration again"
[ "$(systemctl show sallyport-relay -P MainPID)" = "$relays" ] || fail "a reload has restarted the relay"
eventually 20 systemctl is-active --quiet sallyport-relay
step "the relay reads its configuration again under load: it takes over what it can, names the rest, and loses no call"

journalctl --sync
journalctl -u sallyport-agent -p warning -o cat >urgent.log
grep -q 'level=WARN' urgent.log && grep -q 'level=ERROR' urgent.log || fail "no warnings: $(cat urgent.log)"
! grep -q 'level=\(INFO\|DEBUG\)' urgent.log || fail "journalctl -p warning shows $(grep 'level=INFO' urgent.log)"
journalctl -u sallyport-agent -o cat >all.log
grep -q '^time=.*level=INFO' all.log && ! grep -q '^<[0-9]>' all.log || fail "prefixes are shown: $(head -n 3 all.log)"
journalctl -u sallyport-relay -p 6..6 -o cat | grep -c 'the relay is ready' >/dev/null || fail "the relay's lines have no level"
step "journalctl -p warning shows warnings and errors alone"

for unit in sallyport-agent sallyport-relay; do
  [ "$(systemctl show $unit -P Type)" = notify ] && [ "$(systemctl show $unit -P WatchdogUSec)" = 1min ] || fail "$unit: $(systemctl show $unit -p Type,WatchdogUSec)"
  mkdir -p /etc/systemd/system/$unit.service.d
  printf '[Service]\nWatchdogSec=6\n' >/etc/systemd/system/$unit.service.d/quick.conf # the trial need not last minutes
  systemctl daemon-reload
  systemctl restart $unit
  eventually 30 call
  before=$(systemctl show $unit -P NRestarts) pid=$(systemctl show $unit -P MainPID)
  sleep 10 # the watchdog of one that lives is fed
  [ "$(systemctl show $unit -P MainPID)" = "$pid" ] || fail "$unit was restarted although it lives"
  kill -STOP "$pid"
  restarted() { [ "$(systemctl show $unit -P NRestarts)" -gt "$before" ]; }
  eventually 60 restarted
  eventually 30 call
  journalctl --sync
  journalctl -u $unit -o cat | grep -c 'Watchdog timeout' >/dev/null || fail "$unit was not restarted by the watchdog"
  rm -r /etc/systemd/system/$unit.service.d
  systemctl daemon-reload
  systemctl restart $unit
  eventually 30 call
  step "the watchdog restarts $unit when it has come to a halt, and only then"
done

# --- secrets that systemd keeps --------------------------------------------------------------------------------------------

STOCK=$(port)
cat >stock.py <<'P' # an API behind a password, which is in a file
import base64, http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        want = "Basic " + base64.b64encode(b"svc-stock:" + open("/share/stock.now", "rb").read()).decode()
        ok = self.headers.get("Authorization") == want
        body = b"stock" if ok else b""
        self.send_response(200 if ok else 401)
        if not ok: self.send_header("WWW-Authenticate", "Basic")
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
P
printf 'kept-by-systemd-1' >/share/stock.now
python3 stock.py "$STOCK" 2>/dev/null &
cat >>/etc/sallyport/agent.yaml <<Y
  - name: stock
    url: http://127.0.0.1:$STOCK
    auth: {basic: {user: svc-stock, secret: stock}}
    allow: [GET /**]
    check: GET /count
Y
sallyport-relay connector publish plant1/stock --auth none >/dev/null
stock() { [ "$(curl -fsS -m 30 "$RELAY/plant1/stock/count")" = stock ]; }
install -m 0600 /share/stock.now /etc/sallyport/stock.password
overrides=/etc/systemd/system/sallyport-agent.service.d/override.conf # as 'systemctl edit' writes it
mkdir -p "$(dirname $overrides)"
printf '[Service]\nLoadCredential=stock:/etc/sallyport/stock.password\n' >$overrides
systemctl daemon-reload
systemctl stop sallyport-agent
sallyport-agent check --as-service --api stock >check.log || fail "stopped, the doctor as the service: $(cat check.log)"
sallyport-agent service start
eventually 20 stock
says '^stock .*systemd' sallyport-agent secret list
sallyport-agent check --api stock >check.log || fail "the doctor as root: $(cat check.log)"
code 1 setpriv --reuid svc-orders --clear-groups cat /run/credentials/sallyport-agent.service/stock
! tr '\0' '\n' <"/proc/$(value pid)/environ" | grep -q kept-by-systemd || fail "the password is in the environment"
step "a password by LoadCredential is used in a call, and nobody else reads it"

printf 'kept-by-systemd-2' >/share/stock.now
rm /etc/sallyport/stock.password
systemd-creds encrypt --with-key=host --name=stock /share/stock.now /etc/sallyport/stock.cred 2>/dev/null
! grep -q kept-by-systemd /etc/sallyport/stock.cred || fail "the credential is not encrypted"
printf '[Service]\nLoadCredentialEncrypted=stock:/etc/sallyport/stock.cred\n' >$overrides
systemctl daemon-reload
sallyport-agent service restart
eventually 20 stock
sallyport-agent check --as-service --api stock >check.log || fail "$(cat check.log)"
! journalctl -u sallyport-agent -o cat | grep kept-by-systemd || fail "the password is in the journal"
cp good.yaml /etc/sallyport/agent.yaml
rm -r "$(dirname $overrides)"
systemctl daemon-reload
sallyport-agent service restart
eventually 20 call
step "a password by LoadCredentialEncrypted is used in a call"

# --- again, and half done -------------------------------------------------------------------------------------------------

before=$(value pid)
says 'Nothing to do' sallyport-agent service install
[ "$(value pid)" = "$before" ] || fail "an install that had nothing to do restarted the agent"
systemctl disable --quiet sallyport-agent
printf '# Written by' >/etc/systemd/system/sallyport-agent.service # cut off in the middle
chown root:root /var/lib/sallyport-agent/identity.json
sallyport-agent service install >/dev/null
[ "$(value automatic)" = True ] || fail "install did not mend the start with the machine"
[ "$(stat -c %U /var/lib/sallyport-agent/identity.json)" = sallyport-agent ] || fail "install did not mend the owner of the key"
eventually 20 call
says 'Nothing to do' sallyport-agent service install
step "install again does nothing, and mends what is half done"

sallyport-agent service install --account svc-orders >/dev/null
[ "$(value account)" = svc-orders ] && [ "$(stat -c %U "/proc/$(value pid)")" = svc-orders ] || fail "$(sallyport-agent service status)"
[ "$(stat -c %U /var/lib/sallyport-agent/identity.json)" = svc-orders ] || fail "the key is not the new account's"
eventually 20 call
says 'Nothing to do' sallyport-agent service install
step "another account gets the folder, and the next install keeps it"

# --- what others wrote ----------------------------------------------------------------------------------------------------

unit=/etc/systemd/system/sallyport-agent.service
mv $unit kept.service
printf '[Service]\nExecStart=/usr/local/bin/sallyport-agent run\n' >$unit
cp $unit theirs.service
for what in install uninstall; do
  code 1 sallyport-agent service $what
  grep -q 'was not written by this command' code.log || fail "$(cat code.log)"
  cmp $unit theirs.service || fail "$what changed a unit that somebody else wrote"
done
ln -sf /dev/null $unit
for what in install uninstall; do
  code 1 sallyport-agent service $what
  grep -q 'systemctl unmask sallyport-agent' code.log || fail "$(cat code.log)"
  [ "$(readlink $unit)" = /dev/null ] || fail "$what removed a mask"
done
mv kept.service $unit
systemctl daemon-reload
cp /etc/sallyport/agent.yaml short.yaml
echo 'drain_timeout: 5m' >>/etc/sallyport/agent.yaml
sallyport-agent service install >/dev/null
[ "$(systemctl show sallyport-agent -p TimeoutStopUSec --value)" = "5min 15s" ] || fail "a drain of 5m is given $(systemctl show sallyport-agent -p TimeoutStopUSec --value)"
mv short.yaml /etc/sallyport/agent.yaml
sallyport-agent service install >/dev/null
eventually 20 call
step "a unit that somebody else wrote, or a mask, stays; a long drain is given its time"

# --- start, stop, faults --------------------------------------------------------------------------------------------------

sallyport-agent service stop
code 3 sallyport-agent service status
[ "$(value state)" = stopped ] || fail "$(sallyport-agent service status)"
sallyport-agent service stop
sallyport-agent service start
sallyport-agent service start
sallyport-agent service restart
eventually 20 call
kill -9 "$(value pid)"
eventually 25 call
cp /etc/sallyport/agent.yaml good.yaml
echo 'nonsense: 1' >>/etc/sallyport/agent.yaml
code 1 sallyport-agent service restart
grep -q 'journalctl -u sallyport-agent' code.log || fail "$(cat code.log)"
code 3 sallyport-agent service status
[ "$(value state)" = failed ] || fail "$(sallyport-agent service status)"
cp good.yaml /etc/sallyport/agent.yaml
sallyport-agent service start
eventually 20 call
step "start, stop and restart, twice too; a start that fails is told"

# --- groups -----------------------------------------------------------------------------------------------------------------

cp /etc/sallyport/agent.yaml joined.yaml
key=sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
printf 'identity: {entra: {credential: arc, scope: api://x/.default, relay_key: "%s"}}\n' $key >>/etc/sallyport/agent.yaml
! sallyport-agent service install --dry-run | grep -q himds || fail "an account is let into a group that is not there"
groupadd --system himds
sallyport-agent service install >group.log || fail "$(cat group.log)"
grep -q 'into the group himds' group.log && id -nG "$(value account)" | grep -qw himds || fail "$(value account) may not ask Azure Arc: $(cat group.log)"
! sallyport-agent service install | grep -q himds || fail "it joins its group again"
cp joined.yaml /etc/sallyport/agent.yaml
systemctl restart sallyport-agent
eventually 20 call
step "the account of an agent that signs on by Azure Arc joins the group that may ask it for tokens"

# --- and away -------------------------------------------------------------------------------------------------------------

sallyport-agent service uninstall >/dev/null
sallyport-relay service uninstall >/dev/null
code 4 sallyport-agent service status
says 'Nothing to do' sallyport-agent service uninstall
[ -e /etc/sallyport/agent.yaml ] && [ -e /var/lib/sallyport-agent/identity.json ] || fail "uninstall took the configuration or the key"
[ -z "$(find /etc/systemd/system -name 'sallyport*')" ] || fail "uninstall left $(find /etc/systemd/system -name 'sallyport*')"
sallyport-relay service install >/dev/null
sallyport-agent service install >/dev/null
eventually 20 call
step "uninstall leaves configuration and key, and the next install goes on as before"

# --- setup, from nothing again ---------------------------------------------------------------------------------------------

sallyport-agent service uninstall >/dev/null
rm -r /var/lib/sallyport-agent /etc/sallyport/agent.yaml
sallyport-relay gateway join plant1 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["join"])' >again.txt
sallyport-agent setup --join-file again.txt --name orders --url "http://127.0.0.1:$API" --auth none --allow 'GET /**' \
  --check 'GET /hello' --service yes --yes >setup.log 2>&1 || fail "$(cat setup.log)"
eventually 20 call
owner=$(value account)
for f in /var/lib/sallyport-agent /var/lib/sallyport-agent/identity.json; do
  [ "$(stat -c %U $f)" = "$owner" ] || fail "$f belongs to $(stat -c %U $f), the service runs as $owner"
done
[ "$(stat -c %U:%a /etc/sallyport/agent.yaml)" = root:644 ] || fail "agent.yaml: $(stat -c %U:%a /etc/sallyport/agent.yaml)"
[ "$(value state)" = running ] && [ "$(value automatic)" = True ] || fail "$(sallyport-agent service status)"
sallyport-agent check --as-service >check.log || fail "$(cat check.log)"
eventually 20 tells sallyport-agent "2 links to ${RELAY#http://}, 1 API"
step "setup goes from a join string to a service and a call"
