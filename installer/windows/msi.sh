# shellcheck shell=bash
# msi.sh - to be sourced by build.sh: the packages for Windows Installer, made by wixl from agent.wxs and finished by msibuild
# with tables.sql. The same sources give the same bytes: every identifier comes from a name, every time from the commit.

# The space of all our identifiers. It, the upgrade code and the names of components stay as they are for ever, or an upgrade is
# taken for another product beside this one.
msi_space=6b3c1f2e-5a0d-4c7b-9e41-7f2d8a90c5b6

# uuid5 NAME is the identifier of a name in our space (RFC 9562, version 5).
uuid5() {
  local hex
  # shellcheck disable=SC2059
  hex=$({ printf "$(sed 's/-//g; s/../\\x&/g' <<<$msi_space)" && printf '%s' "$1"; } | sha1sum)
  printf '%s-%s-5%s-%x%s-%s\n' "${hex:0:8}" "${hex:8:4}" "${hex:13:3}" $((0x${hex:16:1} & 3 | 8)) "${hex:17:3}" "${hex:20:12}" | tr a-f A-F
}

# msi_version checks that Windows Installer can have the version, and gives the three numbers that it knows it by.
msi_version() {
  local major minor patch
  IFS=. read -r major minor patch <<<"${version%%-*}"
  [ "$major" -le 255 ] && [ "$minor" -le 255 ] && [ "$patch" -le 65535 ] || die "Windows Installer knows no version $version"
  echo "$major.$minor.$patch"
}

# msi ARCH makes the package of the agent.
msi() {
  local arch=$1 file=sallyport-agent-$version-windows-$1.msi dir=$work/msi-$1 number template content
  number=$(msi_version)
  case $arch in amd64) template=x64 ;; arm64) template=Arm64 ;; *) die "no package for $arch" ;; esac
  mkdir -p "$dir"
  cp "$(program windows "$arch" sallyport-agent)" CHANGELOG.md configs/agent.example.yaml "$dir/"
  "$tools/sbom" "$version" "$dir/sallyport-agent.exe" >"$dir/sallyport-agent.cdx.json"
  stamp "$dir"
  # wixl knows no Arm64; what it makes for x64 differs from it in the summary alone. It takes paths from where it is only.
  cp installer/windows/agent.wxs "$work/"
  (cd "$work" && wixl -a x64 -o "$file" -D ProductCode="$(uuid5 "product $version $arch")" -D UpgradeCode="$(uuid5 agent)" \
    -D Version="$number" -D FullVersion="$version" -D Source="msi-$arch" -D ProgramGuid="$(uuid5 program)" \
    -D ExampleGuid="$(uuid5 example)" -D ChangesGuid="$(uuid5 changes)" -D BillGuid="$(uuid5 bill)" agent.wxs) \
    >"$work/wixl.log" 2>&1 || { cat "$work/wixl.log" >&2; die "wixl could not make $file"; }
  [ ! -s "$work/wixl.log" ] || { cat "$work/wixl.log" >&2; die "wixl left something out of $file"; }
  msi_tables "$work/$file" "$number"
  content=$(cat "$dir"/* installer/windows/agent.wxs installer/windows/tables.sql installer/windows/msi.sh | sha256sum)
  msibuild "$work/$file" -s "Sallyport agent $version" Sallyport "$template;1033" "{$(uuid5 "package $version $arch ${content%% *}")}" ||
    die "could not write the summary of $file"
  "$tools/msitime" "$work/$file" || die "could not set the times of $file"
  sign "$work/$file"
  mv "$work/$file" "$out/"
  say msi "$file"
}

# msi_tables FILE VERSION runs tables.sql.
msi_tables() {
  local query
  while read -r query; do
    case $query in --* | "") continue ;; esac
    msibuild "$1" -q "$query" </dev/null >"$work/msibuild.log" 2>&1 || { cat "$work/msibuild.log" >&2; die "tables.sql: $query"; }
  done < <(fill VERSION="$2" UPGRADE="$(uuid5 agent)" <installer/windows/tables.sql)
}
