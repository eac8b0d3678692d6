#!/bin/bash
# Is a Samba that cannot work refused before anything is built, and why?
#
# SPDX-License-Identifier: LGPL-3.0-or-later

set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
unset SAMBA_DIR
export PHSTORE_CACHE=$tmp/cache
rc=0
n=0

tree() {
	mkdir -p "$tmp/$1"
	printf 'SAMBA_VERSION_%s\n' "MAJOR=$2" "MINOR=$3" "RELEASE=$4" \
		>"$tmp/$1/VERSION"
}

# expect TITLE EXIT PATTERN SAMBA_SOURCE
expect() {
	local said got=0
	said=$(SAMBA_SOURCE=$4 "$top/scripts/samba" --check 2>&1) || got=$?
	n=$((n + 1))
	if [ "$got" = "$2" ] && grep -q -- "$3" <<<"$said"; then
		echo "ok $n - $1"
	else
		printf 'not ok %d - %s\n# exit %s: %s\n' "$n" "$1" "$got" \
			"$said"
		rc=1
	fi
}

tree old 4 24 9
tree old3 3 99 1
tree good 4 25 0
tree next 4 26 1
tree five 5 0 0
tree none x y z
mkdir "$tmp/empty"
expect "4.24 is refused" 1 "is Samba 4.24.9, which has no SMB3 persistent" \
	"$tmp/old"
expect "3.99 is refused" 1 "is Samba 3.99.1" "$tmp/old3"
expect "4.25 is taken" 0 "Samba 4.25.0 in" "$tmp/good"
expect "4.26 is taken" 0 "Samba 4.26.1 in" "$tmp/next"
expect "5.0 is taken" 0 "Samba 5.0.0 in" "$tmp/five"
expect "nonsense is refused" 1 "names no release" "$tmp/none"
expect "a folder without VERSION is refused" 1 "has no VERSION" "$tmp/empty"
expect "a missing file is named" 1 "$tmp/absent" "$tmp/absent"

tar -C "$tmp" -cJf "$tmp/old.tar.xz" old
tar -C "$tmp" -cJf "$tmp/good.tar.xz" good
head -c 100 "$tmp/good.tar.xz" >"$tmp/cut.tar.xz"
expect "4.24 in a tarball is refused" 1 "4.24.9" "$tmp/old.tar.xz"
expect "4.25 in a tarball is taken" 0 "Samba 4.25.0 in" "$tmp/good.tar.xz"
expect "half a tarball is refused" 1 "cannot be unpacked" "$tmp/cut.tar.xz"
echo "1..$n"
exit $rc
