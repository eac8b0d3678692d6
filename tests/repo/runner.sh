#!/bin/bash
# Does tests/run call a failure a failure? Each way a test can go wrong, in a
# repository of its own with a copy of tests/run and scripts that build nothing.
#
# SPDX-License-Identifier: LGPL-3.0-or-later

set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"
unset PHSTORE_BUILD SETS SAMBA_DIR
rc=0
n=0

set=unit

mkdir -p "$tmp/tests/unit" "$tmp/tests/smb" "$tmp/scripts"
cp "$top/tests/run" "$tmp/tests/run"
printf '#!/bin/sh\nexit 0\n' >"$tmp/scripts/setup"
cp "$tmp/scripts/setup" "$tmp/scripts/build"
cp "$tmp/scripts/setup" "$tmp/scripts/samba"
chmod +x "$tmp"/scripts/*

# given NAME: a test of that name; its body on stdin
given() {
	rm -f "$tmp/tests/$set"/*
	{ printf '#!/bin/bash\n'; cat; } >"$tmp/tests/$set/$1.sh"
	chmod +x "$tmp/tests/$set/$1.sh"
}

# expect TITLE EXIT LAST_LINE PATTERN
expect() {
	local said got=0
	said=$("$tmp/tests/run" "$set" 2>&1 </dev/null) || got=$?
	n=$((n + 1))
	if [ "$got" = "$2" ] && [ "$(tail -n 1 <<<"$said")" = "$3" ] &&
	   grep -q -- "$4" <<<"$said"; then
		echo "ok $n - $1"
	else
		printf 'not ok %d - %s\n# exit %s\n' "$n" "$1" "$got"
		printf '%s\n' "$said" | sed 's/^/# /'
		rc=1
	fi
}

given plain <<<'exit 0'
expect "exit 0 passes" 0 "1 passed, 0 failed" "^pass  unit/plain"
given plain <<<'exit 1'
expect "exit 1 fails" 1 "0 passed, 1 failed" "repeat: tests/run unit/plain"
given plain <<<'kill -SEGV $$'
expect "a signal fails" 1 "0 passed, 1 failed" "killed by signal 11"
given skip <<<'echo "no such disk"; exit 77'
expect "a skip is counted and told, and alone is no success" 1 \
	"0 passed, 0 failed, 1 skipped" "skipped in unit/skip: no such disk"
given tap <<'E2'
echo "ok 1 - a"; echo "ok 2 - b"; echo "not ok 3 # SKIP c"
E2
expect "checks are counted" 0 "2 passed, 0 failed, 1 skipped" "3 checks"
given lie <<<'echo "ok 1 - a"; echo "not ok 2 - b"; exit 0'
expect "not ok with exit 0 fails" 1 "1 passed, 1 failed" "1 checks not ok"
given orphan <<<'setsid sleep 31 >/dev/null 2>&1 & sleep 0.1; echo $! >"$TEST_TMP/../pid"; exit 0'
expect "a process left behind fails" 1 "1 passed, 1 failed" \
	"left running: [0-9]* sleep 31"
n=$((n + 1))
pid=$(cat "$tmp/build/testtmp/unit/pid")
if [ -z "$pid" ] || kill -0 "$pid" 2>/dev/null; then
	echo "not ok $n - and is ended"
	rc=1
else
	echo "ok $n - and is ended"
fi
given slow <<'E2'
# test-timeout: 1
sleep 30
E2
expect "a test that hangs is ended" 1 "0 passed, 1 failed" "limit of 1 s"
set=smb
given lab <<'E2'
echo "not ok 1 - no daemon"; exit 75
E2
expect "a lab that breaks twice fails" 1 "0 passed, 1 failed" \
	"^again smb/lab .*its lab broke: not ok 1 - no daemon"
given once <<'E2'
[ -e "$TEST_TMP/../tried.once" ] || { echo >"$TEST_TMP/../tried.once"; exit 75; }
echo "ok 1 - a"
E2
expect "a lab that breaks once is told, and its test run again" 0 \
	"1 passed, 0 failed" "^run again, its lab had broken: smb/once"
given feared <<'E2'
[ -e "$TEST_TMP/../tried.feared" ] && exit 0
echo >"$TEST_TMP/../tried.feared"; echo "not ok 1 - a"; echo "not ok 2 - b"; exit 75
E2
expect "what a test fears is not asked for again" 1 "0 passed, 2 failed" \
	"repeat: tests/run smb/feared"
set=unit
given lab <<<'exit 75'
expect "a test without a lab has none to break" 1 "0 passed, 1 failed" \
	"^FAIL  unit/lab"
rm -f "$tmp"/tests/unit/*
expect "a set without a test fails" 1 "0 passed, 1 failed" "no test in unit"
printf '#!/bin/sh\nexit 1\n' >"$tmp/scripts/build"
given plain <<<'exit 0'
expect "a build that fails is a failure" 1 "0 passed, 1 failed" \
	"the build failed"
echo "1..$n"
exit $rc
