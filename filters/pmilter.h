/*
 * postern-milter: the content filter for a mail server that speaks the milter
 * protocol.  Two programs:
 *
 * sbin/postern-milter (pmilter_keeper*.c) is what the administrator starts.
 * It reads the configuration, starts the processes below, starts new filters
 * when a rule changes, and sees no mail.
 *
 * libexec/pmilter (the others) is libmilter's: a thread for each connection of
 * the mail server, which puts the message together.  It is the queue manager
 * of the processes that judge, which are the gateway's own filter role: what
 * applies rules has no threads, and is locked in and replaced as there.
 *
 * In pmilter the first thread runs the event loop, and alone has the channels
 * and the log.  A session hands it a job and waits.
 */
#ifndef FILTERS_PMILTER_H
#define FILTERS_PMILTER_H

#include <pthread.h>
#include <sys/queue.h>

#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/envelope.h"
#include "lib/role.h"
#include "rules/policy_actions.h"
#include "rules/verdict.h"

/* What is done about a verdict (-m). */
enum pmilter_mode { MODE_NONE = 0, MODE_REJECT, MODE_TAG, MODE_QUARANTINE };
bool pmilter_mode_parse(const char *word, enum pmilter_mode *ret);

/* What keeper tells pmilter beyond main.cf: the service name of INIT is
 * "MODE SOCKET-MODE SOCKET-GROUP SOCKET". */
struct pmilter_start {
	enum pmilter_mode mode;
	int64_t socket_mode;	/* of a unix: socket; -1: as umask says */
	char group[64];		/* "": the one it gets */
	char socket[256];	/* as libmilter writes it */
};
bool pmilter_start_put(struct buf *b, const struct pmilter_start *s);
bool pmilter_start_get(struct view text, struct pmilter_start *ret);
/* The path of a unix: or local: socket; NULL: another kind. */
const char *pmilter_socket_path(const char *socket);

/*
 * One judgement for all recipients: a mail server has one copy.  Where classes
 * of recipients (filter_policy_maps) disagree the strictest counts.
 */
struct pmilter_answer {
	struct judgement j;
	uint32_t *drop;		/* recipients whose class says DISCARD */
	uint32_t n_drop;
	bool mixed;		/* not all would have got this */
};
/*
 * parts: the n of MSG_FILTERED.  a holds what *ret points to, besides parts;
 * it needs room for PARTS_MEMORY().  False: no such answer is allowed.
 */
#define PARTS_MEMORY(parts, nrcpts)					\
	((parts) * 48 + (size_t)(nrcpts) * 16 + 262144)
bool pmilter_merge(struct view parts, uint32_t n, uint32_t nrcpts,
    uint64_t text_size, struct arena *a, struct pmilter_answer *ret);

/* What a session wants the loop to find out, and waits for. */
struct pmilter_task {
	void (*take)(struct pmilter_task *t);	/* called in the loop */
	bool done;
	pthread_cond_t cond;
	TAILQ_ENTRY(pmilter_task) link;	/* the loop's, once it is taken */
	uint64_t id;
	struct mono since;
};

/* A message that is to be judged; the session's. */
struct pmilter_job {
	struct pmilter_task task;	/* first */
	int fd;				/* sealed */
	uint64_t size;
	struct view envelope;
	uint32_t nrcpts;
	char name[MESSAGE_NAME];
	/* The answer: of a filter if judged, else only a verdict. */
	bool judged;
	struct pmilter_answer answer;
	struct arena *arena;	/* of answer; the session frees both */
	char *parts;
	bool waits;			/* for a table; the loop's */
};

/* What restrictions say at a stage; the session's. */
struct pmilter_question {
	struct pmilter_task task;	/* first */
	struct view encoded;		/* policy_question_put() */
	/* The answer, if answered; trial: nothing is refused. */
	bool answered, trial;
	struct policy_result *result;
};

/* -- between threads (pmilter_hand.c) -------------------------------------- */

/* Before the jail and before there are threads. */
void pmilter_hand_init(void);
/* Session: wait until it is done; progress(), if not NULL, is called now and
 * then, and may take its time. */
void pmilter_hand_over(struct pmilter_task *t, void (*progress)(void *arg),
    void *arg);
/* Session: a line for the log, mem_alloc()ed and given away. */
void pmilter_note(bool warn, char *text);
/* Session: it has begun a message, or ended it; false: we are stopping. */
bool pmilter_busy(bool begins);
/* Loop: each new task is given to its take(); lines are logged.  ended(): it
 * serves no more. */
void pmilter_hand_start(void (*ended)(void));
/* Loop: t has its answer and is its session's again. */
void pmilter_hand_back(struct pmilter_task *t);
/* Session: libmilter serves no more. */
void pmilter_hand_ended(void);
/* Loop: no message may begin any more; idle() once none is under way, with the
 * time when the last one ended. */
void pmilter_hand_stop(void (*idle)(struct mono answered));

/* -- judging (pmilter_judge.c), the loop's --------------------------------- */

void pmilter_judge_init(const struct conf *cf);
void pmilter_judge_take(struct pmilter_task *t);
void pmilter_judge_peer(const struct role_peer *peer, int fd);
void pmilter_judge_status(struct buf *b);

/* -- restrictions (pmilter_policy.c), the loop's --------------------------- */

void pmilter_policy_init(const struct conf *cf);
void pmilter_policy_take(struct pmilter_task *t);
void pmilter_policy_peer(const struct role_peer *peer, int fd);
void pmilter_policy_status(struct buf *b);

/* -- sessions (pmilter_session.c, pmilter_reply.c), libmilter's ------------ */

/* Make the socket: before the jail.  Fatal if it cannot. */
void pmilter_session_open(const struct conf *cf,
    const struct pmilter_start *s);
/* Serve it, in a thread of its own. */
void pmilter_session_start(void);

/*
 * What a session is told about (pmilter_reply.c).  ctx is libmilter's; all
 * texts live as long as the call.
 */
struct pmilter_text;
struct pmilter_told {
	enum pmilter_mode mode;
	const struct conf *cf;
	unsigned long actions;	/* SMFIF_*: the server allows that */
	bool space;			/* header values have their blanks */
	uint32_t forged;		/* headers that say they are ours */
	const struct pmilter_text *text;
	const struct envelope *env;
	char **rcpts;			/* as the server wrote them */
	const char *name;
};
struct smfi_str;
/* Tell the mail server what becomes of the message; an SMFIS_ value. */
int pmilter_reply(struct smfi_str *ctx, const struct pmilter_told *m,
    const struct pmilter_answer *a);
/* Refuse with these words, at any stage but the connection's. */
int pmilter_reply_code(struct smfi_str *ctx, unsigned code,
    struct view status, struct view text);
/* The same for a message that could not be judged. */
int pmilter_reply_failure(struct smfi_str *ctx, const struct pmilter_told *m,
    unsigned code, const char *status, const char *text);
/* Of the mode in which nothing is changed. */
#define PMILTER_TAG	"X-Postern"

#endif
