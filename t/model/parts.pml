/*
 * A message that is stored as several files ("Parts" in queue/STATES.md): a
 * leader and a part, written by one queue manager and looked at by the next,
 * which may come after a crash or while the first one still works.  Threads of
 * a pool read and write; any of their steps may come between any others.
 *
 * What must hold (the assertions): after 250 both are delivered or in hold/,
 * after 451 neither is, and if the client heard nothing both or neither; no
 * complete file is taken for a damaged one, and no incomplete one for mail.
 *
 * CRASHES: the most kills and power cuts.  Every -DM_... is a mistake that the
 * properties must find.
 */
#ifndef CRASHES
#define CRASHES 2
#endif

#define L 0		/* the leader */
#define P 1		/* its part */

/* directories */
#define NO 0
#define INC 1
#define ACT 2
#define HOLD 3
#define BIT(d) (1 << (d))

/* modes */
#define PLAIN 0		/* 0600 */
#define WAITS 1		/* 0601 */
#define MARKED 2	/* 0700 */

/* what the client heard */
#define NOTHING 0
#define OK 1		/* 250 */
#define REFUSED 2	/* 451 */
#define LOST 3		/* nothing, and it will come again */
byte told = NOTHING;

typedef File {
	byte loc, src, dloc;	/* as in states.pml */
	byte mode, dmode;
	bool whole, dwhole;
	bool had;		/* delivered */
	bool works;		/* in active memory: settled */
	bool busy;		/* the older one has it */
	bool left;		/* not looked at before that is gone */
	bool early;		/* it was there when the reading began */
	byte load;		/* see below */
};
File f[2];

byte seal = 0;		/* step of the first queue manager's thread */
bool handed = false;	/* the next one reads, too */
bool older = true;	/* the first one lives */
byte crashes = 0;
bool calm = false;	/* no more crashes */
bool cut = false;	/* the power failed */
bool undone = false;	/* it was not stored, and is removed */

/* A part is settled by who seals it, by who reads the leader, and by who reads
 * the part. */
#define SEALER 0
#define LEADER 1
#define PART 2
byte settle[3];		/* 0: not; else its step */
bool in_hold[3];

/* reading a file */
#define NONE 0
#define READ 1		/* spool_read() comes */
#define BAD 2		/* it was not complete: is it a part that waits? */
#define AGAIN 3		/* it is none: read once more */
#define ASKS 4		/* it is one: back in the main loop */
#define WHOSE 5		/* is its leader complete? */
#define SETTLES 6	/* it is: settled here */
#define SETTLED 7
#define LEADS 8		/* complete, its part is settled first */
#define FINE 9		/* complete */
#define DAMAGED 10	/* not complete */

#define COMPLETE(x) (f[x].loc != NO && f[x].whole && f[x].mode == MARKED)
#define GOOD(x) (f[x].had || COMPLETE(x))
#define KNOWN(x) (f[x].load != NONE || f[x].works || f[x].busy || \
	(older && !handed && seal != 0))
#define READS (handed || !older)

inline move(x, to) {
	f[x].src = f[x].loc; f[x].loc = to; f[x].dloc = f[x].dloc | BIT(to)
}

inline make(x, to) {
	f[x].loc = to; f[x].src = NO; f[x].dloc = BIT(NO) | BIT(to);
	f[x].whole = false; f[x].dwhole = false;
	f[x].mode = PLAIN; f[x].dmode = PLAIN
}

inline sync_file(x) {
	f[x].dwhole = f[x].whole; f[x].dmode = f[x].mode
}

/* hash_queue_names: each may be in a directory of its own below d. */
inline sync_dir(x, d) {
	if :: f[x].loc == d || f[x].src == d ->
		f[x].dloc = BIT(f[x].loc); f[x].src = NO
	   :: else fi
}

byte held;		/* 1 the part goes to hold/, 2 both do */
#define LEADER_GOES (held == 2 -> HOLD : INC)

/* One thread settles the part; after the last step settle[] is 9. */
proctype settler(byte who) {
end:	do
	:: d_step { settle[who] == 1 ->
		in_hold[who] = (f[P].loc == HOLD);
		if
		:: f[P].loc != INC && f[P].loc != HOLD -> settle[who] = 9
		:: f[P].mode != WAITS &&
			(f[P].loc == INC || f[P].loc == HOLD) ->
			settle[who] = 9
		:: else -> settle[who] = (held > 0 && !in_hold[who] -> 2 : 4)
		fi }
	:: d_step { settle[who] == 2 ->
		if :: f[P].loc == INC -> move(P, HOLD); settle[who] = 3
#ifdef M_MOVED_IS_SETTLED
		   :: else -> settle[who] = 9
#else
		   /* another one was first */
		   :: else -> settle[who] = 3
#endif
		fi;
		in_hold[who] = true }
	:: d_step { settle[who] == 3 -> sync_dir(P, INC); settle[who] = 4 }
	:: d_step { settle[who] == 4 ->
		if :: f[P].loc != NO && f[P].mode == WAITS ->
			f[P].mode = MARKED
		   :: else fi;
		settle[who] = 5 }
	:: d_step { settle[who] == 5 ->
#ifndef M_MARK_UNSYNCED
		sync_file(P);
#endif
		settle[who] = 6 }
	:: d_step { settle[who] == 6 ->
		if :: in_hold[who] -> sync_dir(P, HOLD)
		   :: else -> sync_dir(P, INC) fi;
		settle[who] = 9 }
	od
}

/* It has done with both. */
inline take() {
	f[L].busy = false; f[P].busy = false;
	f[L].left = false; f[P].left = false
}

/* The first queue manager: split_work() in queue/qmgr_split.c. */
proctype sealer() {
end:	do
	:: d_step { older && seal == 0 && told == NOTHING -> seal = 1 }
	:: d_step { seal == 1 -> make(P, INC); seal = 2 }
	:: d_step { seal == 2 -> f[P].whole = true; seal = 3 }
	:: d_step { seal == 3 ->
#ifdef M_PART_MARKED
		f[P].mode = MARKED;
#else
		f[P].mode = WAITS;
#endif
		seal = 4 }
	:: d_step { seal == 4 ->
#ifndef M_PART_UNSYNCED
		sync_file(P);
#endif
		seal = 5 }
	:: d_step { seal == 5 ->
#ifndef M_PART_NO_DIRSYNC
		sync_dir(P, INC);
#endif
		seal = 6 }
	:: d_step { seal == 6 -> make(L, LEADER_GOES); seal = 7 }
	:: d_step { seal == 7 -> f[L].whole = true; seal = 8 }
	:: d_step { seal == 8 -> f[L].mode = MARKED; seal = 9 }
	:: d_step { seal == 9 -> sync_file(L); seal = 10 }
	:: d_step { seal == 10 -> sync_dir(L, LEADER_GOES);
#ifdef M_NOT_SETTLED
		seal = 12
#else
		settle[SEALER] = 1; seal = 11
#endif
	}
	:: d_step { seal == 11 && settle[SEALER] == 9 ->
		settle[SEALER] = 0; seal = 12 }
	:: d_step { seal == 12 -> told = OK;
		if :: handed -> take()
		   :: else -> f[L].works = (f[L].loc == INC);
			f[P].works = (f[P].loc == INC) fi;
		seal = 20 }
	/* one of these fails */
	:: d_step { seal >= 2 && seal <= 5 -> seal = 15;
		undone = true }
	:: d_step { seal >= 7 && seal <= 10 -> seal = 13;
		undone = true }
	:: d_step { seal == 11 && settle[SEALER] > 1 && settle[SEALER] < 9 ->
		settle[SEALER] = 0; seal = 13; undone = true }
	:: d_step { seal == 13 ->
		if :: f[L].loc != NO -> move(L, NO) :: else fi; seal = 14 }
	:: d_step { seal == 14 -> sync_dir(L, LEADER_GOES); seal = 15 }
	:: d_step { seal == 15 ->
		if :: f[P].loc != NO -> move(P, NO) :: else fi; seal = 16 }
	:: d_step { seal == 16 ->
#ifndef M_REFUSED_STAYS
		sync_dir(P, INC); sync_dir(P, HOLD);
#endif
		told = REFUSED; take(); seal = 20 }
	od
}

/* A file in incoming/ that a queue manager has found. */
proctype reader(byte x) {
end:	do
	:: d_step { READS && f[x].loc == INC && !KNOWN(x) && !f[x].left ->
#ifndef M_OLDER_FORGOTTEN
		f[x].early = older;
#endif
		f[x].load = READ }
	/* intake_load_work() in queue/qmgr_intake.c */
	:: d_step { f[x].load == READ ->
		if
		:: f[x].loc != INC -> f[x].load = NONE
		:: f[x].loc == INC && COMPLETE(x) && x == L ->
			f[x].load = LEADS;
#ifdef M_LEADER_GOES_ON
			settle[LEADER] = 9
#else
			settle[LEADER] = 1
#endif
		:: f[x].loc == INC && COMPLETE(x) && x == P -> f[x].load = FINE
		:: else -> f[x].load = BAD
		fi }
	:: d_step { f[x].load == BAD ->
		if
		:: x == P && f[x].loc == INC && f[x].mode == WAITS &&
			f[x].whole -> f[x].load = ASKS
#ifdef M_ONE_LOOK
		:: else -> f[x].load = DAMAGED
#else
		:: else -> f[x].load = AGAIN
#endif
		fi }
	:: d_step { f[x].load == AGAIN ->
		if
		:: f[x].loc != INC -> f[x].load = NONE
		:: f[x].loc == INC && COMPLETE(x) && x == L ->
			f[x].load = LEADS; settle[LEADER] = 1
		:: f[x].loc == INC && COMPLETE(x) && x == P -> f[x].load = FINE
		:: else -> f[x].load = DAMAGED
		fi }
	:: d_step { f[x].load == LEADS && settle[LEADER] == 9 ->
		settle[LEADER] = 0; f[x].load = FINE }
	/* intake_part(): where the leader is known it settles its part, and
	 * that is found again */
	:: d_step { f[x].load == ASKS && KNOWN(L) -> f[x].load = NONE;
		f[x].left = f[L].busy }
	:: d_step { f[x].load == ASKS && !KNOWN(L) -> f[x].load = WHOSE }
	/* intake_part_work() */
	:: d_step { f[x].load == WHOSE ->
		if
		:: COMPLETE(L) -> f[x].load = SETTLES; settle[PART] = 1
#ifdef M_NO_LEADER_NO_PART
		:: else -> f[x].load = DAMAGED
#else
		/* the leader may have settled it, and be gone */
		:: else -> f[x].load = SETTLED
#endif
		fi }
	:: d_step { f[x].load == SETTLES && settle[PART] == 9 ->
		settle[PART] = 0; f[x].load = SETTLED }
	:: d_step { f[x].load == SETTLED ->
		if
		:: f[x].loc != INC -> f[x].load = NONE
		:: f[x].loc == INC && COMPLETE(x) -> f[x].load = FINE
		:: else -> f[x].load = DAMAGED
		fi }
	/* intake_incomplete(): an older one that lived when it was read may
	 * have been writing it, without having said so; its end is waited for,
	 * then it is read again */
	:: d_step { f[x].load == DAMAGED && f[x].loc == INC && f[x].early ->
		f[x].left = older; f[x].load = NONE }
	:: d_step { f[x].load == DAMAGED && f[x].loc == INC && !f[x].early &&
		f[x].mode == MARKED ->
		assert(!f[x].whole && told != OK);
		move(x, NO); f[x].load = NONE }
	:: d_step { f[x].load == DAMAGED && f[x].loc == INC && !f[x].early &&
		f[x].mode != MARKED ->
		assert(told != OK); move(x, NO); f[x].load = NONE }
	:: d_step { f[x].load == DAMAGED && f[x].loc != INC ->
		f[x].load = NONE }
	/* the older one has not finished all of it */
#ifndef M_PART_TAKEN_EARLY
	:: d_step { f[x].load == FINE && x == P && f[L].busy ->
		f[x].load = NONE; f[x].left = true }
	:: d_step { f[x].load == FINE && !(x == P && f[L].busy) ->
#else
	:: d_step { f[x].load == FINE ->
#endif
		assert(f[x].loc != INC || COMPLETE(x));
		f[x].works = (f[x].loc == INC); f[x].load = NONE }

	/* delivery */
	:: d_step { f[x].works && f[x].loc == INC -> move(x, ACT) }
	:: d_step { f[x].works && f[x].loc == ACT ->
		assert(told != REFUSED && !f[x].had);
		f[x].had = true; move(x, NO); f[x].works = false }
	/* and after a crash */
	:: d_step { READS && f[x].loc == ACT && !KNOWN(x) && COMPLETE(x) ->
		f[x].works = true }
	/* nothing was synced that nobody was promised: to corrupt/ */
	:: d_step { READS && f[x].loc == ACT && !KNOWN(x) && !COMPLETE(x) ->
		assert(told != OK); move(x, NO) }
	od
}

inline forget() {
	f[L].load = NONE; f[P].load = NONE;
	f[L].works = false; f[P].works = false;
	take();
	f[L].early = false; f[P].early = false;
	settle[SEALER] = 0; settle[LEADER] = 0; settle[PART] = 0;
	in_hold[SEALER] = false; in_hold[LEADER] = false;
	in_hold[PART] = false;
	if :: told == NOTHING -> told = LOST :: else fi;
	seal = 20; older = false; handed = false
}

inline power(x) {
	if :: f[x].dloc & BIT(NO) -> f[x].loc = NO
	   :: f[x].dloc & BIT(INC) -> f[x].loc = INC
	   :: f[x].dloc & BIT(ACT) -> f[x].loc = ACT
	   :: f[x].dloc & BIT(HOLD) -> f[x].loc = HOLD
	fi;
	if :: f[x].whole = f[x].dwhole :: skip fi;
	if :: f[x].mode = f[x].dmode :: skip fi;
	f[x].dloc = BIT(f[x].loc); f[x].src = NO;
	f[x].dwhole = f[x].whole; f[x].dmode = f[x].mode;
	/* What was delivered before may come again: RFC 1047. */
	if :: f[x].loc != NO -> f[x].had = false :: else fi
}

proctype world() {
end:	do
	/* What the first one knows is announced, and all of it before the next
	 * one reads. */
	:: d_step { older && !handed && told == NOTHING ->
		handed = true; f[L].busy = true; f[P].busy = (seal >= 1) }
	/* The first one ends: what was left alone is looked at now. */
	:: d_step { handed && older && seal == 20 -> older = false; take() }
	:: d_step { handed && older && seal < 20 && !calm &&
		crashes < CRASHES ->
		crashes++;
		if :: told == NOTHING -> told = LOST :: else fi;
		settle[SEALER] = 0; seal = 20; older = false; take() }
	:: d_step { !calm -> calm = true }
	/* kill -9 */
	:: d_step { !calm && crashes < CRASHES && (seal > 0 || handed) -> crashes++;
		forget() }
	/* the power fails */
	:: atomic { !calm && crashes < CRASHES && (seal > 0 || handed) -> crashes++;
		cut = true; power(L); power(P); forget() }
	/* nothing else can happen */
	:: timeout -> assert(told != OK || (GOOD(L) && GOOD(P)));
		assert(told != REFUSED || (!f[L].had && !f[P].had));
		/* Not promised and not refused: together or not at all, unless
		 * the second crash was a power cut.  What is in hold/ is not
		 * looked at. */
		assert(undone || held == 2 || (cut && crashes > 1) || GOOD(L) == GOOD(P));
		break
	od
}

init {
	atomic {
		if :: held = 0 :: held = 1 :: held = 2 fi;
		f[L].dloc = BIT(NO); f[P].dloc = BIT(NO);
		run sealer(); run world();
		run settler(SEALER); run settler(LEADER); run settler(PART);
		run reader(L); run reader(P)
	}
}
