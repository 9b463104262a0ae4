/*
 * The pool: a few threads that wait for the disk so that qmgr does not.  A
 * job's work() runs in a thread and touches nothing but the job; done() runs
 * later in the event loop.  The job is embedded in its owner, which keeps it
 * alive until done() was called; there is no way to cancel one.
 */
#ifndef QUEUE_SPOOL_POOL_H
#define QUEUE_SPOOL_POOL_H

struct pool_job {
	void (*work)(struct pool_job *j);
	void (*done)(struct pool_job *j);
	struct pool_job *next;
};

/* Starts the threads; once, in the jail.  idle is called when the last job
 * that was submitted is done. */
void pool_start(unsigned threads, void (*idle)(void));
void pool_submit(struct pool_job *j);
/* Jobs submitted and not done yet. */
unsigned pool_pending(void);

#endif
