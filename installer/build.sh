#!/bin/bash
# build.sh - everything that people install, from this checkout. See --help.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'USAGE'
usage: installer/build.sh [--out DIR] [--version X.Y.Z] [--only PART]... [--target OS/ARCH]... [--list]

Builds what people install into DIR (default: dist). The same commit gives the same bytes, on any machine and in any
directory: the version comes from the tag, every time in a file from the commit (or from SOURCE_DATE_EPOCH).

  --only PART   one of the parts below, may be given several times; without it all of them
  --target T    linux/amd64, linux/arm64, windows/amd64 or windows/arm64, may be given several times; without it all of them
  --version V   instead of what 'git describe' says; X.Y.Z, or X.Y.Z-WORD
  --list        the parts, and what each needs

Authenticode: with a certificate in the environment osslsigncode signs the programs for Windows, then the packages that hold
them, and verifies both. Without one they are not signed.

  SALLYPORT_SIGN_CERT        PEM file of the certificate and those between it and its authority
  SALLYPORT_SIGN_KEY         PEM file of its key
  SALLYPORT_SIGN_PASS_FILE   file with the key's password, if it has one
  SALLYPORT_SIGN_CA          PEM file of the authority, to verify with (default: SALLYPORT_SIGN_CERT itself)
  SALLYPORT_SIGN_TIMESTAMP   URL of a time stamp service; signed files then differ from build to build, and only then

Releases: with a key in the environment SHA256SUMS is signed, so that 'sallyport-agent update' takes the packages that it lists.

  SALLYPORT_RELEASE_KEY      PEM file of the key, as 'sallyport-agent release keygen' makes it
USAGE
}

PARTS="programs sbom archives deb rpm msi container checksums"
needs() {
  cat <<'NEEDS'
programs    static binaries for linux and windows, amd64 and arm64   Go
sbom        a CycloneDX bill of materials beside each program         Go
archives    tar.gz (Linux), zip (Windows)                             tar, gzip, zip
deb, rpm    packages of the agent and of the relay                    Go
msi         packages of the agent for Windows Installer               Go, wixl, msitools
container   the files that an image is built from                     nothing
checksums   SHA256SUMS over all of it, signed if there is a key        sha256sum, Go
NEEDS
}

TARGETS="linux/amd64 linux/arm64 windows/amd64 windows/arm64"

out=dist version='' only=() targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=${2:?"--out needs a directory"} && shift 2 ;;
    --version) version=${2:?"--version needs X.Y.Z"} && shift 2 ;;
    --only) [[ " $PARTS " == *" ${2:-} "* ]] || { echo "build.sh: --only takes one of: $PARTS" >&2; exit 2; }
      only+=("$2") && shift 2 ;;
    --target) [[ " $TARGETS " == *" ${2:-} "* ]] || { echo "build.sh: --target takes one of: $TARGETS" >&2; exit 2; }
      targets+=("$2") && shift 2 ;;
    --list) needs && exit 0 ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done
[ ${#only[@]} -gt 0 ] || read -ra only <<<"$PARTS"
[ ${#targets[@]} -gt 0 ] || read -ra targets <<<"$TARGETS"

die() { echo "build.sh: $*" >&2; exit 1; }
wanted() { [[ " ${only[*]} " == *" $1 "* ]]; }
arches() { local t; for t in "${targets[@]}"; do [ "${t%/*}" != "$1" ] || echo "${t#*/}"; done; } # of an OS
have() { command -v "$1" >/dev/null || die "$1 is not installed; it is in the Debian package $2"; }

# --- version and time ---------------------------------------------------------------------------------------------------

# A commit after a tag is a version after it and before the next: 1.2.0 + 5 commits = 1.2.1~dev5.gABCDEF.
describe() {
  local d
  d=$(git describe --tags --match 'v[0-9]*' --long --abbrev=12 2>/dev/null) ||
    d=v0.0.0-$(git rev-list --count HEAD 2>/dev/null || echo 0)-g$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
  local tag=${d%-*-*} rest count
  rest=${d#"$tag"-} count=${rest%-*}
  if [ "$count" = 0 ]; then echo "${tag#v}"; else
    local base=${tag#v} patch
    patch=${base##*.}
    echo "${base%.*}.$((patch + 1))-dev$count.${rest#*-}"
  fi
}

[ -n "$version" ] || version=$(describe)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || die "the version '$version' is not X.Y.Z or X.Y.Z-WORD"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1)}
export TZ=UTC LC_ALL=C
umask 022

mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# stamp gives files the time of the commit, and the rights that they have for everybody: a checkout has those of its umask.
stamp() { find "$@" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} + -exec chmod u=rwX,go=rX {} +; }
# fill NAME=VALUE... copies standard input to standard output with each @NAME@ replaced.
fill() {
  local text pair
  text=$(cat)
  for pair in "$@"; do text=${text//"@${pair%%=*}@"/"${pair#*=}"}; done
  printf '%s\n' "$text"
}
say() { printf '    %-12s %s\n' "$1" "$2"; }

# --- programs ----------------------------------------------------------------------------------------------------------

program() { echo "$work/$1-$2/$3$([ "$1" != windows ] || echo .exe)"; } # OS ARCH NAME
tools="$work/tools"

build_tools() { (cd installer/tools && GOFLAGS=-trimpath go build -o "$tools/" github.com/goreleaser/nfpm/v2/cmd/nfpm ./...); }

build_programs() {
  local os arch name
  for os in linux windows; do
    for arch in $(arches $os); do
      for name in sallyport-agent sallyport-relay; do
        [ "$os-$name" != windows-sallyport-relay ] || continue # the relay's home is Linux
        CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -trimpath -buildvcs=false -ldflags "-s -w -X main.linked=$version" \
          -o "$(program $os $arch $name)" ./cmd/$name
        [ $os != windows ] || for_windows "$(program $os $arch $name)"
        stamp "$(program $os $arch $name)"
        say program "$os/$arch $name"
      done
    done
  done
}

# for_windows PROGRAM gives it the version that Windows shows, and the signature.
for_windows() {
  "$tools/versioninfo" "$version" "Sallyport agent" "$1"
  sign "$1"
}

# sign FILE puts the company's signature on it, if there is a certificate, and verifies that.
sign() {
  [ -n "${SALLYPORT_SIGN_CERT:-}" ] || return 0
  local args=(-h sha256 -n Sallyport -certs "$SALLYPORT_SIGN_CERT" -key "${SALLYPORT_SIGN_KEY:?is not set}")
  [ -z "${SALLYPORT_SIGN_PASS_FILE:-}" ] || args+=(-readpass "$SALLYPORT_SIGN_PASS_FILE")
  if [ -n "${SALLYPORT_SIGN_TIMESTAMP:-}" ]; then args+=(-ts "$SALLYPORT_SIGN_TIMESTAMP"); else args+=(-time "$SOURCE_DATE_EPOCH"); fi
  osslsigncode sign "${args[@]}" -in "$1" -out "$1.signed" >"$work/sign.log" 2>&1 || { cat "$work/sign.log" >&2; die "could not sign $1"; }
  mv "$1.signed" "$1"
  osslsigncode verify -CAfile "${SALLYPORT_SIGN_CA:-$SALLYPORT_SIGN_CERT}" -in "$1" >"$work/sign.log" 2>&1 ||
    { cat "$work/sign.log" >&2; die "the signature of $1 is not right"; }
}

each_program() { # calls "$@ OS ARCH NAME"
  local os arch
  for os in linux windows; do for arch in $(arches $os); do
    "$@" $os $arch sallyport-agent
    [ $os = windows ] || "$@" $os $arch sallyport-relay
  done; done
}

bill() {
  local file=$out/$3-$version-$1-$2.cdx.json
  "$tools/sbom" "$version" "$(program "$1" "$2" "$3")" >"$file"
  say sbom "${file##*/}"
}

# --- what comes along ----------------------------------------------------------------------------------------------------

# extras makes what the packages hold beside the program: manual pages, completions, unit, scripts.
extras() {
  local name short shell file hint dir
  for name in sallyport-agent sallyport-relay; do
    short=${name#sallyport-} dir=$work/extras/$name
    mkdir -p "$dir/man" "$dir/completion"
    go build -tags man -trimpath -o "$dir/program" ./cmd/$name
    "$dir/program" man "$dir/man"
    gzip -9n "$dir/man"/*
    for shell in bash zsh fish; do "$dir/program" completion $shell >"$dir/completion/$shell"; done
    rm "$dir/program"
    cp installer/linux/$name.service "$dir/"
    cp "configs/$short.example.yaml" "$dir/example.yaml"
    gzip -9nc CHANGELOG.md >"$dir/changelog.gz"
    mkdir -p "$dir/docs"
    cp docs/*.md "$dir/docs/"
    cp installer/$short/alerts.yaml installer/$short/grafana-dashboard.json "$dir/docs/"
    [ $short = agent ] || cp installer/relay/cloud-init.yaml "$dir/docs/"
    hint="  sudo sallyport-agent setup        # asks for the join string and the first API, tries them, and starts it"
    [ $short = agent ] || hint="  sallyport-relay config example | sudo tee /etc/sallyport/relay.yaml, edit it, sudo systemctl start sallyport-relay"
    for file in postinstall preremove postremove; do
      fill NAME=$name SHORT=$short HINT="$hint" <installer/linux/$file.sh >"$dir/$file.sh"
    done
  done
  stamp "$work/extras"
}

archive() {
  local os=$1 arch=$2 name=$3 dir=$work/archive/$3-$version-$1-$2 script
  mkdir -p "$dir"
  cp "$(program "$os" "$arch" "$name")" CHANGELOG.md "$dir/"
  cp "configs/${name#sallyport-}.example.yaml" "$dir/"
  if [ "$os" = windows ]; then
    for script in install verify; do sed 's/$/\r/' "installer/windows/$script.ps1" >"$dir/$script.ps1"; done
    stamp "$dir"
    (cd "$work/archive" && find "${dir##*/}" -type f | sort | zip -qX "$work/a.zip" -@)
    mv "$work/a.zip" "$out/${dir##*/}.zip"
    say archive "${dir##*/}.zip"
    return
  fi
  cp installer/linux/"$name".service "$dir/"
  cp -r "$work/extras/$name/man" "$work/extras/$name/completion" "$work/extras/$name/docs" "$dir/"
  stamp "$dir"
  tar -C "$work/archive" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "${dir##*/}" |
    gzip -9n >"$out/${dir##*/}.tar.gz"
  say archive "${dir##*/}.tar.gz"
}

# package KIND makes deb or rpm of both programs for both architectures. A version of development sorts before its
# release: 1.2.1-dev5 becomes 1.2.1~dev5.
package() {
  local kind=$1 arch name text
  for arch in $(arches linux); do
    for name in sallyport-agent sallyport-relay; do
      text="Agent of Sallyport: calls internal REST APIs for a relay in the cloud, by its own allow-list. It listens nowhere."
      [ $name = sallyport-agent ] || text="Relay of Sallyport: publishes REST APIs that agents reach inside a company's network."
      "$tools/sbom" "$version" "$(program linux $arch $name)" >"$work/extras/$name/bill.cdx.json"
      stamp "$work/extras/$name"
      fill NAME=$name VERSION="${version/-/\~}" ARCH=$arch DESCRIPTION="$text" PROGRAM="$(program linux $arch $name)" \
        EXTRAS="$work/extras/$name" <installer/linux/nfpm.yaml >"$work/nfpm.yaml"
      "$tools/nfpm" package --config "$work/nfpm.yaml" --packager "$kind" --target "$out" >"$work/nfpm.log" 2>&1 ||
        { cat "$work/nfpm.log" >&2; die "could not make the $kind of $name"; }
    done
  done
  say "$kind" "agent, relay; $(arches linux | xargs)"
}

. installer/windows/msi.sh

container() {
  local name arch
  for name in agent relay; do
    for arch in $(arches linux); do
      mkdir -p "$out/container/$name/linux/$arch"
      cp "$(program linux $arch sallyport-$name)" "$out/container/$name/linux/$arch/"
    done
    cp installer/container/$name.Containerfile "$out/container/$name/Containerfile"
  done
  say container "container/agent, container/relay"
}

# --- all of it -----------------------------------------------------------------------------------------------------------

echo "Sallyport $version, $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ), into $out"
if [ -n "$(arches windows)" ]; then
  if [ -n "${SALLYPORT_SIGN_CERT:-}" ]; then have osslsigncode osslsigncode; else echo "    not signed: SALLYPORT_SIGN_CERT is not set"; fi
  if wanted msi; then have wixl wixl && have msibuild msitools; fi
fi
if [ -n "$(arches windows)" ] || wanted sbom || wanted deb || wanted rpm; then build_tools; fi
build_programs
if [ -n "$(arches linux)" ] && { wanted archives || wanted deb || wanted rpm; }; then extras; fi
if wanted programs; then
  keep() { cp "$(program "$1" "$2" "$3")" "$out/$3-$version-$1-$2$([ "$1" != windows ] || echo .exe)"; }
  each_program keep
fi
if wanted sbom; then each_program bill; fi
if wanted archives; then have zip zip && each_program archive; fi
for kind in deb rpm; do if wanted $kind; then package $kind; fi; done
if wanted msi; then for arch in $(arches windows); do msi "$arch"; done; fi
if wanted container; then container; fi
if wanted checksums; then
  (cd "$out" && find . -type f -not -name 'SHA256SUMS*' -printf '%P\n' | sort | xargs sha256sum >"$work/SHA256SUMS")
  mv "$work/SHA256SUMS" "$out/"
  rm -f "$out/SHA256SUMS.sig" # of an earlier build
  say checksums SHA256SUMS
  if [ -n "${SALLYPORT_RELEASE_KEY:-}" ]; then
    go run ./cmd/sallyport-agent release sign --key "$SALLYPORT_RELEASE_KEY" "$out/SHA256SUMS" >/dev/null
    say checksums SHA256SUMS.sig
  fi
fi
