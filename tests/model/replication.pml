/*
 * Model of docs/REPLICATION.md: one key, NN nodes, K = 2.
 *
 * SPDX-License-Identifier: LGPL-3.0-or-later
 *
 * One process, one big choice: each branch is an atomic step of one node.
 * Messages are a set that only grows: whoever may receive one does so any
 * time later, or never. That is loss, delay, reordering, duplication and
 * partition in one. A node that is down is one that does nothing; so a
 * crash is the loss of what is in memory, and the node may go on at once.
 *
 * A coordinator is nobody: its steps may happen any time or never, which is
 * what its death does. One that is silent for a while is an attempt whose
 * next step comes after others have begun theirs. The first change is made by node 0: the ring has no
 * beginning.
 *
 * Bounds: EM epochs (the first has begun, with all nodes), VM changes (each
 * a put or a deletion, by any active node), CR crashes (of one node or all
 * at once), LOST losses of a node for ever (at most K-1 = 1; with BLANK a
 * new node with an empty disk takes its name). A change is written as
 * version (epoch, index). NN is 3 or 5.
 *
 * -DM_... seeds one fault of the protocol; tests/model/run expects each to
 * be found. -DREACH asserts that a state in the last epoch with everything
 * acked cannot be reached: that must fail, too, or nothing was checked.
 */

#ifndef NN
#define NN 3
#endif
#ifndef EM
#define EM 3
#endif
#ifndef VM
#define VM 2
#endif
#ifndef CR
#define CR 2
#endif
#ifndef LOST
#define LOST 1
#endif
#define K 2
#define ALL ((1 << NN) - 1)
#define BIT(i) (1 << (i))
#define IN(set, i) (((set) >> (i)) & 1)
#define MAJ (NN / 2 + 1)
/* a version: epoch, index of the change, 0: nothing */
#define VER(v) ((ep_of[v] << 3) | (v))
#define IDX(x) ((x) & 7)

/* durable, per node */
byte prom[NN];		/* promised epoch */
byte epo[NN];		/* epoch it committed to */
byte dat[NN];		/* epoch its store is complete for */
byte dsk[NN];		/* newest version of the key on disk */
byte bgn;		/* nodes that noted that this epoch began */
byte blank;		/* nodes that forgot everything */
byte lost;		/* nodes that never come back */

/* in memory, per node */
byte mem[NN];		/* newest version of the key, synced or not */
byte act[NN];		/* epoch in which it works, or 0 */
byte att[NN];		/* attempt it takes part in, or 0 */
byte started;		/* has begun step 3 of the attempt */

/* changes 1..VM */
byte nv;
byte ep_of[VM + 1], wr_of[VM + 1];
byte isdel;		/* bit v */
byte alive;		/* bit v: the writer still waits for the ack */
byte lsync;		/* bit v: synced at the writer */
byte rcvd;		/* bit v: in the successor's memory, unanswered */
byte wasrcvd;		/* bit v: position taken by the successor's stream */
byte packed;		/* bit v: message "disk" was sent */
byte acked;		/* bit v */
byte purged[VM + 1];	/* messages PURGED, bit per node */

/* attempts 2..EM, by their coordinator's messages */
byte ne = 1;
byte stage[EM + 1];	/* 1 PREPARE 2 START 3 COMMIT 4 ACTIVATE sent */
byte prm[EM + 1];	/* messages PROMISE, bit per node */
byte nov[EM + 1];	/* of these, from a blank node */
byte pb[EM + 1];	/* of these, with BEGAN */
byte pe[(EM + 1) * NN], pd[(EM + 1) * NN];	/* their contents */
byte mset[EM + 1], srcs[EM + 1];
byte rdy[EM + 1], cmt[EM + 1];
byte merged[EM + 1];	/* what the epoch began with */
byte kk[EM + 1];
byte base[EM + 1];	/* sources hold all that is older */

/* what the checker knows */
byte topack;		/* newest acked version */
byte forgot;		/* newest forgotten deletion */
byte begun = 1;		/* newest epoch that began */
byte crashes, losses;

/* scratch: always 0 between steps */
byte i, j, e, v, n, m, top, s, cv, ce;
bool ok;

inline clean() { i = 0; j = 0; e = 0; v = 0; n = 0; m = 0; top = 0; s = 0; cv = 0;
	ce = 0; ok = false }

/* s := successor of node i in epoch e */
inline successor(i_, e_)
{
	s = (i_ + 1) % NN;
	do
	:: IN(mset[e_], s) -> break
	:: else -> s = (s + 1) % NN
	od
}

inline popcount(set)
{
	n = 0; j = 0;
	do
	:: j < NN -> n = n + IN(set, j); j++
	:: else -> break
	od
}

/* a client is told that change v holds */
inline ack(v_)
{
	if
	:: !IN(acked, v_) ->
		acked = acked | BIT(v_);
		/* P3: no ack that a later epoch does not know of */
		assert(ep_of[v_] >= begun || VER(v_) <= merged[begun] ||
		       VER(v_) <= forgot);
		if
		:: VER(v_) > topack -> topack = VER(v_)
		:: else
		fi
	:: else
	fi;
	alive = alive & ~BIT(v_)
}

/* node i syncs; what it had received becomes "disk" messages */
inline sync(i_)
{
	dsk[i_] = mem[i_];
	v = 1;
	do
	:: v <= nv ->
		if
		:: wr_of[v] == i_ && IN(alive, v) -> lsync = lsync | BIT(v)
		:: else
		fi;
		if
		:: IN(rcvd, v) ->
			successor(wr_of[v], ep_of[v]);
			if
			:: s == i_ ->
				packed = packed | BIT(v);
				rcvd = rcvd & ~BIT(v)
			:: else
			fi
		:: else
		fi;
		v++
	:: else -> break
	od
}

/* what node i has received and not answered is never answered */
inline unanswered(i_)
{
	v = 1;
	do
	:: v <= nv ->
		if
		:: IN(rcvd, v) ->
			successor(wr_of[v], ep_of[v]);
			if
			:: s == i_ -> rcvd = rcvd & ~BIT(v)
			:: else
			fi
		:: else
		fi;
		v++
	:: else -> break
	od
}

/* what node i has staged and was not acked never will be */
inline undone(i_)
{
	v = 1;
	do
	:: v <= nv ->
		if
		:: wr_of[v] == i_ -> alive = alive & ~BIT(v)
		:: else
		fi;
		v++
	:: else -> break
	od
}

inline crash(i_)
{
	mem[i_] = dsk[i_];
	act[i_] = 0;
	att[i_] = 0;
	started = started & ~BIT(i_);
	unanswered(i_);
	undone(i_);
#ifdef M_MEMBERS_VOLATILE
	epo[i_] = 1;
#endif
#ifdef M_PROMISE_VOLATILE
	prom[i_] = epo[i_];
#endif
}

/* of a source: all, or what is of the base epoch or later */
#define NEWS(e, x) ((x) >= (base[e] << 3))

/* the rules whose faults are a condition */
#ifdef M_OLD_COORDINATOR
#define FOLLOWS(x, e) (att[x] == e || prom[x] > e)
#else
#define FOLLOWS(x, e) (att[x] == e)
#endif
#ifdef M_LAST_WINS
#define KEEP(new, old) ((new) != 0)
#else
#define KEEP(new, old) ((new) > (old))
#endif
#ifdef M_NO_LOCAL_SYNC
#define LOCAL_OK(v) true
#else
#define LOCAL_OK(v) IN(lsync, v)
#endif
#ifdef M_ACK_EARLY
#define PEERS_OK(v) true
#else
#define PEERS_OK(v) IN(packed, v)
#endif
#ifdef M_FORGET_TOMBSTONE
#define ALL_PURGED(v) true
#elif defined(M_SWEEP_COPIES)
/* only the writer and its successor on the ring of all */
#define ALL_PURGED(v) (IN(purged[v], wr_of[v]) && \
		       IN(purged[v], (wr_of[v] + 1) % NN))
#else
#define ALL_PURGED(v) (purged[v] == mset[ep_of[v]])
#endif
#ifdef M_ACTIVATE_EARLY
#define ALL_COMMITTED(e) (cmt[e] != 0)
#else
#define ALL_COMMITTED(e) (cmt[e] == mset[e])
#endif

/*
 * The steps. i, cv and ce are the node, change and attempt of the step; its
 * guard stands below, in init; "else skip" there costs no state.
 */

/* a node changes the record, on top of the newest version it knows */
inline change(del)
{
	nv++;
	ep_of[nv] = act[i];
	wr_of[nv] = i;
	isdel = isdel | (del << nv);
	mem[i] = VER(nv);
	alive = alive | BIT(nv)
}

/* its successor receives it: next in the stream, same epoch */
inline receive()
{
	ce = ep_of[cv];
	successor(wr_of[cv], ce);
	i = s;
	ok = !IN(lost, i);
#ifdef M_NO_EPOCH_CHECK
	ok = ok && (act[i] != 0);
#else
	ok = ok && (act[i] == ce);
#endif
	/* nothing before it in the same stream is missing */
	j = 1;
	do
	:: j < cv ->
		ok = ok && !(ep_of[j] == ce && wr_of[j] == wr_of[cv] &&
			     !IN(wasrcvd, j));
		j++
	:: else -> break
	od;
	if
	:: ok ->
		wasrcvd = wasrcvd | BIT(cv);
		rcvd = rcvd | BIT(cv);
#ifdef M_ACK_UNSYNCED
		packed = packed | BIT(cv);
#endif
		if
		:: KEEP(VER(cv), mem[i]) -> mem[i] = VER(cv)
		:: else
		fi
	:: else
	fi
}

/* sweep: a member has applied a deletion and flushed its stream */
inline purge()
{
	ok = true;
	j = 1;
	do
	:: j <= nv ->
#ifndef M_SWEEP_NO_FLUSH
		ok = ok && !(ep_of[j] == act[i] && wr_of[j] == i &&
			     !IN(packed, j));
#endif
		j++
	:: else -> break
	od;
	if
	:: ok ->
		purged[cv] = purged[cv] | BIT(i);
		if
		:: VER(cv) > mem[i] -> mem[i] = VER(cv)
		:: else
		fi;
		sync(i)
	:: else
	fi
}

inline forget(what)
{
	if
	:: what > forgot -> forgot = what
	:: else
	fi;
	mem[i] = 0;
	dsk[i] = 0
}

/* 1. a node promises */
inline promise()
{
	prom[i] = ce;
	att[i] = ce;
	started = started & ~BIT(i);
#ifndef M_NO_FREEZE
	act[i] = 0;
	unanswered(i);
#endif
	prm[ce] = prm[ce] | BIT(i);
	pe[ce * NN + i] = epo[i];
	pd[ce * NN + i] = dat[i];
	pb[ce] = pb[ce] | (bgn & BIT(i));
#ifndef M_BLANK_VOTES
	nov[ce] = nov[ce] | (IN(blank, i) << i)
#endif
}

/* 2. the coordinator decides with those that have answered */
inline decide()
{
	top = 0;
	j = 0;
	do
	:: j < NN ->
		if
		:: IN(prm[ce], j) && pe[ce * NN + j] > top ->
			top = pe[ce * NN + j]
		:: else
		fi;
		j++
	:: else -> break
	od;
	j = 0;
	do
	:: j < NN ->
		if
		:: IN(prm[ce], j) && IN(mset[top], j) &&
		   pd[ce * NN + j] >= top -> m = m | BIT(j)
		:: else
		fi;
		if
		:: IN(pb[ce], j) && pe[ce * NN + j] == top -> s = 1
		:: else
		fi;
		j++
	:: else -> break
	od;
	popcount(prm[ce] & ~nov[ce]);
	ok = (n >= MAJ);
#ifdef M_NO_VOTE
	ok = true;
#endif
	popcount(mset[top] & ~m);
#ifndef M_COLD_TOO_FEW
	ok = ok && (n < kk[top]);
#endif
	if
	:: ok && top > 0 && m != 0 ->
		stage[ce] = 2;
#ifdef M_DELTA_UNBEGUN
		base[ce] = top;
#else
		/* known to have begun; else all is read */
		base[ce] = (s -> top : 0);
#endif
		mset[ce] = prm[ce];
#ifdef M_REJOIN_AS_SOURCE
		srcs[ce] = prm[ce];
#else
		srcs[ce] = m;
#endif
		popcount(prm[ce]);
		kk[ce] = (n < K -> n : K);
		/* of no more use: fewer states */
		prm[ce] = 0;
		nov[ce] = 0;
		pb[ce] = 0;
		j = 0;
		do
		:: j < NN ->
			pe[ce * NN + j] = 0;
			pd[ce * NN + j] = 0;
			j++
		:: else -> break
		od
	:: else
	fi
}

/* 3. a member begins: what is no source is emptied */
inline start()
{
	started = started | BIT(i);
	if
	:: !IN(srcs[ce], i) ->
#ifndef M_REJOIN_UNEMPTIED
		mem[i] = 0;
		dsk[i] = 0;
#endif
#ifndef M_EMPTIED_STILL_COUNTS
		dat[i] = 0;
#endif
#ifndef M_UNDONE_LATE
		/* its clients are told now, not when the epoch begins */
		undone(i)
#else
		skip
#endif
	:: else
	fi;
#ifdef M_READY_EARLY
	dat[i] = ce;
	rdy[ce] = rdy[ce] | BIT(i)
#endif
}

/*
 * Reads all sources, syncs, is ready. A source reads changes only of the
 * others; an emptied member all of the first, then changes only.
 */
inline ready()
{
	ok = true;
	m = IN(srcs[ce], i);
#ifdef M_DELTA_ALWAYS
	m = 1;
#endif
	j = 0;
	do
	:: j < NN ->
		ok = ok && (!IN(srcs[ce], j) ||
			    (att[j] == ce && !IN(lost, j)));
		j++
	:: else -> break
	od;
	if
	:: ok ->
		j = 0;
		do
		:: j < NN ->
			if
			:: IN(srcs[ce], j) && (!m || NEWS(ce, mem[j])) &&
			   KEEP(mem[j], mem[i]) ->
				mem[i] = mem[j]
			:: else
			fi;
			m = m | IN(srcs[ce], j);
			j++
		:: else -> break
		od;
#ifndef M_READY_UNSYNCED
		sync(i);
#endif
		dat[i] = ce;
		rdy[ce] = rdy[ce] | BIT(i)
	:: else
	fi
}

/* some may have forgotten a deletion already, and others read changes only */
#define LIVE(x) (IN(isdel, IDX(x)) -> 0 : (x))

/* 4. a member makes the epoch durable */
inline commit()
{
	epo[i] = ce;
	cmt[ce] = cmt[ce] | BIT(i);
#ifdef M_BEGAN_EARLY
	bgn = bgn | BIT(i)
#elif defined(M_BEGAN_KEPT)
	skip
#else
	bgn = bgn & ~BIT(i)
#endif
}

/* 5. the epoch begins with its first active node: P1, P3, P4 */
inline begin()
{
	assert(dsk[i] >= topack ||
	       ((dsk[i] == 0 || IN(isdel, IDX(dsk[i]))) &&
		(forgot >= topack || IN(isdel, IDX(topack)))));
	begun = ce;
	merged[ce] = dsk[i]
}

inline activate()
{
	if
	:: ce > begun -> begin()
	:: ce == begun -> assert(LIVE(dsk[i]) == LIVE(merged[ce]))
	:: else
	fi;
	act[i] = ce;
	att[i] = 0;
	started = started & ~BIT(i);
	blank = blank & ~BIT(i);
	if
	:: ce < EM -> bgn = bgn | BIT(i)
	:: else		/* nobody will ask: fewer states */
	fi;
	/* what it had staged and not thrown away is everywhere */
	v = 1;
	do
	:: v <= nv ->
		if
		:: wr_of[v] == i && IN(alive, v) -> ack(v)
		:: else
		fi;
		v++
	:: else -> break
	od;
	if
	:: mem[i] != 0 && IN(isdel, IDX(mem[i])) -> forget(mem[i])
	:: else
	fi
}

inline crash_all()
{
	j = 0;
	do
	:: j < NN ->
		if
		:: !IN(lost, j) -> crash(j)
		:: else
		fi;
		j++
	:: else -> break
	od
}

inline lose()
{
	crash(i);
	mem[i] = 0;
	dsk[i] = 0;
#ifdef BLANK
	prom[i] = 0;
	epo[i] = 0;
	dat[i] = 0;
	bgn = bgn & ~BIT(i);
	blank = blank | BIT(i)
#else
	lost = lost | BIT(i)
#endif
}

#define STEP(guard, body) :: d_step { guard -> body; clean() }
#define UP(x) (!IN(lost, x))

#define NODE(x) \
	STEP((nv < VM && UP(x) && act[x] != 0 && (nv > 0 || x == 0)), \
	     i = x; change(0)) \
	STEP((nv < VM && UP(x) && act[x] != 0 && nv > 0), i = x; change(1)) \
	STEP((UP(x) && (mem[x] != dsk[x] || rcvd != 0 || \
			(alive & ~lsync) != 0)), sync(x)) \
	STEP((crashes < CR && UP(x)), crashes++; crash(x)) \
	STEP((losses < LOST && UP(x)), losses++; i = x; lose())

#define CHANGE(c) \
	STEP((nv >= c && !IN(wasrcvd, c)), cv = c; receive()) \
	STEP((IN(alive, c) && LOCAL_OK(c) && PEERS_OK(c)), ack(c))

#define CHANGE_NODE(c, x) \
	STEP((IN(acked & isdel, c) && UP(x) && act[x] == ep_of[c] && \
	      !IN(purged[c], x)), i = x; cv = c; purge()) \
	STEP((IN(acked & isdel, c) && UP(x) && act[x] == ep_of[c] && \
	      mem[x] == VER(c) && dsk[x] == mem[x] && ALL_PURGED(c)), \
	     i = x; forget(VER(c)))

#define EPOCH(a) \
	STEP((stage[a] == 1), ce = a; decide()) \
	STEP((stage[a] == 2 && rdy[a] == mset[a]), \
	     stage[a] = 3; rdy[a] = 0) \
	STEP((stage[a] == 3 && ALL_COMMITTED(a)), \
	     stage[a] = 4; cmt[a] = 0)

#define EPOCH_NODE(a, x) \
	STEP((stage[a] == 1 && prom[x] < a && UP(x)), \
	     i = x; ce = a; promise()) \
	STEP((stage[a] >= 2 && IN(mset[a], x) && att[x] == a && \
	      !IN(started, x) && UP(x)), i = x; ce = a; start()) \
	STEP((stage[a] == 2 && IN(mset[a], x) && att[x] == a && \
	      IN(started, x) && UP(x) && !IN(rdy[a], x)), \
	     i = x; ce = a; ready()) \
	STEP((stage[a] >= 3 && FOLLOWS(x, a) && epo[x] < a && \
	      IN(mset[a], x) && dat[x] == a && UP(x)), \
	     i = x; ce = a; commit()) \
	STEP((stage[a] == 4 && IN(mset[a], x) && FOLLOWS(x, a) && \
	      epo[x] == a && UP(x)), i = x; ce = a; activate())

#if NN == 3
#define NODES(step, y) step(y, 0) step(y, 1) step(y, 2)
#define ALONE NODE(0) NODE(1) NODE(2)
#else /* 5 */
#define NODES(step, y) step(y, 0) step(y, 1) step(y, 2) step(y, 3) step(y, 4)
#define ALONE NODE(0) NODE(1) NODE(2) NODE(3) NODE(4)
#endif

init {
	d_step {
		i = 0;
		do
		:: i < NN ->
			prom[i] = 1; epo[i] = 1; dat[i] = 1; act[i] = 1; i++
		:: else -> break
		od;
		mset[1] = ALL; srcs[1] = ALL; stage[1] = 4; kk[1] = K;
		bgn = ALL;
		clean()
	}
end:	do
	ALONE
	CHANGE(1) NODES(CHANGE_NODE, 1)
#if VM > 1
	CHANGE(2) NODES(CHANGE_NODE, 2)
#endif
#if VM > 2
	CHANGE(3) NODES(CHANGE_NODE, 3)
#endif
	EPOCH(2) NODES(EPOCH_NODE, 2)
#if EM > 2
	EPOCH(3) NODES(EPOCH_NODE, 3)
#endif
#if EM > 3
	EPOCH(4) NODES(EPOCH_NODE, 4)
#endif
	STEP((ne < EM), ne++; stage[ne] = 1)
	STEP((crashes < CR), crashes++; crash_all())
#ifdef REACH
	STEP((begun == EM && nv == VM && acked == 2 * (BIT(VM) - 1) &&
	      ep_of[VM] == EM && losses == LOST && crashes == CR), assert(false))
#endif
	od
}
