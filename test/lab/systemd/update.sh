#!/bin/bash
# Runs inside nspawn.sh, beside release/ with signed releases of the agent, a relay, and the documented units of a schedule: an
# agent that was put in place by hand updates itself under live calls, comes back from releases that do not work, and is updated
# by the schedule. Prints a line for each step; the first that
# fails ends it.
. ./lib.sh
RELAY=http://127.0.0.1:$(port) API=$(port)
export SALLYPORT_RELAY_SOCKET=/var/lib/sallyport-relay/admin.sock

cat >callers.py <<'P' # calls until the file "enough" is there; then writes how many calls there were and how the others ended
import collections, json, os, sys, threading, time, urllib.error, urllib.request
ended, lock, gap = collections.Counter(), threading.Lock(), [None, None]
def one(wait):
    try:
        with urllib.request.urlopen("%s/plant1/orders/wait/%s" % (sys.argv[1], wait), timeout=60) as r:
            return "ok" if r.read() == b"from inside" else "another answer"
    except urllib.error.HTTPError as e:
        problem = json.load(e)
        return "%d %s executed=%s retry=%s" % (e.code, problem["error"]["code"], problem.get("executed"), "Retry-After" in e.headers)
    except Exception as e:
        return repr(e)
def caller(n):
    while not os.path.exists("enough"):
        result = one((0, 0.2, 1.5)[n % 3])
        with lock:
            ended[result] += 1
            if result != "ok":
                gap[0], gap[1] = gap[0] or time.time(), time.time()
        time.sleep(0.05)
threads = [threading.Thread(target=caller, args=(n,)) for n in range(6)]
for t in threads: t.start()
for t in threads: t.join()
print(ended.pop("ok", 0), "calls;", dict(ended) or "none failed", "within %.1f s" % (gap[1] - gap[0]) if gap[0] else "")
sys.exit(1 if ended else 0)
P
api "$API"
call() { [ "$(curl -fsS -m 30 "$RELAY/plant1/orders/wait/0")" = "from inside" ]; }
version() { sallyport-agent status --json | python3 -c 'import json, sys; s = json.load(sys.stdin); print(s["version"], s["running"], any(l["state"] == "up" for l in s["links"]))'; }
runs() { [ "$(version)" = "$1 True True" ]; }
nothing_left() { [ -z "$(find /usr/local/bin -name 'sallyport-agent.new' -o -name 'sallyport-agent.update.json')" ]; }

# --- an agent that was put in place by hand -------------------------------------------------------------------------------

tar -xzf release/0.1.0/sallyport-agent-*.tar.gz
install -m 0755 sallyport-agent-0.1.0-*/sallyport-agent release/sallyport-relay /usr/local/bin/
sallyport-relay service install >/dev/null
printf 'listen: %s\npublic_url: %s\n' "${RELAY#http://}" "$RELAY" >/etc/sallyport/relay.yaml
sallyport-relay service start >/dev/null
eventually 20 curl -fsS "$RELAY/_/readyz"
string() { python3 -c 'import json, sys; print(json.load(sys.stdin)["join"])'; }
sallyport-relay gateway add plant1 --json | string >join.txt
sallyport-agent join --file join.txt >/dev/null
cat >>/etc/sallyport/agent.yaml <<Y
update: {signers: ["$(cat release/key.pub)"]}
apis:
  - name: orders
    url: http://127.0.0.1:$API
    auth: none
    allow: [GET /wait/**]
Y
sallyport-agent service install >/dev/null
sallyport-relay connector publish plant1/orders --auth none >/dev/null
eventually 20 call
eventually 20 runs 0.1.0
step "an agent of version 0.1.0 runs as a service"

# --- what is refused -------------------------------------------------------------------------------------------------------

new=$(echo release/0.1.1/sallyport-agent-*.tar.gz)
before=$(systemctl show -P MainPID sallyport-agent)
code 1 sallyport-agent update "$new" --key ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= --yes
said 'no trusted key has signed it'
cp -r release/0.1.1 damaged && printf 'x' >>damaged/"${new##*/}"
code 1 sallyport-agent update damaged/"${new##*/}" --yes
said 'is not as SHA256SUMS has it'
code 2 sallyport-agent update "$new"
said 'give --yes'
code 0 sallyport-agent update "$new" --dry-run
said 'version 0.1.0 becomes 0.1.1'
code 0 sallyport-agent update --from release/0.1.0 --yes
said 'installed already; nothing to do'
code 1 setpriv --reuid 1000 --clear-groups sallyport-agent update "$new" --yes
[ "$(systemctl show -P MainPID sallyport-agent)" = "$before" ] && [ ! -e /usr/local/bin/sallyport-agent.old ] && nothing_left || fail "a refused update has changed something"
step "unsigned and damaged packages, and a dry run, change nothing"

# --- under live calls --------------------------------------------------------------------------------------------------------

sallyport-relay gateway join plant1 --json | string >second.txt
cp /etc/sallyport/agent.yaml second.yaml
sallyport-agent join --file second.txt --config joined.yaml --state "$PWD/second" >/dev/null
sallyport-agent run --config second.yaml --state "$PWD/second" >second.log 2>&1 & second=$!
eventually 20 grep -q 'link up' second.log
python3 callers.py "$RELAY" >calls.txt 2>&1 & callers=$!
sleep 2
code 0 sallyport-agent update "$new" --yes
said 'done: version 0.1.1'
sleep 2
touch enough
wait $callers || fail "calls failed while one of two agents was updated: $(cat calls.txt)"
runs 0.1.1 || fail "after the update: $(version)"
[ "$(sallyport-agent version)" = "sallyport-agent 0.1.1" ] && nothing_left || fail "$(sallyport-agent version); $(ls /usr/local/bin)"
[ "$(/usr/local/bin/sallyport-agent.old version)" = "sallyport-agent 0.1.0" ] || fail "the version before was not kept"
step "one of two agents is updated under live calls: $(cat calls.txt)"
kill $second
wait $second || fail "the second agent: $(tail -n 5 second.log)"
rm enough

python3 callers.py "$RELAY" >calls.txt 2>&1 & callers=$!
sleep 2
code 0 sallyport-agent update --back --yes
sleep 2
touch enough
wait $callers || fail "a lone agent that goes back: $(cat calls.txt)"
runs 0.1.0 || fail "after going back: $(version)"
step "a lone agent goes back to the version before: $(cat calls.txt)"
code 0 sallyport-agent update --from release/0.1.1 --yes
said 'Version 0.1.1 was rolled back'
code 0 sallyport-agent update "$new" --yes
runs 0.1.1 || fail "$(version)"
code 1 sallyport-agent update release/0.1.0/sallyport-agent-*.tar.gz --yes
said '--downgrade'
step "a schedule does not take again what was left, a name does, and an older one is refused"

# --- releases that do not work -------------------------------------------------------------------------------------------------

crash=$(echo release/0.1.3/sallyport-agent-*)
code 5 sallyport-agent update "$crash" --yes
said 'version 0.1.3 was not kept: start it: '
said 'Version 0.1.1 is back and has a link'
runs 0.1.1 && nothing_left || fail "$(version); $(ls /usr/local/bin)"
eventually 20 call
code 0 sallyport-agent update --from release/0.1.3 --yes
said 'was rolled back'
step "a version that does not stay up is rolled back, and not tried again by a schedule"

unlinked=$(echo release/0.1.2/sallyport-agent-*)
began=$SECONDS
code 5 sallyport-agent update "$unlinked" --yes
took=$((SECONDS - began))
said 'version 0.1.2 was not kept: no link within 1m0s: '
said 'Version 0.1.1 is back and has a link'
runs 0.1.1 && nothing_left || fail "$(version); $(ls /usr/local/bin)"
eventually 20 call
step "a version that gets no link is rolled back, after $took s"

# --- killed in the middle --------------------------------------------------------------------------------------------------------

sallyport-agent update "$unlinked" --yes >killed.log 2>&1 & update=$!
eventually 60 grep -q 'wait up to' killed.log
kill -9 $update
wait $update 2>/dev/null || true
[ "$(sallyport-agent version)" = "sallyport-agent 0.1.2" ] && [ -e /usr/local/bin/sallyport-agent.update.json ] || fail "it was not killed in the middle: $(ls /usr/local/bin)"
sallyport-agent service restart >/dev/null || fail "the service does not start after a killed update"
code 5 sallyport-agent update --from release/0.1.1 --yes --within 15s
said 'was cut off; it is brought to its end'
runs 0.1.1 && nothing_left || fail "$(version); $(ls /usr/local/bin)"
eventually 20 call
step "an update that was killed is brought to its end by the next one"

# --- by the schedule that is documented ------------------------------------------------------------------------------------------

code 0 sallyport-agent update release/0.1.0/sallyport-agent-*.tar.gz --downgrade --yes
runs 0.1.0 || fail "$(version)"
install -m 0644 release/units/sallyport-update.* /etc/systemd/system/
code 0 systemd-analyze verify /etc/systemd/system/sallyport-update.service /etc/systemd/system/sallyport-update.timer
[ ! -s code.log ] || fail "the units: $(cat code.log)"
code 0 sh release/units/enable
of() { systemctl show -P "$1" "sallyport-update.$2"; }
next=$(of NextElapseUSecRealtime timer)
[ "$(of ActiveState timer)/$(of UnitFileState timer)" = active/enabled ] && [[ $next == Sun* ]] || fail "the timer: $(systemctl status --no-pager sallyport-update.timer)"
[ "$(of InactiveExitTimestamp service)" = "" ] || fail "the timer has not waited for Sunday"
mkdir /srv/sallyport
scheduled() { # RELEASE
  rm -f /srv/sallyport/*
  cp release/"$1"/* /srv/sallyport/
  code "$2" systemctl start sallyport-update.service
  journalctl --sync
  journalctl --no-pager -o cat "_SYSTEMD_INVOCATION_ID=$(of InvocationID service)" >code.log
}
scheduled 0.1.1 0
[ "$(of Result service)" = success ] || fail "$(cat code.log)"
said 'done: version 0.1.1'
runs 0.1.1 && nothing_left || fail "$(version); $(ls /usr/local/bin)"
scheduled 0.1.1 0
said 'installed already; nothing to do'
scheduled 0.1.3 1
[ "$(of Result service)/$(of ExecMainStatus service)" = exit-code/5 ] || fail "$(cat code.log)"
said 'Version 0.1.1 is back and has a link'
runs 0.1.1 && nothing_left || fail "$(version); $(ls /usr/local/bin)"
scheduled 0.1.3 0
said 'was rolled back'
eventually 20 call
step "the documented timer waits until $next; its service updates, has nothing to do, and fails where a version is rolled back"
