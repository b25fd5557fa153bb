#!/bin/bash
# labexec.sh CMD... - runs CMD where the lab's names resolve (hosts, DNS) and its winbindd answers; the same files otherwise.
. "$(dirname "$0")/lib/common.sh"
pid=$(holder) || die "not up (state $S)"
[ ! -f "$S/env.sh" ] || . "$S/env.sh"
# shellcheck disable=SC2046
exec nsenter -t "$pid" $(cat "$S/pid/ns") --wd="$PWD" -- "$@"
