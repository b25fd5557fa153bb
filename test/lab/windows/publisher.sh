#!/bin/bash
# publisher.sh - where the program has an Authenticode signature, update takes only a program with a good one by the same publisher.
# Wine takes any root for trusted, so that one that is not is tried on a real Windows alone (docs/windows.md).
set -euo pipefail
. "$(dirname "$0")/wine.sh"
. "$wine_here/lab.sh"
wine_up
rm -rf "$WINEPREFIX/drive_c/ProgramData/Sallyport" # another trial's
programs="$WINEPREFIX/drive_c/Program Files/Sallyport"
agent() { WINDOWS_LIMIT=120 windows 'C:\Program Files\Sallyport\sallyport-agent.exe' "$@"; }
here() { [ "$(agent version | tr -d '\r')" = "sallyport-agent $1" ] || fail "$(agent version) lies in the place, not $1"; }
build() { windows_build "$work/$1.exe" -trimpath -ldflags "-s -w -X main.linked=$1" ./cmd/sallyport-agent; }
certificate() { # NAME SUBJECT
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "$2" -addext extendedKeyUsage=codeSigning -keyout "$work/$1.key" -out "$work/$1.crt" 2>/dev/null
}
sign() { osslsigncode sign -certs "$work/$1.crt" -key "$work/$1.key" -in "$2" -out "$3" >/dev/null; } # NAME FROM TO
release() { # NAME PROGRAM: a release with it alone
  mkdir -p "$work/$1"
  cp "$2" "$work/$1/sallyport-agent-0.1.1-windows-amd64.exe"
  (cd "$work/$1" && sha256sum -b ./*.exe | sed 's, [*][.]/, *,' >SHA256SUMS)
  "$work/sign" release sign --key "$work/key.pem" "$work/$1/SHA256SUMS" >/dev/null
}
update() { agent update "Z:$work/$1/sallyport-agent-0.1.1-windows-amd64.exe" --key "$(cat "$work/key.pub")" --downgrade --yes "${@:2}"; } # RELEASE ARG...

build 0.1.0
build 0.1.1
(cd "$tree" && go build -o "$work/sign" ./cmd/sallyport-agent)
"$work/sign" release keygen "$work/key.pem" | sed -n 's/^ *- //p' >"$work/key.pub"
certificate ours '/C=CH/O=Example AG/CN=Example AG'
certificate theirs '/C=CH/O=Other AG/CN=Example AG'
sign ours "$work/0.1.0.exe" "$work/signed.exe"
for name in ours theirs; do
  sign "$name" "$work/0.1.1.exe" "$work/by.exe"
  release "$name" "$work/by.exe"
  rm "$work/by.exe"
done
release unsigned "$work/0.1.1.exe"
cp "$work/ours/sallyport-agent-0.1.1-windows-amd64.exe" "$work/changed.exe"
python3 - "$work/changed.exe" <<'P'
import sys
with open(sys.argv[1], "r+b") as f:
    at = f.read().index(b"no trusted key has signed it")
    f.seek(at)
    f.write(b"N")
P
release changed "$work/changed.exe"
install() { rm -rf "$programs" && mkdir -p "$programs" && cp "$1" "$programs/sallyport-agent.exe"; }

install "$work/signed.exe"
code 1 update unsigned
said 'has signed the present one, nobody the new one. --force'
code 1 update unsigned --dry-run
said 'nobody the new one'
code 1 update theirs
said 'Example AG has signed the present one, .*Other AG.* the new one'
code 1 update changed
said "the new one's signature is not good on this machine: .*0x80096010"
here 0.1.0
[ -z "$(find "$programs" -name '*.new.exe' -o -name '*.old.exe' -o -name '*.update.json')" ] || fail "something is left: $(ls "$programs")"
step "after a signed program: none unsigned, by another publisher, or changed"

code 0 update ours --dry-run
here 0.1.0
code 0 update ours
here 0.1.1
step "after a signed program: one by the same publisher"

install "$work/signed.exe"
code 0 update theirs --force
here 0.1.1
code 0 agent update --back --yes
here 0.1.0
install "$work/0.1.0.exe"
code 0 update theirs
here 0.1.1
step "anything with --force, and after an unsigned program; and back to the one before"
rm -rf "$programs"
