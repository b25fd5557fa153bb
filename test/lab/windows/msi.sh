#!/bin/bash
# msi.sh - the package for Windows Installer: installed unattended with a join string, upgraded, not downgraded, repaired,
# taken away and purged. The packages are build.sh's own, program and all.
set -euo pipefail
. "$(dirname "$0")/wine.sh"
. "$wine_here/lab.sh"
wine_up
folder=$WINEPREFIX/drive_c/ProgramData/Sallyport
programs="$WINEPREFIX/drive_c/Program Files/Sallyport"
agent="$programs/sallyport-agent.exe"
rm -rf "$folder" # of the trials before
# Wine passes for Windows 7, where the package would not be installed.
windows reg add 'HKCU\Software\Wine\AppDefaults\msiexec.exe' /v Version /d win10 /f >/dev/null

packages() { # TREE DIRECTORY VERSION
  "$1/installer/build.sh" --out "$work/$2" --version "$3" --only msi --only archives --only checksums --target windows/amd64 >"$work/build.log" 2>&1 ||
    fail "build.sh"
}
export SOURCE_DATE_EPOCH=1700000000
packages "$tree" old 1.0.0
grep -q 'not signed' "$work/build.log" || fail "it does not say that nothing is signed"
openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj '/CN=Sallyport test' -addext extendedKeyUsage=codeSigning \
  -keyout "$work/key.pem" -out "$work/certificate.pem" 2>/dev/null
export SALLYPORT_SIGN_CERT=$work/certificate.pem SALLYPORT_SIGN_KEY=$work/key.pem
packages "$tree" new 1.1.0
mkdir "$work/elsewhere"
tar -C "$tree" --exclude=.git --exclude=dist -cf - . | tar -C "$work/elsewhere" -xf -
packages "$work/elsewhere" again 1.1.0
diff "$work/new/SHA256SUMS" "$work/again/SHA256SUMS" || fail "the same sources do not give the same bytes"
step "packages of two versions are built, in $SECONDS s; the same sources give the same bytes in another folder, signed ones too"

package() { # VERSION
  local folder=new
  [ "$1" != 1.0.0 ] || folder=old
  echo "$work/$folder/sallyport-agent-$1-windows-amd64.msi"
}
dos() { echo "Z:${1//\//\\}"; }
# msi /i|/x VERSION ARG... has Windows Installer do something unattended.
msi() {
  local what=$1 file
  file=$(dos "$(package "$2")")
  shift 2
  WINDOWS_LIMIT=120 windows msiexec "$what" "$file" /qn "$@" </dev/null >>"$work/msiexec.log" 2>&1
}
for table in Property CustomAction; do msiinfo export "$(package 1.0.0)" $table | tr -d '\r' >"$work/$table"; done
service() { windows "$agent" service status --json >"$work/status" 2>&1 || true; grep -q "\"$1\": *$2" "$work/status"; }
paths() { # how often the search path has the program's folder
  windows reg query 'HKLM\System\CurrentControlSet\Control\Session Manager\Environment' /v PATH >"$work/path"
  grep -o 'Program Files.Sallyport' "$work/path" | wc -l || true
}
version_is() {
  windows "$agent" version --json >"$work/version"
  grep -q "\"$1\"" "$work/version" || fail "it is not $1 but $(cat "$work/version")"
}
gone() { [ ! -e "$agent" ] && ! windows sc query sallyport-agent >/dev/null 2>&1; }

verify() { osslsigncode verify -CAfile "$work/certificate.pem" -in "$1" >"$work/verify.log" 2>&1; }
verify "$(package 1.1.0)" || fail "the package's signature is not right"
cp "$(package 1.1.0)" "$work/changed.msi"
python3 - "$work/changed.msi" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(2_000_000)
    byte = f.read(1)[0]
    f.seek(2_000_000)
    f.write(bytes([byte ^ 1]))
PYTHON
! verify "$work/changed.msi" || fail "a changed byte of the package is not found"
! verify "$(package 1.0.0)" || fail "the package that was not signed has a signature"
python3 -m zipfile -e "$work"/new/*.zip "$work/zip"
for file in sallyport-agent.exe install.ps1 verify.ps1 agent.example.yaml CHANGELOG.md; do
  [ -s "$work/zip/sallyport-agent-1.1.0-windows-amd64/$file" ] || fail "the zip has no $file"
done
verify "$work/zip/sallyport-agent-1.1.0-windows-amd64/sallyport-agent.exe" || fail "the program's signature is not right"
step "with a certificate program and package are signed, and a changed byte is found; without one that is said"

grep -q '^MsiHiddenProperties.*JOINFILE;ACCOUNT' "$work/Property" || fail "JOINFILE is not hidden: $(cat "$work/Property")"
for action in Join InstallAs; do
  kind=$(sed -n "s/^$action\t\([0-9]*\).*/\1/p" "$work/CustomAction")
  [ $((kind & 8192)) != 0 ] || fail "$action shows its command line: $(cat "$work/CustomAction")"
done
step "the package tells Windows to keep JOINFILE and ACCOUNT out of logs (Wine's have them)"

relay_up
relay connector publish plant1/orders --auth none >/dev/null

# Whoever cannot join gets nothing half installed.
echo "no join string" >"$work/wrong.txt"
code 91 msi /i 1.0.0 JOINFILE="$(dos "$work/wrong.txt")" # 1627 modulo 256; Windows itself says 1603
eventually 30 gone
[ ! -e "$folder/agent.yaml" ] || fail "a join that failed left a configuration"
step "an installation whose join fails is taken back"

msi /i 1.0.0 JOINFILE="$(dos "$work/join.txt")"
[ -e "$folder/identity.json" ] && [ -e "$folder/agent.yaml" ] || fail "it did not join"
[ -e "$programs/agent.example.yaml" ] || fail "the example is not there"
version_is 1.0.0
eventually 30 service state '"running"'
service account '"NT SERVICE'
service command '"\\"C:\\\\Program Files\\\\Sallyport\\\\sallyport-agent.exe\\"' || fail "its path has no quotes: $(cat "$work/status")"
[ "$(paths)" = 1 ] || fail "the search path has it not once: $(cat "$work/path")"
step "installed unattended: joined, a service with an account of its own, in the search path"

apis >>"$folder/agent.yaml"
eventually 30 call
step "a call goes through the service"

cp "$folder/agent.yaml" "$folder/identity.json" "$work/"
msi /i 1.1.0 JOINFILE="$(dos "$work/join.txt")" # as it was; the join string is used up, and not asked for
version_is 1.1.0
verify "$agent" || fail "what was installed has no right signature"
python3 - "$agent" <<'PYTHON' || fail "Windows would not see which version the program is"
import sys
data = open(sys.argv[1], "rb").read()
at = data.index(b"\xbd\x04\xef\xfe")  # VS_FIXEDFILEINFO: signature, its version, then the file's
numbers = [int.from_bytes(data[at + i : at + i + 2], "little") for i in (10, 8, 14, 12)]
sys.exit(numbers != [1, 1, 0, 0] or "Sallyport agent".encode("utf-16-le") not in data)
PYTHON
cmp "$folder/agent.yaml" "$work/agent.yaml" && cmp "$folder/identity.json" "$work/identity.json" || fail "the upgrade changed configuration or key"
eventually 30 service state '"running"'
eventually 30 call
[ "$(paths)" = 1 ] || fail "the search path has it not once: $(cat "$work/path")"
step "upgraded: configuration and key are as they were, the new program serves"
! windows "$agent" update --from "$(dos "$work/new")" --yes >"$work/update.log" 2>&1 || fail "update replaces a program of Windows Installer's"
grep -q 'was installed by Windows Installer.*msiexec /i.*--force' "$work/update.log" || fail "update does not say whose program it is: $(cat "$work/update.log")"
step "the update command leaves a program to Windows Installer that came from there"

code 67 msi /i 1.0.0
version_is 1.1.0
call || fail "the downgrade that was refused has ended the service"
step "an older package is refused, and what is there goes on"

windows "$agent" service uninstall >/dev/null
msi /i 1.1.0 REINSTALL=ALL # what /fa comes to, which Wine does not know with a file
eventually 30 service state '"running"'
step "a repair brings the service back"

msi /x 1.1.0
eventually 30 gone
cmp "$folder/agent.yaml" "$work/agent.yaml" && cmp "$folder/identity.json" "$work/identity.json" || fail "the removal took configuration or key"
[ "$(paths)" = 0 ] || fail "the search path still has it: $(cat "$work/path")"
step "removed: program, service and search path are as before, configuration and key are still there"

msi /i 1.1.0
eventually 30 call
msi /x 1.1.0 PURGE=1
eventually 30 gone
[ ! -e "$folder" ] || fail "PURGE=1 left $(ls -R "$folder")"
step "installed again it serves at once; removed with PURGE=1 nothing of it is left"

msi /i 1.1.0
relay gateway join plant1 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["join"])' >"$work/second.txt"
code 0 windows "$agent" setup --join-file "$(dos "$work/second.txt")" --name orders --url "http://127.0.0.1:$API" --auth none \
  --allow 'GET /**' --check 'GET /hello' --service yes --yes
eventually 30 call
code 0 windows "$agent" check --as-service
msi /x 1.1.0 PURGE=1
eventually 30 gone
step "from the package to the first call in two commands: msiexec, setup; and the service finds nothing wrong with itself"
