# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan, the tests it names, and one run of one test.

Every test (every row of a table test) is one process of smbtorture: it can
be given its own time limit, be tried again alone, and be run on whichever
server is free. The seed is made of the test's name and the number of the
try, so the same names and lease keys are used with both storages, and never
twice on one server.
"""

import fnmatch
import os
import re
import subprocess
import zlib

from server import binary

DEFAULT_LIMIT = 120
WHOLE_TABLE_SECONDS = 480
ROW_SECONDS = 2
TEST_SECONDS = 2

SUCCESS = "success"
FAILURE = "failure"
SKIP = "skip"
ERROR = "error"
TIMEOUT = "timeout"


class PlanError(Exception):
    """The plan cannot be carried out with this build of Samba."""


class Item:
    """One test on one share; row is None but for tests that are tables."""

    def __init__(self, test, share, seconds, row=None, local=False):
        self.test = test
        self.share = share
        self.seconds = seconds
        self.row = row
        self.local = local
        name = test if row is None else "%s.row%d" % (test, row)
        self.name = name if local else "%s@%s" % (name, share)
        self.limit = max(DEFAULT_LIMIT, 3 * seconds)

    @property
    def group(self):
        """The suite on its share, for the summary."""
        if self.local:
            return "local"
        return "%s@%s" % (".".join(self.test.split(".")[:2]), self.share)


class Plan:
    """plan.txt, read."""

    def __init__(self, path):
        self.suites = []
        self.tables = {}
        self.slow = {}
        self.local = False
        with open(path, encoding="ascii") as f:
            for line in f:
                words = line.split("#", 1)[0].split()
                if not words:
                    continue
                if words[0] == "table":
                    self.tables[words[1]] = words[2]
                elif words[0] == "slow":
                    self.slow[words[1]] = int(words[2])
                elif words[0] == "local":
                    self.local = True
                else:
                    self.suites.append((words[0], words[1:]))


def table_rows(samba, table):
    """Rows of a table in the test's source; 0 if that cannot be told."""
    path = os.path.join(samba, "source4/torture/smb2/durable_v2_open.c")
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read()
    except OSError:
        return 0
    match = re.search(r"\b%s\[\]\s*=\s*\{(.*?)\n\};" % re.escape(table),
                      text, re.S)
    if match is None:
        return 0
    body = re.sub(r"/\*.*?\*/", "", match.group(1), flags=re.S)
    rows = [line for line in body.splitlines()
            if line.strip().startswith("{")]
    if not rows or not rows[-1].strip().startswith("{NULL"):
        return 0
    return len(rows) - 1


def list_tests(samba, suite):
    """The names of a suite's tests, as smbtorture takes them."""
    res = subprocess.run(
        [binary(samba, "smbtorture"), "-s", "/dev/null",
         "--list", suite],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, check=False)
    names = []
    for line in res.stdout.decode(errors="replace").splitlines():
        # suite.test.test: a test case of one test has its name twice
        match = re.match(r"(%s\.(.+))\.\2$" % re.escape(suite), line)
        if match is not None:
            names.append(match.group(1))
    if not names:
        raise PlanError("smbtorture knows no suite %s" % suite)
    return names


def table_items(samba, test, share, table):
    rows = table_rows(samba, table)
    if rows == 0:
        return [Item(test, share, WHOLE_TABLE_SECONDS)]
    return [Item(test, share, ROW_SECONDS, row) for row in range(rows)]


def make_items(samba, plan, patterns):
    """All tests of the plan whose name or suite matches a pattern."""
    items = []
    for suite, shares in plan.suites:
        for test in list_tests(samba, suite):
            for share in shares:
                key = "%s@%s" % (test[len(suite) + 1:], share)
                if key in plan.tables:
                    items += table_items(samba, test, share,
                                         plan.tables[key])
                    continue
                seconds = plan.slow.get(test, TEST_SECONDS)
                items.append(Item(test, share, seconds))
    if plan.local:
        res = subprocess.run([binary(samba, "phtorture"), "--list"],
                             check=True, stdout=subprocess.PIPE)
        for name in res.stdout.decode().split():
            items.append(Item(name, "", 1, local=True))
    if patterns:
        items = [i for i in items
                 if any(matches(p, i) for p in patterns)]
    # longest first: the tail of the run is short then
    items.sort(key=lambda i: -i.seconds)
    return items


def matches(pattern, item):
    suite = item.group.split("@")[0]
    return pattern in (suite, item.group, item.test) or \
        fnmatch.fnmatchcase(item.name, pattern)


class Known:
    """known.txt: what fails with Samba's own storage, too."""

    def __init__(self, path):
        self.patterns = []
        self.flapping_patterns = []
        with open(path, encoding="ascii") as f:
            for line in f:
                words = line.split("#", 1)[0].split()
                if len(words) == 2 and words[0] == "flapping":
                    self.flapping_patterns.append(words[1])
                elif words:
                    self.patterns.append(words[0])

    def has(self, name):
        return any(fnmatch.fnmatchcase(name, p) for p in self.patterns)

    def flapping(self, name):
        return any(fnmatch.fnmatchcase(name, p)
                   for p in self.flapping_patterns)


def command(item, server, attempt):
    """The program that runs this test, and its environment."""
    env = dict(os.environ)
    if item.local:
        env["SMB_CONF_PATH"] = server.local_conf()
        return [server.binary("phtorture"), item.test], env
    args = [server.binary("smbtorture")] + server.client_args()
    seed = zlib.crc32(("%s/%d" % (item.name, attempt)).encode())
    args.append("--seed=%d" % (seed & 0x7fffffff))
    if item.row is not None:
        args += ["--option=torture:subtest=%d" % item.row,
                 "--option=torture:single=yes"]
    return args + ["//127.0.0.1/" + item.share, item.test], env


def parse(item, output):
    """The result of a test in its subunit output, and the reason given."""
    if item.row is not None:
        said = re.search(r"^ *%d: (Lease|Hold) " % item.row, output, re.M)
        if said is None:
            return ERROR, "row %d was not run" % item.row
    pattern = re.compile(r"^(success|failure|error|skip): \S+( \[)?$", re.M)
    match = None
    for match in pattern.finditer(output):
        pass
    if match is None:
        return ERROR, "no result: " + output[-300:]
    if match.group(2) is None:
        return match.group(1), ""
    reason = output[match.end():].split("\n]", 1)[0].strip()
    return match.group(1), reason
