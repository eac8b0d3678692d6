# Shared by the shell scripts: where things are, how to speak, how to show
# that a long step is alive. Sourced, with $top already set or not.
#
# SPDX-License-Identifier: LGPL-3.0-or-later

# errors inside $(...) end the script too
shopt -s inherit_errexit

top=${top:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
cache=${PHSTORE_CACHE:-/var/cache/phstore}
# Samba's python modules are built for Debian's interpreter, whatever else
# comes first in PATH.
export PYTHON=${PYTHON:-/usr/bin/python3}

say() { printf '%s\n' "phstore: $*" >&2; }

die() { say "error: $*"; exit 1; }

# with_progress TITLE LOG COMMAND...: run the command with its output in LOG.
# On a terminal the last "[ 812/3472]" of the log is shown in place; else one
# line each 15 s. A failure shows the log's end and its name.
with_progress() {
	local title=$1 log=$2 pid rc=0 began=$SECONDS next=$((SECONDS + 15))
	shift 2
	mkdir -p "$(dirname "$log")"
	# a process group of its own, so that nothing of it outlives us
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064
	trap "kill -TERM -- -$pid 2>/dev/null; exit 130" INT TERM HUP
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.5
		if [ -t 2 ]; then
			printf '\r\033[Kphstore: %s %s %ds' "$title" \
				"$(last_step "$log")" $((SECONDS - began)) >&2
		elif [ "$SECONDS" -ge "$next" ]; then
			say "$title $(last_step "$log") $((SECONDS - began))s"
			next=$((SECONDS + 15))
		fi
	done
	wait "$pid" || rc=$?
	trap - INT TERM HUP
	[ -t 2 ] && printf '\r\033[K' >&2
	if [ "$rc" -ne 0 ]; then
		tail -n 40 "$log" >&2
		say "error: $title failed (exit $rc); all of its output: $log"
		return "$rc"
	fi
	say "$title: done in $((SECONDS - began))s"
}

# The last "[ 12/345]" in a log, or nothing.
last_step() {
	tail -c 4000 "$1" 2>/dev/null | grep -o '\[ *[0-9]*/[0-9]*\]' |
		tail -n 1
}
