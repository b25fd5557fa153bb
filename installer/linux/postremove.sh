#!/bin/sh
# After the files of @NAME@ are gone. Removal leaves the configuration, the key and the records where they are, so that
# installing again goes on as before; 'apt purge' takes them away.
set -e

if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
  rm -rf /var/lib/@NAME@ /etc/systemd/system/@NAME@.service.d
  rm -f /etc/systemd/system/multi-user.target.wants/@NAME@.service
  rm -f /etc/sallyport/@SHORT@.yaml
  rmdir --ignore-fail-on-non-empty /etc/sallyport 2>/dev/null || true
  if getent passwd @NAME@ >/dev/null; then
    userdel @NAME@ || true
  fi
fi
