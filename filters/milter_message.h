/*
 * A message at the end of its SMTP session's transaction: it is shown to each
 * filter in turn, with what those before changed; what comes of it goes back
 * to qmgr as a judgement, and a new text if a filter replaced the body.
 */
#ifndef FILTERS_MILTER_MESSAGE_H
#define FILTERS_MILTER_MESSAGE_H

#include "filters/milter_session.h"
#include "lib/chan.h"

/* milter_header_checks.  False after a report. */
bool milter_messages_load(const struct conf *cf, table_report *report,
    void *arg);

/* The message of MSG_MILTER_MAIL: one of the functions below ends it, later or
 * at once.  NULL: the sender broke the rules. */
struct milter_job *milter_job_new(struct chan *qmgr, struct chan_in *in,
    pid_t *ret_pid, uint32_t *ret_session, uint32_t *ret_events);
/* own_session: it is released with the job. */
void milter_job_begin(struct milter_job *j, struct milter_session *s,
    bool own_session);
/* No session brought it: filters are told one that could have. */
void milter_job_simulate(struct milter_job *j, const struct milter_set *set,
    const struct milter_list *list);
/* No filter is to be asked: as it was. */
void milter_job_pass(struct milter_job *j);
/* The session is gone, or a table failed. */
void milter_job_fail(struct milter_job *j);
/* Its qmgr is gone. */
void milter_jobs_orphan(const struct chan *qmgr);
unsigned milter_jobs(void);
/* soft_mode: what was only said about messages. */
uint64_t milter_softened(void);

#endif
