/*
 * Two queue managers during a reload ("Two queue managers" in
 * queue/STATES.md): the old one says which messages it still works on (BUSY,
 * BUSY_END), then TAKE for each that is settled in its file; the new one reads
 * the directories in any order and at any time.  The old one may die at any
 * step; its locks are gone then, and so is what it kept in memory.
 *
 * One message.  It must not be worked on by both, not be lost, and come twice
 * only if the old one died between its delivery and its mark.
 *
 * Every -DM_... is a mistake that the properties must find.
 */
#define NO 0
#define INC 1		/* incoming, not complete */
#define FILE 2		/* a complete file in some directory */

/* the old one */
#define WRITING 0	/* a slot: not sealed */
#define MAKING 1	/* its file is being made */
#define JOURNAL 2	/* sealed, in the journal */
#define WORKING 3	/* sealed, has its file, is delivered */
#define MOVING 4	/* from the journal to its file */
#define MOVED 5		/* the file is there, the record still live */
#define SETTLED 6	/* all of it is in its file, or it is done */

mtype = { BUSY, BUSY_END, TAKE };
chan c = [4] of { mtype };

byte old = WRITING;
bool old_lives = true, handed = false, told_take = false;
byte file = NO;
bool live = false;		/* record */
bool promised = false;
bool marked = false;		/* D, in file or record */
byte at_hop = 0;		/* 1: a relay has it, 2: taken, not heard of */
bool delivered = false;
bool excused = false;		/* its delivery was under way at a crash */

/* the new one */
bool started = false;		/* BUSY_END, or the old one is gone */
bool busy = false, closed = false, recovered = false;
bool mine = false;		/* it works on the message */
byte rec = 0;	/* recovery: 1 record read, 2 no file, 3 made, 4 is there */

inline deliver() {
	assert(!marked && (!delivered || excused));
	delivered = true;
	at_hop = 2
}

proctype older() {
end:	do
	:: !old_lives -> break
	:: d_step { old_lives && old == WRITING -> old = JOURNAL;
		live = true; promised = true }
	:: d_step { old_lives && old == WRITING -> old = MAKING; file = INC }
	:: d_step { old_lives && old == MAKING -> file = FILE;
		promised = true; old = (handed -> SETTLED : WORKING) }
	/* deliveries begin before the handover only */
	:: d_step { old_lives && !handed && at_hop == 0 && !marked &&
		(old == JOURNAL || old == WORKING) -> at_hop = 1 }
	:: d_step { old_lives && at_hop == 1 && !mine -> deliver() }
	:: d_step { old_lives && at_hop == 1 && !mine -> at_hop = 0 }
	:: d_step { old_lives && at_hop == 2 && !mine -> at_hop = 0;
		marked = true; live = false;
		if :: old == WORKING -> file = NO :: else fi;
		old = SETTLED }
	:: d_step { old_lives && old == JOURNAL && handed && at_hop == 0 ->
		old = MOVING; file = INC }
	:: d_step { old_lives && old == MOVING -> file = FILE; old = MOVED }
	:: d_step { old_lives && old == MOVED -> live = false;
		old = SETTLED }
	:: d_step { old_lives && old == WORKING && handed && at_hop == 0 ->
		old = SETTLED }
	/* the handover */
	:: atomic { old_lives && !handed -> handed = true;
#ifdef M_SLOTS_NOT_ANNOUNCED
		if :: old != SETTLED && old != WRITING && old != MAKING ->
			c ! BUSY
#else
		if :: old != SETTLED -> c ! BUSY
#endif
		   :: else -> told_take = true
		fi;
		c ! BUSY_END }
#ifdef M_TAKE_EARLY
	:: atomic { old_lives && handed && !told_take &&
		(old == SETTLED || old == MOVING) ->
#else
	:: atomic { old_lives && handed && !told_take && old == SETTLED ->
#endif
		told_take = true; c ! TAKE }
	/* kill -9 */
	:: d_step { old_lives -> old_lives = false;
		if :: at_hop == 2 && !mine -> excused = true :: else fi;
		if :: !mine -> at_hop = 0 :: else fi;
		assert(!promised || marked || live || file == FILE) }
	od
}

proctype newer() {
end:	do
	:: atomic { c ? [BUSY] -> c ? BUSY; busy = true }
	:: atomic { c ? [BUSY_END] -> c ? BUSY_END; started = true }
	:: atomic { c ? [TAKE] -> c ? TAKE; busy = false }
	/* the channel closes when all in it was read */
	:: d_step { !old_lives && !closed && empty(c) -> closed = true;
		started = true;
#ifdef M_FREE_BEFORE_RECOVERY
		busy = false
#endif
	}
	/* recovery of the dead one's journal, in another thread */
	:: d_step { closed && rec == 0 && live -> rec = 1 }
	:: d_step { closed && rec == 1 ->
		if :: file == FILE -> rec = 4 :: else -> rec = 2 fi }
	/* what it makes has the marks that the record had then */
	:: d_step { closed && rec == 2 -> rec = 3; file = FILE; marked = false }
	:: d_step { closed && !recovered && (rec >= 3 || !live) ->
		live = false; recovered = true; busy = false }
	/* the walk finds a name */
#ifdef M_BUSY_IGNORED
	:: d_step { started && !mine && file == INC -> file = NO }
	:: d_step { started && !mine && file == FILE && !marked ->
		mine = true }
#else
	:: d_step { started && !busy && !mine && file == INC &&
		rec != 2 -> file = NO }
	:: d_step { started && !busy && !mine && file == FILE && !marked ->
		mine = true }
#endif
	:: d_step { mine && at_hop == 0 && !marked ->
		assert(!old_lives || old == SETTLED || !handed);
		at_hop = 1 }
	:: d_step { mine && at_hop == 1 -> deliver() }
	:: d_step { mine && at_hop == 1 -> at_hop = 0 }
	:: d_step { mine && at_hop == 2 -> at_hop = 0; marked = true;
		file = NO; mine = false }
	:: timeout -> assert(!promised || delivered); break
	od
}

init {
	atomic { run older(); run newer() }
}
