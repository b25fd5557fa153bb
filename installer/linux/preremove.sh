#!/bin/sh
# Before the files of @NAME@ go. An upgrade is no removal: it leaves the service as it is, and restarts it afterwards.
set -e

case $1 in
  remove | 0)
    if [ -d /run/systemd/system ]; then
      systemctl stop @NAME@.service || true # it drains first
    fi
    ;;
esac
# Whether it is enabled outlives a removal with dpkg, as the configuration does; rpm has no such state.
if [ "$1" = 0 ] && command -v systemctl >/dev/null; then
  systemctl disable --quiet @NAME@.service || true
fi
