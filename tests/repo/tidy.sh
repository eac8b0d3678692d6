#!/bin/bash
# Does the repository keep its own rules, and would scripts/tidy say so if not?
#
# SPDX-License-Identifier: LGPL-3.0-or-later

set -u
cd "$(dirname "$0")/../.." || exit 1
rc=0

if scripts/tidy; then
	echo "ok 1 - scripts/tidy finds nothing"
else
	echo "not ok 1 - scripts/tidy finds nothing"
	rc=1
fi

# A check that finds nothing wrong in wrong files is no check.
bad=$(mktemp -d)
trap 'rm -rf "$bad"' EXIT
notice='SPDX-License''-Identifier: LGPL-3.0-or-later'
n=1
expect() {
	n=$((n + 1))
	if grep -q "$3" <<<"$(scripts/tidy "$2")"; then
		echo "ok $n - $1"
	else
		echo "not ok $n - $1"
		rc=1
	fi
}
printf 'int x;\n' >"$bad/a.c"
expect "a missing licence is found" "$bad/a.c" "no SPDX"
printf '/* %s */\n%090d\n' "$notice" 0 >"$bad/b.c"
expect "a long line is found" "$bad/b.c" "b.c:2: longer than 80"
printf '/* %s */\nint x; \n' "$notice" >"$bad/c.c"
expect "a blank at a line's end is found" "$bad/c.c" "c.c:2: blanks"
{ printf '/* %s */\n' "$notice"; yes 'int x;' | head -n 900; } >"$bad/d.c"
expect "a long file is found" "$bad/d.c" "more than 800 lines"
printf '# %s\nhttp://deb.%s\n' "$notice" debian.org/ >"$bad/e.sh"
expect "a registry host is found" "$bad/e.sh" "registry host"
echo "1..$n"
exit $rc
