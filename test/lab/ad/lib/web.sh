# web.sh - sourced by up.sh: Apache, winauthd and squid, and the files that tell tests and people where things are.

install -m 755 "$HERE/conf/whoami" "$S/cgi/whoami"
touch "$S/deleg/.keep" "$S/log/squid-access.log" "$S/log/squid-cache.log"
chown www-data "$S/squid" "$S"/log/squid-*.log

# Debian compiles some of these modules in, others not, from one release to the next.
modules() {
  local m f
  for m in mpm_event authn_core authz_core authz_user mime env setenvif headers alias cgid ssl socache_shmcb auth_gssapi \
    session session_cookie; do
    f=/usr/lib/apache2/modules/mod_$m.so
    [ ! -f "$f" ] || echo "LoadModule ${m}_module $f"
  done
}
{
  modules
  render httpd.conf
  printf '<Location /session/>\n  GssapiSessionKey key:%s\n' "$(head -c 32 /dev/urandom | base64)"
  render httpd-session.conf
} >"$S/apache/httpd.conf"
render squid.conf >"$S/squid/squid.conf"

NETBIOS_DOMAIN_NAME=CORP NETBIOS_COMPUTER_NAME=INTRANET KRB5_KTNAME=FILE:$S/keytab/web.keytab \
  start apache apache2 -DFOREGROUND -f "$S/apache/httpd.conf"
NETBIOS_DOMAIN_NAME=CORP NETBIOS_COMPUTER_NAME=EPA KRB5_KTNAME=FILE:$S/keytab/epa.keytab \
  start winauthd /usr/bin/python3 "$HERE/lib/winauthd.py" "$EPA" 80 443 "$S/tls/epa.pem" "$S/tls/epa.key" "$conf"
start squid squid -N -f "$S/squid/squid.conf"
await_port "$WEB" 443
await_port "$LEGACY" 443
await_port "$EPA" 443
await_port "$PROXY" 3128

cat >"$S/env.sh" <<ENV
export ADLAB_STATE=$S KRB5_CONFIG=$S/krb5.conf
export ADLAB_REALM=CORP.EXAMPLE ADLAB_DOMAIN=corp.example ADLAB_NETBIOS=CORP
export ADLAB_DC=$DC ADLAB_WEB=$WEB ADLAB_LEGACY=$LEGACY ADLAB_EPA=$EPA ADLAB_PROXY=$PROXY:3128
export ADLAB_CA=$S/tls/ca.pem ADLAB_KEYTABS=$S/keytab ADLAB_ACCOUNTS=$S/keytab/accounts.json ADLAB_HOSTS=$S/hosts
ENV
cat >"$S/up.new" <<UP
  DC       $DC  Kerberos 88 464, DNS 53, LDAP 389/636/3268/3269, SMB 445; CORP.EXAMPLE / CORP, dc1.corp.example
  Apache   $WEB  80 443  intranet.corp.example  /open /kerb /negotiate /ntlm /basic /session /deleg + /whoami
           $LEGACY  80 443  legacy.corp.example    the same; RC4-only service account, 8190-byte header limit
  winauthd $EPA  80 443  epa.corp.example       /open /epa-off /epa-allow /epa-require /persist /ntlm
  squid    $PROXY  3128    proxy.corp.example     Negotiate, NTLM, Basic
  accounts $S/keytab/accounts.json   keytabs $S/keytab/*.keytab   CA $S/tls/ca.pem   environment: . $S/env.sh
  run a command with the lab's names and DNS: $HERE/labexec.sh CMD...
UP
