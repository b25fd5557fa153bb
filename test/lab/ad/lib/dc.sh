# dc.sh - sourced by up.sh: provisions the domain, fills it (populate.py), starts the domain controller.

conf=$S/samba/etc/smb.conf
render smb.conf >"$conf"
render krb5.conf >"$S/krb5.conf"
# Variants: one finds the KDC by DNS (inside the lab only), one has a dead KDC before the live one, one a dead KDC only.
sed -e 's/dns_lookup_kdc = false/dns_lookup_kdc = true/' -e '/^\[realms\]/,/^  }/d' "$S/krb5.conf" >"$S/krb5-dns.conf"
sed -e "s/^    kdc = .*/    kdc = $DEAD:88\n&/" "$S/krb5.conf" >"$S/krb5-failover.conf"
sed -e "s/^    kdc = .*/    kdc = $DEAD:88/" "$S/krb5.conf" >"$S/krb5-dead.conf"
export KRB5_CONFIG=$S/krb5.conf

inside samba-tool domain provision --configfile="$conf" --realm=CORP.EXAMPLE --domain=CORP --host-name=dc1 \
  --host-ip="$DC" --server-role=dc --dns-backend=SAMBA_INTERNAL --adminpass='Adm1n-Passw0rd!' >"$S/log/provision.log" 2>&1 ||
  { tail -5 "$S/log/provision.log"; die "the domain could not be provisioned"; }
since "domain provisioned"

names="{\"intranet\":\"$WEB\",\"legacy\":\"$LEGACY\",\"epa\":\"$EPA\",\"proxy\":\"$PROXY\"}"
ADLAB_NAMES=$names inside /usr/bin/python3 "$HERE/lib/populate.py" "$conf" "$S/keytab" >"$S/log/populate.log" 2>&1 ||
  { tail -5 "$S/log/populate.log"; die "the accounts could not be made"; }
since "accounts and keytabs made"

start samba samba -F -s "$conf" --no-process-group
await_port "$DC" 88
await_port "$DC" 389
for ((i = 0; i < 200; i++)); do
  inside wbinfo -P >/dev/null 2>&1 && break
  sleep .05
done

# NTLM checks by www-data need winbindd's privileged pipe, whose directory must stay root:GROUP 0750.
chgrp www-data "$S/samba/state/winbindd_privileged" "$S"/keytab/{web,epa,proxy}.keytab "$S/deleg"
chmod 640 "$S"/keytab/{web,epa,proxy}.keytab
chmod 770 "$S/deleg"
