/*
 * The life of messages as queue/STATES.md has it, with a crash at any step.
 * t/system/test_model.py runs spin on it.
 *
 * What a process sees (the page cache) and what the disk holds are apart.
 * kill: memory is lost.  Power cut: what was not synced is there or is not,
 * each thing for itself; but the moves of one file are there in their order
 * (a file system that keeps a log of its directories).
 *
 * What must hold (the assertions): a message that was answered 250 is in a
 * complete file or a live record with each recipient that it has not reached
 * open; no recipient is done twice but in the windows that STATES.md names;
 * what was refused, or cut off, is never delivered; no incomplete file is taken
 * for mail; when nothing more can happen, all that was promised has arrived.
 *
 * -DONE is one message instead of two, RCPTS its recipients, CRASHES how many
 * kills, stops and power cuts.  Every -DM_... is a mistake that the properties
 * must find.
 */
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef RCPTS
#define RCPTS 2
#endif
#if RCPTS == 2
#define ALL 3		/* a bit for each recipient */
#else
#define ALL 1
#endif

/* in memory of qmgr */
#define OUT 0		/* nothing (not yet, deferred, or gone) */
#define W 1		/* text comes in */
#define J1 2		/* waits for a group */
#define J2 3		/* its record is written */
#define F1 4		/* file made, not complete */
#define F2 5		/* complete, not synced */
#define F3 6		/* synced, its directory not */
#define A 7		/* active, in a file */
#define AJ 8		/* active, in the journal */
#define E1 9		/* being moved to a file: made */
#define E2 10		/* complete */
#define E3 11		/* synced */
#define E4 12		/* directory synced */
#define E5 13		/* marks since then stored, not synced */
#define E6 14		/* record finished, not renamed */
#define D1 15		/* from a file: marks written */
#define D2 16		/* synced */
#define K1 17		/* from the journal to deferred: file made */
#define K2 18		/* complete */
#define K3 19		/* synced */
#define K4 20		/* directory synced */
#define K5 21		/* renamed, the record is still live */
#define R1 22		/* recovery makes a file: made */
#define R2 23		/* complete */
#define R3 24		/* synced */
#define R4 25		/* safe in a file */
#define X1 26		/* its record went wrong: the file's way */

/* directories */
#define NO 0
#define INC 1
#define ACT 2
#define DEF 3
#define BIT(d) (1 << (d))

/* what the client heard */
#define NOTHING 0
#define OK 1		/* 250 */
#define REFUSED 2	/* 451 */
#define LOST 3		/* crash between dot and reply: RFC 1047 */

typedef Msg {
	byte mem;
	byte told;
	byte done;	/* status in memory, a bit for each recipient */
	byte copy;	/* of it, when the move to a file began */
	byte up[2];	/* 0, 1 with a relay, 2 accepted, 3 failed */
	byte had;	/* delivered at least once */
	byte knew;	/* recipients that may never be delivered again */
	byte due;	/* of these, the next tick makes sure */
	byte sure;	/* not even after a power cut */
	/* file: page cache, disk */
	byte loc, src, dloc;
	bool stale;	/* an incomplete one of the name may be on disk */
	bool whole, dwhole;
	byte fst, dfst;
	/* record */
	bool rec, drec;
	byte seg, epoch;
	byte rst, drst;		/* D */
	bool mv, dmv;		/* what is open was moved: M */
};
Msg m[2];

typedef Seg {
	bool there;	/* page cache */
	byte dthere;	/* mask: 1 not, 2 there */
	byte epoch, depoch;
	bool mine;	/* of the qmgr that runs */
	bool bad;
};
Seg s[2];
byte now = 9;		/* the segment in use; 9: none */
bool recovering = false;
bool stopping = false;
byte crashes = 0;

#define COMPLETE(i) (m[i].loc != NO && m[i].whole)
#define VALID(i) (m[i].rec && s[m[i].seg].there && \
	m[i].epoch == s[m[i].seg].epoch)
#define LIVE(i) (VALID(i) && m[i].rst != ALL && !m[i].mv)
/* It knows more than a file may. */
#define KNOWS(i) (VALID(i) && (LIVE(i) || m[i].rst != 0))
/* Who needs this segment?  In memory, or what is on disk. */
#define INJ(i) (m[i].mem == J2 || m[i].mem == AJ || \
	(m[i].mem >= E1 && m[i].mem <= E5) || \
	(m[i].mem >= K1 && m[i].mem <= K5))
#ifdef M_STOP_FORGETS
#define NEEDS(i, x) (INJ(i) && m[i].seg == x)
#else
#define NEEDS(i, x) (m[i].seg == x && (INJ(i) || LIVE(i)))
#endif
#define FREE(x) (s[x].mine && !s[x].bad && x != now && \
	!NEEDS(0, x) && !NEEDS(1, x))

/* A recipient that was not delivered is still to be found. */
#define SAFE(i) (m[i].told != OK || m[i].had == ALL || \
	(COMPLETE(i) && ((m[i].fst | m[i].had) == m[i].had)) || \
	(!COMPLETE(i) && LIVE(i) && ((m[i].rst | m[i].had) == m[i].had)))

#define JOURNALLED(i) (m[i].mem == AJ || (m[i].mem >= E1 && m[i].mem <= E5))
#define ACTIVE(i) (m[i].mem == A || JOURNALLED(i) || m[i].mem == E6)

inline sync_seg(x) {
	s[x].depoch = s[x].epoch;
	if :: m[0].seg == x -> m[0].drec = m[0].rec; m[0].drst = m[0].rst;
		m[0].dmv = m[0].mv
	   :: else fi;
	if :: m[1].seg == x -> m[1].drec = m[1].rec; m[1].drst = m[1].rst;
		m[1].dmv = m[1].mv
	   :: else fi
}

inline sync_dir(d) {
	if :: m[0].loc == d || m[0].src == d ->
		m[0].dloc = BIT(m[0].loc); m[0].src = NO; m[0].stale = false
	   :: else fi;
	if :: m[1].loc == d || m[1].src == d ->
		m[1].dloc = BIT(m[1].loc); m[1].src = NO; m[1].stale = false
	   :: else fi
}

inline move(i, to) {
	m[i].src = m[i].loc; m[i].loc = to;
	m[i].dloc = m[i].dloc | BIT(to)
}

/* A file of this name, empty; there may have been one before. */
inline make(i) {
	if :: m[i].loc != NO || (m[i].dloc & BIT(INC)) ->
		m[i].stale = true
	   :: else fi;
	m[i].src = NO;
	m[i].loc = INC; m[i].dloc = m[i].dloc | BIT(INC) | BIT(NO);
	m[i].whole = false; m[i].dwhole = false;
	m[i].fst = 0; m[i].dfst = 0
}

inline write(i, status) {
	m[i].whole = true; m[i].fst = status
}

inline sync_file(i) {
	m[i].dwhole = m[i].whole; m[i].dfst = m[i].fst
}

inline finish_record(i) {
#ifdef M_MOVED_IS_DONE
	m[i].rst = ALL
#else
	m[i].mv = true
#endif
}

/* There is no such record any more. */
inline void_record(i) {
	m[i].rec = false; m[i].drec = false; m[i].seg = 0; m[i].epoch = 0;
	m[i].rst = 0; m[i].drst = 0; m[i].mv = false; m[i].dmv = false
}

/* Out of memory, and out of what only memory holds. */
inline forget(i) {
	m[i].mem = OUT; m[i].done = 0; m[i].copy = 0;
	m[i].up[0] = 0; m[i].up[1] = 0
}

/* A recipient is done: where its mark goes. */
inline mark(i) {
	if :: JOURNALLED(i) -> m[i].rst = m[i].rst | m[i].done
	   :: else -> m[i].fst = m[i].fst | m[i].done
	fi
}

inline accepted(i, r) {
	assert((m[i].knew & BIT(r)) == 0);	/* twice without excuse */
	assert(m[i].told == OK || m[i].told == LOST);
	m[i].had = m[i].had | BIT(r)
}

inline seal(i, to) {
	m[i].mem = to; m[i].told = OK; m[i].done = 0
}

inline new_group(i, x) {
	m[i].rec = true; m[i].drec = false; m[i].seg = x;
	m[i].epoch = s[x].epoch; m[i].rst = 0; m[i].drst = 0;
	m[i].mv = false; m[i].dmv = false;
	m[i].mem = J2
}

#define INFILE(i) (m[i].mem == A || m[i].mem == E6 || m[i].mem == D1 || \
	m[i].mem == D2)
#define IDLE(i) (m[i].up[0] != 1 && m[i].up[0] != 2 && \
	m[i].up[1] != 1 && m[i].up[1] != 2)
#define TRIED(i, r) ((m[i].done & BIT(r)) || m[i].up[r] == 3 || r >= RCPTS)

proctype message(byte i) {
end:	do
	/* -- the way in -- */
	:: d_step { !recovering && m[i].mem == OUT && m[i].told == NOTHING &&
		m[i].loc == NO && !m[i].rec -> m[i].mem = W }
	:: d_step { m[i].mem == W -> m[i].mem = J1 }
	:: d_step { m[i].mem == W -> make(i); m[i].mem = F1 }
	/* journal */
	:: d_step { m[i].mem == J1 && now != 9 && !s[now].bad ->
		new_group(i, now);
#ifdef M_250_EARLY
		m[i].told = OK
#endif
	}
	:: d_step { m[i].mem == J2 && !s[m[i].seg].bad ->
		sync_seg(m[i].seg); seal(i, AJ) }
	/* it fails: voided, and the file's way; whether it is on disk or not */
	:: d_step { m[i].mem == J2 && m[i].told == NOTHING ->
		s[m[i].seg].bad = true;
		if :: now == m[i].seg -> now = 9 :: else fi;
#ifndef M_NO_VOID
		finish_record(i);
		sync_seg(m[i].seg);
#endif
		m[i].mem = X1 }
	:: d_step { m[i].mem == X1 -> make(i); m[i].mem = F1 }
	:: d_step { m[i].mem == J1 -> make(i); m[i].mem = F1 }
	/* file */
	:: d_step { m[i].mem == F1 -> write(i, 0); m[i].mem = F2 }
	:: d_step { m[i].mem == F2 ->
#ifndef M_NO_FSYNC
		sync_file(i);
#endif
		m[i].mem = F3 }
	:: d_step { m[i].mem == F3 ->
#ifndef M_NO_DIRSYNC
		sync_dir(INC);
#endif
		seal(i, A) }
	/* one of these fails */
	:: d_step { m[i].mem >= F1 && m[i].mem <= F3 ->
		m[i].whole = false; move(i, NO);
#ifndef M_REFUSED_STAYS
		sync_dir(INC);
#endif
		forget(i); m[i].told = REFUSED }

	/* -- delivery -- */
	:: d_step { m[i].mem == A && m[i].loc != ACT && m[i].loc != NO ->
		move(i, ACT) }
	:: d_step { ACTIVE(i) && !stopping && !TRIED(i, 0) && m[i].up[0] == 0 ->
		m[i].up[0] = 1 }
	:: d_step { ACTIVE(i) && !stopping && !TRIED(i, 1) && m[i].up[1] == 0 ->
		m[i].up[1] = 1 }
	:: d_step { m[i].up[0] == 1 -> accepted(i, 0); m[i].up[0] = 2 }
	:: d_step { m[i].up[1] == 1 -> accepted(i, 1); m[i].up[1] = 2 }
	:: d_step { m[i].up[0] == 1 -> m[i].up[0] = 3 }
	:: d_step { m[i].up[1] == 1 -> m[i].up[1] = 3 }
	:: d_step { m[i].up[0] == 2 -> m[i].up[0] = 0;
		m[i].done = m[i].done | 1; mark(i);
		m[i].knew = m[i].knew | 1; m[i].due = m[i].due | 1 }
	:: d_step { m[i].up[1] == 2 -> m[i].up[1] = 0;
		m[i].done = m[i].done | 2; mark(i);
		m[i].knew = m[i].knew | 2; m[i].due = m[i].due | 2 }

	/* -- the end of an attempt -- */
	:: d_step { m[i].mem == AJ && m[i].done == ALL -> forget(i) }
	:: d_step { m[i].mem == A && m[i].done == ALL && m[i].loc == ACT ->
		move(i, NO); forget(i) }
	/* from a file to deferred */
	:: d_step { m[i].mem == A && m[i].loc == ACT && IDLE(i) &&
		TRIED(i, 0) && TRIED(i, 1) && m[i].done != ALL ->
		m[i].fst = m[i].fst | m[i].done; m[i].mem = D1 }
	:: d_step { m[i].mem == D1 -> sync_file(i); m[i].mem = D2 }
	:: d_step { m[i].mem == D2 -> move(i, DEF); forget(i) }
	/* from the journal to deferred */
	:: d_step { m[i].mem == AJ && IDLE(i) && TRIED(i, 0) && TRIED(i, 1) &&
		m[i].done != ALL -> make(i); m[i].mem = K1 }
	:: d_step { m[i].mem == K1 -> write(i, m[i].done); m[i].mem = K2;
#ifdef M_DEFER_EARLY
		finish_record(i)
#endif
	}
	:: d_step { m[i].mem == K2 -> sync_file(i); m[i].mem = K3 }
	:: d_step { m[i].mem == K3 ->
#ifndef M_DEFER_NO_DIRSYNC
		sync_dir(INC);
#endif
		m[i].mem = K4 }
	:: d_step { m[i].mem == K4 -> move(i, DEF); m[i].mem = K5 }
	:: d_step { m[i].mem == K5 -> finish_record(i); forget(i) }
	/* back from deferred */
	:: d_step { !recovering && !stopping && m[i].mem == OUT &&
		m[i].loc == DEF && m[i].whole ->
		move(i, ACT); m[i].done = m[i].fst; m[i].mem = A }

	/* -- from the journal to a file: its segment is needed -- */
	:: d_step { m[i].mem == AJ ->
		m[i].copy = m[i].done; make(i); m[i].mem = E1 }
	:: d_step { m[i].mem == E1 -> write(i, m[i].copy); m[i].mem = E2;
#ifdef M_EVICT_EARLY
		finish_record(i)
#endif
	}
	:: d_step { m[i].mem == E2 -> sync_file(i); m[i].mem = E3 }
	:: d_step { m[i].mem == E3 -> sync_dir(INC); m[i].mem = E4 }
	/* marks that were made meanwhile, until none is new */
	:: d_step { m[i].mem == E4 && m[i].copy != m[i].done ->
		m[i].copy = m[i].done; m[i].fst = m[i].fst | m[i].copy;
		m[i].mem = E5 }
	:: d_step { m[i].mem == E5 ->
#ifndef M_EVICT_MARKS_UNSYNCED
		sync_file(i);
#endif
		m[i].mem = E4 }
	:: d_step { m[i].mem == E4 && m[i].copy == m[i].done ->
		finish_record(i); m[i].mem = E6 }
	:: d_step { m[i].mem == E6 -> move(i, ACT); m[i].mem = A }

	/* -- an orderly end: what is in the journal stays there -- */
	:: d_step { stopping && m[i].mem == AJ && m[i].up[0] != 1 &&
		m[i].up[0] != 2 && m[i].up[1] != 1 && m[i].up[1] != 2 ->
		forget(i) }

	/* -- start: what is not mail goes, what was active goes on -- */
	:: d_step { !recovering && m[i].mem == OUT && m[i].loc == INC &&
#ifdef M_NO_END_RECORD
		false
#else
		!m[i].whole
#endif
		-> assert(SAFE(i)); move(i, NO) }
	:: d_step { !recovering && !stopping && m[i].mem == OUT &&
		(m[i].loc == INC || m[i].loc == ACT) &&
#ifdef M_NO_END_RECORD
		true
#else
		m[i].whole
#endif
		-> assert(m[i].whole);	/* no incomplete file is mail */
		m[i].done = m[i].fst; m[i].mem = A }

	/* -- recovery of a record -- */
	:: d_step { recovering && m[i].mem == OUT && KNOWS(i) &&
		(LIVE(i) || COMPLETE(i)) ->
		if :: COMPLETE(i) ->
			/* The file counts, with what the record knows. */
#ifndef M_NO_MERGE
			m[i].fst = m[i].fst | m[i].rst;
#endif
#ifndef M_TRUST_CACHE
			sync_file(i); sync_dir(m[i].loc);
#endif
			m[i].mem = R4
		   :: else -> make(i); m[i].mem = R1
		fi }
	:: d_step { m[i].mem == R1 -> write(i, m[i].rst); m[i].mem = R2 }
	:: d_step { m[i].mem == R2 -> sync_file(i); m[i].mem = R3 }
	:: d_step { m[i].mem == R3 -> sync_dir(INC); m[i].mem = R4 }
	od
}

inline reset_seg(x) {
	s[x].epoch = s[x].epoch + 1;
	sync_seg(x);
	now = x
}

inline create_seg(x) {
	s[x].there = true; s[x].mine = true; s[x].bad = false;
	s[x].epoch = 1; s[x].depoch = 1;
#ifdef M_SEGMENT_UNSYNCED
	s[x].dthere = 3;
#else
	s[x].dthere = 2;
#endif
	now = x
}

/* Remove a segment that an earlier process left. */
#ifdef M_FINISHED_SKIPPED
#define WORK(i) LIVE(i)
#else
#define WORK(i) (LIVE(i) || (KNOWS(i) && COMPLETE(i)))
#endif
#ifdef M_SEGMENT_REMOVED_EARLY
#define SETTLED(i, x) (m[i].seg != x || !WORK(i) || m[i].mem == R4 || \
	m[i].mem == R2)
#else
#define SETTLED(i, x) (m[i].seg != x || !WORK(i) || m[i].mem == R4)
#endif
inline remove_seg(x) {
	s[x].there = false;
#ifdef M_REMOVAL_UNSYNCED
	s[x].dthere = s[x].dthere | 1;
#else
	s[x].dthere = 1;
	if :: m[0].seg == x -> void_record(0) :: else fi;
	if :: m[1].seg == x -> void_record(1) :: else fi;
	s[x].epoch = 0; s[x].depoch = 0;
#endif
	s[x].mine = false; s[x].bad = false
}

inline die(i) {
	if :: m[i].mem >= J1 && m[i].mem <= F3 && m[i].told == NOTHING ->
		m[i].told = LOST
	   :: m[i].mem == X1 -> m[i].told = LOST
	   :: else fi;
	if :: m[i].mem == W -> m[i].told = REFUSED :: else fi;
	/* The next process does not know what is not synced yet: the kernel
	 * writes it when it likes. */
	m[i].due = 0;
	forget(i)
}

/* One of two values, bit by bit: what may have got to the disk. */
inline some(cache, disk) {
	if :: (cache & 1) && !(disk & 1) ->
		if :: disk = disk | 1 :: skip fi :: else fi;
	if :: (cache & 2) && !(disk & 2) ->
		if :: disk = disk | 2 :: skip fi :: else fi;
	cache = disk
}

inline power(i) {
	if :: m[i].rec && !m[i].drec ->
		if :: skip :: m[i].rec = false fi :: else fi;
	some(m[i].rst, m[i].drst);
	if :: m[i].mv = m[i].dmv :: skip fi;
	if :: m[i].stale ->
		if :: m[i].dloc = BIT(INC); m[i].whole = false;
			m[i].dwhole = false
		   :: skip
		fi
	   :: else fi;
	if :: m[i].dloc & BIT(NO) -> m[i].loc = NO
	   :: m[i].dloc & BIT(INC) -> m[i].loc = INC
	   :: m[i].dloc & BIT(ACT) -> m[i].loc = ACT
	   :: m[i].dloc & BIT(DEF) -> m[i].loc = DEF
	fi;
	if :: m[i].loc != NO && m[i].whole != m[i].dwhole ->
		if :: m[i].whole = true :: m[i].whole = false fi :: else fi;
	some(m[i].fst, m[i].dfst);
	if :: m[i].loc == NO -> m[i].whole = false; m[i].fst = 0 :: else fi;
	m[i].dloc = BIT(m[i].loc); m[i].dwhole = m[i].whole;
	m[i].dfst = m[i].fst; m[i].drec = m[i].rec; m[i].drst = m[i].rst;
	m[i].dmv = m[i].mv;
	m[i].src = NO; m[i].stale = false;
	/* An incomplete file is never where only renames bring one, unless
	 * nobody was promised anything. */
	assert(m[i].loc < ACT || m[i].whole || m[i].told != OK)
}

inline power_seg(x) {
	if :: s[x].dthere & 1 -> s[x].there = false
	   :: s[x].dthere & 2 -> s[x].there = true
	fi;
	s[x].dthere = (s[x].there -> 2 : 1);
	if :: s[x].epoch = s[x].depoch :: skip fi;
	s[x].depoch = s[x].epoch
}

inline tidy(i) {
	/* What the segment is no more is no record. */
	if :: !VALID(i) -> void_record(i) :: else fi
}

/* What nobody can see any more is the same whatever it was. */
inline settle(i) {
	if :: m[i].rec && m[i].drec && (m[i].drst == ALL || m[i].dmv) &&
		!INJ(i) && (m[i].rst == 0 || m[i].dloc == BIT(NO)) &&
		!m[i].stale -> void_record(i)
	   :: else fi;
	if :: m[i].loc == NO && m[i].dloc == BIT(NO) && !m[i].stale ->
		m[i].src = NO; m[i].whole = false; m[i].dwhole = false;
		m[i].fst = 0; m[i].dfst = 0
	   :: else fi
}

inline start_again() {
	s[0].mine = false; s[1].mine = false; s[0].bad = false;
	s[1].bad = false; now = 9; recovering = true; stopping = false
}

proctype world() {
end:	do
	/* the journal */
	:: d_step { !recovering && !s[0].there && s[0].dthere == 1 &&
		now == 9 -> create_seg(0) }
	:: d_step { !recovering && !s[1].there && s[1].dthere == 1 ->
		create_seg(1) }
#ifdef M_REUSE_LIVE
	:: d_step { !recovering && s[0].mine && now == 1 &&
		s[0].epoch < 2 -> reset_seg(0) }
#else
	:: d_step { !recovering && FREE(0) && s[0].epoch < 2 ->
		reset_seg(0) }
	:: d_step { !recovering && FREE(1) && s[1].epoch < 2 ->
		reset_seg(1) }
#endif
	/* once a second: what was marked becomes durable */
	:: d_step { m[0].due != 0 || m[1].due != 0 ->
		sync_seg(0); sync_seg(1);
#ifndef M_UNLINK_UNSYNCED
		sync_dir(ACT);
#endif
#ifndef M_MARKS_UNSYNCED
		if :: INFILE(0) -> sync_file(0)
		   :: else fi;
		if :: INFILE(1) -> sync_file(1)
		   :: else fi;
#endif
		m[0].sure = m[0].sure | m[0].due; m[0].due = 0;
		m[1].sure = m[1].sure | m[1].due; m[1].due = 0;
		settle(0); settle(1) }
	/* an orderly stop; the process ends when nothing is under way */
	:: d_step { !recovering && !stopping && crashes < CRASHES ->
		stopping = true }
	:: d_step { stopping && IDLE(0) && IDLE(1) &&
		!(m[0].mem >= J1 && m[0].mem <= F3) &&
		!(m[1].mem >= J1 && m[1].mem <= F3) &&
		m[0].mem != X1 && m[1].mem != X1 &&
		m[0].mem < E1 && m[1].mem < E1 ->
		die(0); die(1); crashes++; start_again();
		assert(SAFE(0)); assert(SAFE(1)) }
	/* kill -9 */
	:: d_step { crashes < CRASHES -> crashes++;
		die(0); die(1); start_again();
		assert(SAFE(0)); assert(SAFE(1)) }
	/* the power fails */
	:: atomic { crashes < CRASHES -> crashes++;
		die(0); die(1);
		power_seg(0); power_seg(1); power(0); power(1);
		tidy(0); tidy(1); settle(0); settle(1);
		/* Only what a tick has seen is sure to stay done. */
		m[0].knew = m[0].sure; m[1].knew = m[1].sure;
		start_again();
		assert(SAFE(0)); assert(SAFE(1)) }
	/* recovery: first the segments, then the directories */
	:: d_step { recovering && s[0].there && SETTLED(0, 0) &&
		SETTLED(1, 0) -> remove_seg(0) }
	:: d_step { recovering && s[1].there && SETTLED(0, 1) &&
		SETTLED(1, 1) -> remove_seg(1) }
	:: d_step { recovering && !s[0].there && !s[1].there ->
		recovering = false;
		if :: m[0].mem == R4 -> m[0].mem = OUT :: else fi;
		if :: m[1].mem == R4 -> m[1].mem = OUT :: else fi }
	/* nothing else can happen: then all that was promised has arrived */
	:: timeout -> assert(m[0].told != OK || m[0].had == ALL);
		assert(m[1].told != OK || m[1].had == ALL);
		break
	od
}

init {
	atomic {
		m[0].dloc = BIT(NO); m[1].dloc = BIT(NO);
		s[0].dthere = 1; s[1].dthere = 1;
		run message(0); run world();
#ifndef ONE
		run message(1)
#endif
	}
}
