#!/bin/bash
# Runs inside nspawn.sh, beside old/*.deb and new/*.deb: an admin's way from the packages to a call, and what then happens to
# the services: crash, drain, upgrade, removal, purge. Prints a line for each step; the first that fails ends it.
. ./lib.sh
RELAY=http://127.0.0.1:$(port) API=$(port)

api "$API"

call() { [ "$(curl -fsS -m 40 "$RELAY/plant1/orders/wait/${1:-0}")" = "from inside" ]; }

# --- from the packages to the first call ---------------------------------------------------------------------------------

dpkg -i old/sallyport-relay_*.deb old/sallyport-agent_*.deb >install.log 2>&1 || fail "$(cat install.log)"
grep -q 'starts once it is set up' install.log || fail "the packages do not say what comes next"
for unit in sallyport-agent sallyport-relay; do
  systemctl is-enabled --quiet $unit || fail "$unit is not enabled"
  ! systemctl is-active --quiet $unit || fail "$unit runs without a configuration"
  ! systemctl is-failed --quiet $unit || fail "$unit has failed without a configuration"
done
man -w sallyport-agent >/dev/null 2>&1 || [ -e /usr/share/man/man8/sallyport-agent.8.gz ]
for file in agent/install.md agent/alerts.yaml agent/grafana-dashboard.json relay/deploy.md relay/alerts.yaml relay/grafana-dashboard.json relay/cloud-init.yaml; do
  [ -s "/usr/share/doc/sallyport-$file" ] || fail "the packages have no $file"
done
! sallyport-agent update /share/none >managed.log 2>&1 && grep -q 'was installed by dpkg, whose next upgrade would undo this' managed.log || fail "$(cat managed.log)"
step "both packages are installed and wait for their configuration"

printf 'listen: %s\npublic_url: %s\n' "${RELAY#http://}" "$RELAY" >/etc/sallyport/relay.yaml
systemctl start sallyport-relay
eventually 20 curl -fsS "$RELAY/_/readyz"
export SALLYPORT_RELAY_SOCKET=/var/lib/sallyport-relay/admin.sock
sallyport-relay gateway add plant1 --json >join.json
python3 -c 'import json; print(json.load(open("join.json"))["join"])' >join.txt
sallyport-agent join --file join.txt >joined.log
grep -q '3. sallyport-agent service start' joined.log || fail "join does not say how the service is started: $(cat joined.log)"
cat >>/etc/sallyport/agent.yaml <<Y
apis:
  - name: orders
    url: http://127.0.0.1:$API
    auth: none
    allow: [GET /wait/**]
Y
sallyport-agent config check
systemctl start sallyport-agent
sallyport-relay connector publish plant1/orders --auth none
eventually 20 call
step "relay and agent are set up and carry a call"

[ "$(stat -c %U:%a /var/lib/sallyport-agent)" = sallyport-agent:700 ] || fail "the agent's folder: $(stat -c %U:%a /var/lib/sallyport-agent)"
[ "$(stat -c %U:%a /var/lib/sallyport-relay)" = sallyport-relay:700 ] || fail "the relay's folder: $(stat -c %U:%a /var/lib/sallyport-relay)"
for unit in sallyport-agent sallyport-relay; do
  [ "$(stat -c %U "/proc/$(systemctl show -P MainPID $unit)")" = $unit ] || fail "$unit runs as another account"
  exposure=$(systemd-analyze security $unit --no-pager | sed -n 's/.*exposure level for .*: \([0-9.]*\).*/\1/p')
  [ "$(echo "$exposure 2.0" | awk '{print ($1 <= $2)}')" = 1 ] || fail "$unit has an exposure of $exposure"
  step "$unit runs as its own account, exposure $exposure"
done

# --- what happens to services --------------------------------------------------------------------------------------------

for unit in sallyport-agent sallyport-relay; do
  kill -9 "$(systemctl show -P MainPID $unit)"
  eventually 25 call
  step "$unit was killed and is back"
done

call 4 & long=$!
sleep 1
systemctl stop sallyport-agent
wait $long || fail "a call under way was cut off when the agent was stopped"
systemctl start sallyport-agent
eventually 20 call
step "the agent drains when it is stopped"

sed -i 's|GET /wait/\*\*|GET /wait/0|' /etc/sallyport/agent.yaml
systemctl reload sallyport-agent
eventually 20 bash -c "[ \$(curl -s -o /dev/null -w '%{http_code}' $RELAY/plant1/orders/wait/1) = 403 ]"
call || fail "a reload lost the rules that stayed"
step "a reload puts the changed allow-list in force"

sallyport-relay backup relay.backup >backup.log
systemctl stop sallyport-relay
mv /var/lib/sallyport-relay /var/lib/sallyport-relay.old
install -d -m 0700 --owner=sallyport-relay --group=sallyport-relay /var/lib/sallyport-relay
chmod 0600 relay.backup # root's alone, as cloud-init.yaml's are
runuser -u sallyport-relay -- sallyport-relay restore - --config /etc/sallyport/relay.yaml <relay.backup >restore.log
systemctl start sallyport-relay
eventually 25 call
rm -rf /var/lib/sallyport-relay.old
step "a relay restored from its backup has its agents and connectors"

before=$(systemctl show -P MainPID sallyport-agent)
dpkg -i new/sallyport-relay_*.deb new/sallyport-agent_*.deb >upgrade.log 2>&1 || fail "$(cat upgrade.log)"
[ "$(systemctl show -P MainPID sallyport-agent)" != "$before" ] || fail "the upgrade did not restart the agent"
grep -q "$(dpkg-query -W -f '${Version}' sallyport-agent | sed 's/-1$//')" <<<"$(sallyport-agent version)" || fail "$(sallyport-agent version)"
eventually 20 call
grep -q 'GET /wait/0' /etc/sallyport/agent.yaml || fail "the upgrade changed agent.yaml"
step "an upgrade keeps configuration and key, and restarts both"

systemctl disable --quiet sallyport-relay
dpkg -i old/sallyport-relay_*.deb >downgrade.log 2>&1 || fail "$(cat downgrade.log)"
! systemctl is-enabled --quiet sallyport-relay || fail "a package enables what an admin has disabled"
grep -q 'is disabled, and stays so' downgrade.log || fail "the package does not say that the relay stays disabled: $(cat downgrade.log)"
systemctl enable --quiet sallyport-relay
systemctl start sallyport-relay
step "an admin's 'disable' outlives the next package"

# With another account: its running service keeps its folder over an upgrade, and what stays is the package's account's again.
sallyport-agent service install --account svc-orders >account.log 2>&1 || fail "$(cat account.log)"
eventually 20 call
since=$(date +%s)
call 0 && dpkg -i new/sallyport-agent_*.deb >account.log 2>&1 || fail "$(cat account.log)"
eventually 20 call
journalctl --sync
! journalctl -u sallyport-agent --since "@$since" -o cat | grep 'permission denied' || fail "the upgrade took the folder from the service"
[ "$(stat -c %U /var/lib/sallyport-agent/identity.json)" = svc-orders ] || fail "the upgrade gave the key to another account"
sallyport-agent service uninstall >account.log 2>&1 || fail "$(cat account.log)"
code 3 sallyport-agent service status
! grep -q 'waits for its configuration' code.log || fail "it has its configuration: $(cat code.log)"
dpkg -r sallyport-agent >account.log 2>&1 && dpkg -i new/sallyport-agent_*.deb >account.log 2>&1 || fail "$(cat account.log)"
systemctl enable --now --quiet sallyport-agent || fail "the package's account cannot use the folder: $(ls -l /var/lib/sallyport-agent)"
eventually 20 call
step "another account keeps its folder over an upgrade, and the package's own gets it back"

dpkg -r sallyport-agent >remove.log 2>&1 || fail "$(cat remove.log)"
[ -e /etc/sallyport/agent.yaml ] && [ -e /var/lib/sallyport-agent/identity.json ] || fail "removal took the configuration or the key"
! systemctl is-active --quiet sallyport-agent || fail "the agent runs on after its removal"
dpkg -i new/sallyport-agent_*.deb >again.log 2>&1 || fail "$(cat again.log)"
eventually 20 systemctl is-active --quiet sallyport-agent
eventually 20 call
step "removed and installed again, the agent goes on as before"

dpkg -P sallyport-agent sallyport-relay >purge.log 2>&1 || fail "$(cat purge.log)"
left=$(find /etc/sallyport* /var/lib/sallyport* /usr/bin/sallyport* /usr/lib/systemd/system/sallyport* /etc/systemd/system -name 'sallyport*' 2>/dev/null || true)
[ -z "$left" ] || fail "purge left: $left"
! grep -q sallyport /etc/passwd || fail "purge left an account"
step "purge leaves nothing"
