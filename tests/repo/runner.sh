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
	# shellcheck disable=SC2086
	said=$("$tmp/tests/run" $set 2>&1 </dev/null) || got=$?
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

# ---- lanes: several tests at the same time ----

# also SET NAME: one more test; its body on stdin
also() {
	mkdir -p "$tmp/tests/$1"
	{ printf '#!/bin/bash\ncd "%s" || exit 1\n' "$tmp/at"; cat; } \
		>"$tmp/tests/$1/$2"
	chmod +x "$tmp/tests/$1/$2"
}

# lanes SET...: forget all tests; these are the sets from here on
lanes() {
	rm -rf "$tmp"/tests/*/ "$tmp/at"
	mkdir "$tmp/at"
	set=$*
}

# tell OK TITLE
tell() {
	n=$((n + 1))
	[ "$1" = 0 ] && echo "ok $n - $2" && return
	echo "not ok $n - $2"
	rc=1
}

# wait_for COMMAND...: at most 20 s
wait_for() {
	local i
	for i in $(seq 200); do
		"$@" && return 0
		sleep 0.1
	done
	return 1
}
none_alive() {
	local pid
	for pid in $(cat "$tmp"/at/*.pid); do
		! kill -0 "$pid" 2>/dev/null || return 1
	done
}
meet='touch $1; for i in $(seq 100); do [ -e $2 ] && [ -e $3 ] && exit 0
sleep 0.1; done; exit 1'
alone='mkdir alone || exit 1; sleep 0.5; rmdir alone'

lanes sim torture
also sim a <<<"set -- a b c; $meet"
also sim b <<<"set -- b a c; $meet"
also torture run <<<"set -- c a b; $meet"
expect "two tests that only compute and torture run together" 0 \
	"3 passed, 0 failed" "^pass  torture/run"
lanes unit sim torture crash
also unit a <<<"set -- a b b; $meet"
also unit b <<<"set -- b a a; $meet"
also torture run <<<"$alone"
also crash c <<<"set -- c d d; $alone; $meet"
also sim d <<<"set -- d c c; $meet"
expect "so do two of unit, then one of sim and crash after torture" 0 \
	"5 passed, 0 failed" "^pass  crash/c"
lanes unit
also unit a <<<"$alone"
also unit b <<<"$alone"
expect "tests of a set asked for alone do not" 0 "2 passed, 0 failed" \
	"^pass  unit/b"
lanes unit torture smb cluster ceph
for set_name in $set; do
	also "$set_name" test_a <<<"$alone"
	also "$set_name" test_b <<<"$alone"
done
rm "$tmp/tests/unit/test_b" "$tmp/tests/torture/test_b"
mv "$tmp/tests/torture/test_a" "$tmp/tests/torture/run"
expect "nothing runs beside smb, cluster and ceph" 0 "8 passed, 0 failed" \
	"^pass  cluster/test_b"
lanes unit sim torture
also unit a <<<'exit 0'
also sim b <<<'sleep 0.5; exit 1'
also torture run <<<'echo "ok 1 - x"; echo "not ok 2 - y"'
expect "a failure in any lane is counted, the order is that of the sets" 1 \
	"2 passed, 2 failed" "to repeat: tests/run sim/b torture/run"
lanes sim torture
also sim orphan <<<'(setsid sleep 33 >/dev/null 2>&1 & echo $! >left.pid)'
also torture run <<'E2'
(setsid sleep 34 >/dev/null 2>&1 & echo $! >mine)
for i in $(seq 100); do
	[ -s left.pid ] && ! kill -0 "$(cat left.pid)" 2>/dev/null && break
	sleep 0.1
done
[ $i -lt 100 ] && kill "$(cat mine)"
E2
expect "what a test left is ended, what another lane's needs is not" 1 \
	"2 passed, 1 failed" "^FAIL  sim/orphan .*left running: [0-9]* sleep 33"
lanes unit
also unit a <<<'kill -9 $PPID; echo $$ >a.pid; sleep 35'
also unit b <<<'kill -0 $(cat a.pid) 2>/dev/null && exit 1; exit 0'
expect "a lane that is killed fails its test, and the next is run" 1 \
	"1 passed, 1 failed" "^FAIL  unit/a .*the lane it ran in has ended"
lanes sim torture
also sim a <<<'sleep 0.5
[ $(nice) = 5 ] && ! grep -qv "nice 5$" /proc/self/autogroup'
also torture run <<<'[ $(nice) = 0 ]'
expect "the others leave the machine to torture" 0 "2 passed, 0 failed" \
	"^pass  sim/a"

lanes sim torture
for at in sim/a sim/b torture/run; do
	also ${at%/*} ${at#*/} <<<"name=${at#*/}"'
	(setsid sleep 36 & echo $! >$name.daemon.pid)
	sleep 37 & echo $! >$name.child.pid; echo $$ >$name.self.pid; wait'
done
started() { [ "$(cat "$tmp"/at/*.pid 2>/dev/null | wc -l)" = 9 ]; }
for sig in TERM KILL; do
	rm -f "$tmp"/at/*
	# shellcheck disable=SC2086
	"$tmp/tests/run" $set >/dev/null 2>&1 </dev/null &
	runner=$!
	wait_for started
	tell $? "three lanes run, until SIG$sig"
	kill -$sig $runner
	wait $runner 2>/dev/null
	got=$?
	if [ $sig = TERM ]; then
		[ $got = 143 ] && none_alive
		tell $? "when the runner has ended, all it started has"
	else
		wait_for none_alive
		tell $? "the lanes do not outlive it, nor what they started"
	fi
done

lanes unit
mkdir "$tmp/tests/unit"
expect "a set without a test fails" 1 "0 passed, 1 failed" "no test in unit"
printf '#!/bin/sh\nexit 1\n' >"$tmp/scripts/build"
given plain <<<'exit 0'
expect "a build that fails is a failure" 1 "0 passed, 1 failed" \
	"the build failed"
echo "1..$n"
exit $rc
