# phstore: the commands a person types. Each is one script, which says what it
# does and may be called directly; the build itself is in wscript.
#
# SPDX-License-Identifier: LGPL-3.0-or-later

.PHONY: all samba samba-dir demo run stop sim cluster cluster-stop \
	cluster-demo ceph ceph-stop test bench bench-cluster bench-ceph \
	bench-page bench-report tidy clean help
.DEFAULT_GOAL := all

# Variables given to make (SAMBA_DIR=... SANITIZE=...) are in the environment of
# its recipes by make's own rules, so the scripts see them.

# What the programs that start an smbd are given.
samba_dir = $$(scripts/samba --dir)
export PHSTORE_RUN ?= $(shell scripts/run-folder)

all:
	@scripts/build

samba:
	@scripts/samba build

samba-dir:
	@scripts/samba --dir

demo: all samba
	@SAMBA_DIR="$(samba_dir)" tests/lab/demo

run: all samba
	@SAMBA_DIR="$(samba_dir)" tests/lab/run

stop:
	@tests/lab/stop

cluster: all samba
	@SAMBA_DIR="$(samba_dir)" tests/cluster/up

cluster-stop:
	@tests/cluster/down

cluster-demo: all samba
	@SAMBA_DIR="$(samba_dir)" tests/cluster/demo

ceph:
	@scripts/build --ceph
	@tests/ceph/up

ceph-stop:
	@tests/ceph/down

test:
	@scripts/setup build test
	@tests/run $(SETS)

# seeds nobody has tried, some ten minutes; FROM= and SEEDS= choose others
sim: SEEDS ?= 200000
sim: FROM ?= $$(date +%s)000000
sim:
	@scripts/setup build test
	@tests/sim/run --seeds "$(SEEDS)" --from "$(FROM)"
	@tests/model/run --long

# optional: what is missing is said in the report
bench-peers:
	@scripts/setup bench || true

bench bench-cluster bench-ceph bench-report: export SAMBA_CFLAGS ?= -O2

bench: bench-peers all samba
	@SAMBA_DIR="$(samba_dir)" bench/run; rc=$$?; bench/page; exit $$rc

bench-cluster: all samba
	@SAMBA_DIR="$(samba_dir)" bench/cluster; rc=$$?; bench/page; exit $$rc

bench-ceph: all samba
	@scripts/build --ceph
	@bench/ceph/run; rc=$$?; \
	SAMBA_DIR="$(samba_dir)" bench/ceph/cephfs || rc=$$?; \
	bench/page; exit $$rc

bench-page:
	@bench/page

bench-report: bench-peers all samba
	@scripts/build --ceph
	@SAMBA_DIR="$(samba_dir)" bench/all

tidy:
	@scripts/tidy

clean:
	rm -rf build build-* .lock-waf-build*

help:
	@echo 'make            library and tools: build/libphstore.a, build/phstore'
	@echo '                (RELEASE=1: build-release; SANITIZE=address,undefined)'
	@echo 'make samba      Samba with the hooks, cached outside of the checkout'
	@echo 'make samba-dir  print where that tree is (use: make -s samba-dir)'
	@echo 'make demo       a CA share survives kill -9: a story in one minute'
	@echo 'make run        leave a CA server running on loopback'
	@echo 'make stop       end it'
	@echo 'make cluster    three nodes in network namespaces (NODES=, BACKEND=none)'
	@echo 'make cluster-stop  end them'
	@echo 'make cluster-demo  a story of nodes that die, in two minutes'
	@echo 'make ceph       a small Ceph cluster on loopback, for the backend rados'
	@echo 'make ceph-stop  end it'
	@echo 'make test       every test (SETS="unit crash fuzz smb torture")'
	@echo 'make sim        simulated clusters, many more of them, and a larger model'
	@echo 'make bench      benchmarks against upstream'"'"'s own storage'
	@echo 'make bench-ceph benchmarks of the backend rados, and of CephFS, on such a cluster'
	@echo 'make bench-cluster  the same in clusters of 3, 5 and 8 nodes'
	@echo 'make bench-page  the page of what was measured, made anew'
	@echo 'make bench-report  all parts, in short, 15 minutes: bench/reference'
	@echo 'make tidy       licence headers, line lengths and the like'
	@echo 'make clean      remove build*/ (not the cached Samba)'
