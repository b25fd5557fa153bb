#!/bin/sh
# After the files of @NAME@ are there: its account, its folder, its service. The same for deb (called with "configure") and
# rpm (with the number of versions installed); it may be called again at any time.
set -e

if [ "$1" = abort-upgrade ] || [ "$1" = abort-remove ] || [ "$1" = abort-deconfigure ]; then
  exit 0
fi

if ! getent passwd @NAME@ >/dev/null; then
  useradd --system --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin --comment "@NAME@" @NAME@
fi
# One that is there stays as it is: it may be another account's ('service install --account'), whose service runs. systemd gives it
# and all that is in it to the unit's account at the start, if it is not yet.
[ -d /var/lib/@NAME@ ] || install -d -m 0700 -o @NAME@ -g @NAME@ /var/lib/@NAME@

if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
fi
if command -v systemctl >/dev/null; then
  if { [ "$1" = configure ] && [ -z "$2" ]; } || [ "$1" = 1 ]; then # the first time: an admin's later "disable" stands
    systemctl enable --quiet @NAME@.service || true
  fi
fi
if [ -d /run/systemd/system ] && systemctl is-enabled --quiet @NAME@.service; then
  systemctl restart @NAME@.service || echo "@NAME@ did not start; 'journalctl -u @NAME@' says why" >&2
fi

if [ -d /run/systemd/system ] && ! systemctl is-enabled --quiet @NAME@.service; then
  echo "@NAME@ is disabled, and stays so; 'systemctl enable --now @NAME@' starts it, now and with the machine"
fi

if [ ! -e /etc/sallyport/@SHORT@.yaml ]; then
  echo "@NAME@ is installed and starts once it is set up:"
  echo "@HINT@"
fi
