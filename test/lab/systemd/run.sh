#!/bin/bash
# run.sh - builds the Debian packages as two versions, one of them once more elsewhere, which must give the same bytes, and
# lives through both in a real systemd: packages.sh. Then the programs install themselves there: service.sh, and update
# themselves: update.sh.
# Root; packages debootstrap and systemd-container. Ends with the exit code of the trial.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
arch=$(dpkg --print-architecture)
tree=$(cd "$here/../../.." && pwd)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1700000000}
build() { # TREE DIRECTORY VERSION
  "$1/installer/build.sh" --out "$work/$2" --version "$3" --only deb --only archives --only checksums --target "linux/$arch" >"$work/build.log" 2>&1 ||
    { cat "$work/build.log" >&2; exit 1; }
}
(cd "$tree" && go run ./cmd/sallyport-agent release keygen "$work/key.pem") | sed -n 's/^ *- //p' >"$work/key.pub"
export SALLYPORT_RELEASE_KEY=$work/key.pem
build "$tree" old 0.1.0
build "$tree" new 0.1.1
mkdir "$work/elsewhere"
tar -C "$tree" --exclude=.git --exclude=dist -cf - . | tar -C "$work/elsewhere" -xf -
chmod -R go= "$work/elsewhere" # as with another umask
build "$work/elsewhere" again 0.1.1
diff "$work/new/SHA256SUMS" "$work/again/SHA256SUMS" || { echo "FAILED: the same sources do not give the same bytes" >&2; exit 1; }
echo "ok  the same sources give the same bytes in another folder"
"$here/nspawn.sh" "$here/packages.sh" "$work/old" "$work/new"

# And without packages: the programs install themselves.
(cd "$tree" && CGO_ENABLED=0 go build -o "$work/bin/" ./cmd/sallyport-agent ./cmd/sallyport-relay)
"$here/nspawn.sh" "$here/service.sh" "$work/bin"

# Programs that no package manager has put there update themselves, to releases that are signed: one that is good, and two that
# are not: one that speaks another protocol, so that no relay lets it in, and one that ends at once.
release() { # VERSION
  (cd "$work/release/$1" && sha256sum sallyport-agent-* >SHA256SUMS)
  "$work/bin/sallyport-agent" release sign --key "$work/key.pem" "$work/release/$1/SHA256SUMS" >/dev/null
}
mkdir -p "$work/release"/0.1.{0,1,2,3}
cp "$work/key.pub" "$work/bin/sallyport-relay" "$work/release/"
cp "$work/old/sallyport-agent-0.1.0-linux-$arch.tar.gz" "$work/old"/SHA256SUMS* "$work/release/0.1.0/"
cp "$work/new/sallyport-agent-0.1.1-linux-$arch.tar.gz" "$work/new"/SHA256SUMS* "$work/release/0.1.1/"
protocol=$(grep -rl '"sallyport.v1"' "$tree/tunnel" --include='*.go' --exclude='*_test.go')
sed 's/"sallyport.v1"/"sallyport.v0"/' "$protocol" >"$work/v0.go"
printf '{"Replace": {"%s": "%s"}}' "$protocol" "$work/v0.go" >"$work/overlay.json"
(cd "$tree" && CGO_ENABLED=0 go build -trimpath -overlay "$work/overlay.json" -ldflags '-s -w -X main.linked=0.1.2' \
  -o "$work/release/0.1.2/sallyport-agent-0.1.2-linux-$arch" ./cmd/sallyport-agent)
(cd "$tree/agent/update/testdata" && GOFLAGS= CGO_ENABLED=0 go build -trimpath -o "$work/release/0.1.3/sallyport-agent-0.1.3-linux-$arch" ./cmd/sallyport-agent)
printf '\nAGENT 0.1.3 crash\n' >>"$work/release/0.1.3/sallyport-agent-0.1.3-linux-$arch"
release 0.1.2
release 0.1.3
# The units of a schedule are the ones that are documented, to the letter: the blocks between "By a schedule" and "On Windows".
mkdir "$work/release/units"
python3 - "$tree/docs/operations.md" "$work/release/units" <<'P'
import re, sys
page = open(sys.argv[1]).read()
part = re.search(r"\*\*By a schedule\*\*(.*?)\nOn Windows", page, re.S).group(1)
blocks = re.findall(r"```ini\n(.*?)```", part, re.S)
names = re.search(r"`/etc/systemd/system/(sallyport-update)\.service` and `\.timer`.*`(systemctl enable --now \1\.timer)`", part, re.S)
if len(blocks) != 2 or not blocks[0].startswith("[Service]") or not blocks[1].startswith("[Timer]") or not names:
    sys.exit("FAILED: docs/operations.md has not two units, or not under these names")
for suffix, text in zip(("service", "timer"), blocks):
    open("%s/%s.%s" % (sys.argv[2], names.group(1), suffix), "w").write(text)
open(sys.argv[2] + "/enable", "w").write(names.group(2) + "\n")
P
TIMEOUT=420 "$here/nspawn.sh" "$here/update.sh" "$work/release"
