#!/bin/bash
# run.sh - builds the Debian packages as two versions, one of them once more elsewhere, which must give the same bytes, and
# lives through both in a real systemd: packages.sh. Then the programs install themselves there: service.sh.
# Root; packages debootstrap and systemd-container. Ends with the exit code of the trial.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
arch=$(dpkg --print-architecture)
tree=$(cd "$here/../../.." && pwd)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1700000000}
build() { # TREE DIRECTORY VERSION
  "$1/installer/build.sh" --out "$work/$2" --version "$3" --only deb --only checksums --target "linux/$arch" >"$work/build.log" 2>&1 ||
    { cat "$work/build.log" >&2; exit 1; }
}
build "$tree" old 0.1.0
build "$tree" new 0.1.1
mkdir "$work/elsewhere"
tar -C "$tree" --exclude=.git --exclude=dist -cf - . | tar -C "$work/elsewhere" -xf -
build "$work/elsewhere" again 0.1.1
diff "$work/new/SHA256SUMS" "$work/again/SHA256SUMS" || { echo "FAILED: the same sources do not give the same bytes" >&2; exit 1; }
echo "ok  the same sources give the same bytes in another folder"
"$here/nspawn.sh" "$here/packages.sh" "$work/old" "$work/new"

# And without packages: the programs install themselves.
(cd "$tree" && CGO_ENABLED=0 go build -o "$work/bin/" ./cmd/sallyport-agent ./cmd/sallyport-relay)
"$here/nspawn.sh" "$here/service.sh" "$work/bin"
