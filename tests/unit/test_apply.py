#!/usr/bin/env python3
# phstore: tests of smbd-hooks/apply on a made-up source tree
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What is feared: a Samba release moves a line and the hooks go in half, or
# at the wrong place, or twice; a tree can not be got back to what it was.
#
# The tree is made from the hooks' own scopes and anchors, so it fits by
# construction; the tests then take the fit away.

import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
APPLY = os.path.join(TOP, "smbd-hooks", "apply")
sys.path.insert(0, os.path.join(TOP, "smbd-hooks"))
sys.dont_write_bytecode = True

import hooks  # noqa: E402

failed = 0


def check(ok, text):
    global failed
    if not ok:
        failed += 1
        print("not ok: " + text)


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def make_tree(folder, version=(4, 25, 0)):
    write(os.path.join(folder, "VERSION"),
          "SAMBA_VERSION_MAJOR=%d\nSAMBA_VERSION_MINOR=%d\n"
          "SAMBA_VERSION_RELEASE=%d\n" % version)
    files = {}
    for h in hooks.HOOKS:
        scopes = files.setdefault(h.file, {})
        anchors = scopes.setdefault(h.scope, [])
        if h.anchor not in anchors:
            anchors.append(h.anchor)
    for name, scopes in files.items():
        text = "first line\n"
        for scope, anchors in scopes.items():
            inner = "".join("\tx\n\t%s\n\ty\n" % a for a in anchors)
            if scope is None:
                text += "\n".join(anchors) + "\n"
            elif scope.startswith("function "):
                fn = scope.split(" ", 1)[1]
                text += ("int %s(int a);\n\nint %s(int a)\n{\n%s}\n"
                         % (fn, fn, inner))
            else:
                text += "\n%s,\n%s\tend)\n\n" % (
                    scope.split(" ", 1)[1], inner)
        text += "last line\n"
        write(os.path.join(folder, name), text)
    return sorted(files)


def snapshot(folder):
    result = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            with open(path, "rb") as f:
                result[os.path.relpath(path, folder)] = f.read()
    return result


def run(*args, env=None):
    full = dict(os.environ)
    full.pop("PHSTORE_TEST_BUILD", None)
    full.update(env or {})
    return subprocess.run([sys.executable, APPLY] + list(args),
                          capture_output=True, text=True, env=full,
                          check=False)


def test_twice_and_back(folder):
    make_tree(folder)
    before = snapshot(folder)
    r = run(folder)
    check(r.returncode == 0, "apply: " + r.stderr)
    once = snapshot(folder)
    for h in hooks.HOOKS:
        if h.needs is not None:
            continue
        text = once[h.file].decode()
        check(text.count(h.lines.strip("\n")) == 1,
              "hook %s is in %s once" % (h.name, h.file))
        pos = text.find(h.lines)
        anchor = text.find(h.anchor)
        check((pos < anchor) == (h.where == "before") or h.scope is not None,
              "hook %s is %s its anchor" % (h.name, h.where))
    check("source3/smbd/phstore_smbd.c" in once, "our files are there")
    check("lib/phstore/wscript_build" in once, "the build file is there")
    stamp = os.stat(os.path.join(folder, hooks.HOOKS[0].file)).st_mtime_ns
    r = run(folder)
    check(r.returncode == 0, "apply again: " + r.stderr)
    check(snapshot(folder) == once, "applying twice changes nothing")
    check(os.stat(os.path.join(folder, hooks.HOOKS[0].file)).st_mtime_ns
          == stamp, "applying twice does not touch a file")
    r = run("--revert", folder)
    check(r.returncode == 0, "revert: " + r.stderr)
    check(snapshot(folder) == before, "revert brings back what was")


def test_every_anchor_is_checked(folder):
    """Each hook in turn: anchor gone, anchor twice. Nothing is changed."""
    for h in hooks.HOOKS:
        if h.needs is not None:
            continue
        for times in (0, 2):
            shutil.rmtree(folder, ignore_errors=True)
            make_tree(folder)
            path = os.path.join(folder, h.file)
            with open(path) as f:
                text = f.read()
            line = next(x for x in text.split("\n") if h.anchor in x)
            text = text.replace(line + "\n", (line + "\n") * times, 1)
            write(path, text)
            before = snapshot(folder)
            r = run(folder)
            check(r.returncode == 1, "%s, anchor %d times: refused"
                  % (h.name, times))
            check(h.file in r.stderr and "4.25.0" in r.stderr,
                  "%s: the message names file and release: %s"
                  % (h.name, r.stderr))
            check(snapshot(folder) == before,
                  "%s, anchor %d times: nothing changed" % (h.name, times))


def test_releases(folder):
    for version, want in (((4, 24, 9), 1), ((3, 6, 0), 1), ((4, 25, 0), 0),
                          ((4, 25, 7), 0), ((4, 26, 0), 0)):
        shutil.rmtree(folder, ignore_errors=True)
        make_tree(folder, version)
        r = run(folder)
        check(r.returncode == want, "release %s: %d" % (version, want))
        if want != 0:
            check("persistent handles" in r.stderr,
                  "release %s: says why: %s" % (version, r.stderr))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    r = run(folder)
    check(r.returncode == 1 and "no Samba source tree" in r.stderr,
          "a folder that is no Samba")


def test_changed_by_hand(folder):
    for name in make_tree(folder):
        shutil.rmtree(folder, ignore_errors=True)
        make_tree(folder)
        run(folder)
        path = os.path.join(folder, name)
        with open(path, "a") as f:
            f.write("a line by hand\n")
        before = snapshot(folder)
        r = run(folder)
        check(r.returncode == 1 and "by hand" in r.stderr,
              "%s, hooked, then edited by hand, is not thrown away" % name)
        check(snapshot(folder) == before, "and nothing else is changed")


def test_new_release(folder):
    """A newer tarball unpacked over the tree: its files are the originals."""
    make_tree(folder)
    run(folder)
    for name in make_tree(folder, (4, 25, 1)):
        path = os.path.join(folder, name)
        with open(path, "a") as f:
            f.write("a line of 4.25.1\n")
    r = run(folder)
    check(r.returncode == 0, "a newer release over it: " + r.stderr)
    run("--revert", folder)
    for name in make_tree(os.path.join(folder, "again")):
        with open(os.path.join(folder, name)) as f:
            text = f.read()
        check("a line of 4.25.1" in text, "%s: the newer one is kept" % name)


def test_interrupted(folder):
    """As if killed after the state was written, before all files were."""
    files = make_tree(folder)
    pristine = snapshot(folder)
    run(folder)
    done = snapshot(folder)
    for name in files:
        write(os.path.join(folder, name), pristine[name].decode())
        r = run(folder)
        check(r.returncode == 0, "apply after an interruption: " + r.stderr)
        check(snapshot(folder) == done, "it completes what was begun")


def test_foreign_file(folder):
    make_tree(folder)
    write(os.path.join(folder, "source3/smbd/phstore_smbd.c"), "theirs\n")
    before = snapshot(folder)
    r = run(folder)
    check(r.returncode == 1 and "of that name" in r.stderr,
          "a file of Samba's is never overwritten by one of ours")
    check(snapshot(folder) == before, "and nothing is changed")


def test_hash():
    one = run("--hash").stdout
    check(len(one.strip()) == 64, "the hash is one")
    check(run("--hash").stdout == one, "the hash is the same twice")
    check(run("--hash", env={"PHSTORE_TEST_BUILD": "1"}).stdout != one,
          "the hash tells a test build")


def main():
    parent = tempfile.mkdtemp(prefix="phstore-apply-")
    folder = os.path.join(parent, "samba")
    try:
        for test in (test_twice_and_back, test_every_anchor_is_checked,
                     test_releases, test_changed_by_hand, test_new_release,
                     test_interrupted, test_foreign_file):
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
            test(folder)
        test_hash()
    finally:
        shutil.rmtree(parent, ignore_errors=True)
    if failed:
        print("not ok test_apply.py: %d checks failed" % failed)
        return 1
    print("ok test_apply.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
