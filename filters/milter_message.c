#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "filters/findings.h"
#include "filters/milter_checks.h"
#include "filters/milter_envelope.h"
#include "filters/milter_mail.h"
#include "filters/milter_message.h"
#include "filters/milter_pool.h"
#include "filters/milter_session_priv.h"
#include "filters/milter_source.h"
#include "lib/address.h"
#include "lib/log.h"
#include "lib/own_addr.h"
#include "lib/write_all.h"
#include "rules/table_remote.h"

#define ENVELOPE_MAX	(CHAN_MSG_MAX - 65536u)
#define ARENA_MAX	(64u << 20)
#define SEALS	(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

struct milter_job {
	TAILQ_ENTRY(milter_job) link;
	struct chan *qmgr;		/* NULL: gone */
	struct queue_id id;
	char name[QUEUE_ID_TEXT];
	struct milter_session *session;
	bool own_session;		/* released with the job */
	bool again;			/* tell the transaction first */
	struct milter_source source;
	char *body;			/* of the message from qmgr: what the
					 * views below point into */
	struct arena *arena;
	struct judgement judged;
	struct envelope envelope;
	bool envelope_changed;
	struct milter_mail *mail;
	struct findings findings;
	struct milter_verdict final;	/* of a filter */
	char *final_text;
	char *quarantine;		/* why it is held; NULL: it is not */
};

static TAILQ_HEAD(, milter_job) jobs = TAILQ_HEAD_INITIALIZER(jobs);
static unsigned n_jobs;
static uint64_t n_softened;
static const struct conf *conf;
static struct rewrite *rewrite;		/* NULL: nothing is rewritten */

/* Recipients that filters add get no copies by the rules for BCC, as with
 * Postfix. */
static bool
load_rewrite(const struct conf *cf, table_report *report, void *arg)
{
	static char always[] = "always_bcc=", sender[] = "sender_bcc_maps=",
	    recipient[] = "recipient_bcc_maps=";
	static char *const without[] = { always, sender, recipient };
	struct netaddr own[OWN_ADDR_MAX];
	size_t before = table_remote_opened();
	struct conf *mine = NULL;
	struct buf text;

	if (!rewrite_configured(cf))
		return true;
	buf_init(&text, 4u << 20);
	if (conf_snapshot(cf, without, 3, &text))
		mine = conf_parse(buf_view(&text), "main.cf",
		    log_report_errors, NULL);
	buf_free(&text);
	if (mine == NULL)
		return false;
	/* It lives as long as the process. */
	rewrite = rewrite_open(mine, own, own_addresses(mine, own,
	    OWN_ADDR_MAX), report, arg);
	if (rewrite == NULL)
		return false;
	if (table_remote_opened() == before)
		return true;
	report(false, "recipients that filters add are not looked up in "
	    "tables behind connections, nor in any other then", arg);
	rewrite_free(&rewrite);
	return true;
}

bool
milter_messages_load(const struct conf *cf, table_report *report, void *arg)
{
	conf = cf;
	if (!load_rewrite(cf, report, arg))
		return false;
	return milter_checks_load(cf, report, arg);
}

uint64_t
milter_softened(void)
{
	return n_softened;
}

unsigned
milter_jobs(void)
{
	return n_jobs;
}

/* -- the log --------------------------------------------------------------- */

static void
job_log_as(const struct milter_job *j, const char *soft, const char *action,
    const char *text, const char *filter)
{
	struct buf b;

	buf_init(&b, 8192);
	(void)buf_printf(&b, "%s: %smilter-%s: END-OF-MESSAGE from %s[%s]: "
	    "%s", j->name, soft, action, log_safe(j->envelope.client_name),
	    log_safe(j->envelope.client_addr), log_safe(view_of(text)));
	milter_log_envelope(&b, &j->envelope);
	if (filter != NULL)
		(void)buf_printf(&b, " milter=%s", filter);
	log_info("%s", buf_cstr(&b));
	buf_free(&b);
}

static void
job_log(const struct milter_job *j, const char *action, const char *text,
    const char *filter)
{
	job_log_as(j, "", action, text, filter);
}

/* soft_mode: that is all that is done. */
static void
job_would(const struct milter_job *j, const char *action, const char *text,
    const char *filter)
{
	job_log_as(j, "soft: would ", action, text, filter);
	n_softened++;
}

static void
job_would_change(const struct milter_job *j, const struct milter_edit *list,
    size_t n, const char *filter)
{
	static const char *const words[] = {
		[MILTER_EDIT_ADD_HEADER] = "header ",
		[MILTER_EDIT_INSERT_HEADER] = "header ",
		[MILTER_EDIT_CHANGE_HEADER] = "header ",
		[MILTER_EDIT_BODY] = "body",
		[MILTER_EDIT_ADD_RCPT] = "recipient ",
		[MILTER_EDIT_DELETE_RCPT] = "recipient ",
		[MILTER_EDIT_FROM] = "sender ",
	};
	struct buf b;
	size_t i;

	buf_init(&b, 1000);
	for (i = 0; i < n; i++)
		(void)buf_printf(&b, "%s%s%s", i > 0 ? ", " : "",
		    words[list[i].kind], log_safe(view_head(list[i].name, 80)));
	job_would(j, "change", buf_cstr(&b), filter);
	buf_free(&b);
}

/* -- the answer ------------------------------------------------------------ */

static void
job_free(struct milter_job *j)
{
	TAILQ_REMOVE(&jobs, j, link);
	n_jobs--;
	milter_source_close(&j->source);
	milter_mail_free(&j->mail);
	findings_free(&j->findings);
	arena_free(&j->arena);
	free(j->body);
	free(j->final_text);
	free(j->quarantine);
	free(j);
}

static struct verdict
refusal(uint16_t code, const char *status, struct view text)
{
	return (struct verdict){ .action = ACTION_REJECT, .code = code,
		.status = view_of(status), .text = text };
}

/* What the filter said: "4.7.1 text" lines; the client gets them as one. */
static struct verdict
job_refusal(const struct milter_job *j)
{
	struct view text = j->final.text, status;
	const char *usual = j->final.code < 500 ? "4.7.1" : "5.7.1";
	size_t n = view_find(text, ' '), i, dots = 0;

	for (i = 0; i < n && (text.p[i] == '.' ||
	    (text.p[i] >= '0' && text.p[i] <= '9')); i++)
		dots += text.p[i] == '.';
	if (i == n && dots == 2 && n >= 5 && n <= 9 && text.n > n) {
		status = view_head(text, n);
		return (struct verdict){ .action = ACTION_REJECT,
			.code = j->final.code, .status = status,
			.text = view_from(text, n + 1) };
	}
	return refusal(j->final.code, usual, text);
}

/* The strongest of what was decided before, by filters, and by
 * milter_header_checks. */
static struct verdict
job_verdict(struct milter_job *j)
{
	const struct verdict *rules = &j->findings.verdict;

	if (j->final.says == MILTER_SAYS_DISCARD || j->session->discard) {
		job_log(j, "discard", "milter triggers DISCARD action",
		    j->final.filter);
		return (struct verdict){ .action = ACTION_DISCARD };
	}
	if (j->final.says != MILTER_SAYS_GO_ON)
		return job_refusal(j);
	if (rules->action == ACTION_REJECT ||
	    rules->action == ACTION_DISCARD)
		return *rules;
	if (j->envelope.nrcpts == 0) {
		job_log(j, "discard", "no recipients are left", NULL);
		return (struct verdict){ .action = ACTION_DISCARD };
	}
	if (j->judged.verdict.action == ACTION_HOLD)
		return j->judged.verdict;
	if (rules->action == ACTION_HOLD)
		return *rules;
	if (j->quarantine != NULL)
		return (struct verdict){ .action = ACTION_HOLD,
			.text = view_of(j->quarantine) };
	return j->judged.verdict;
}

/* Rules on the headers of filters may send it elsewhere. */
static void
job_readdress(struct milter_job *j, struct judgement *ret)
{
	const struct findings *f = &j->findings;
	struct envelope *e = &j->envelope;
	struct recipient *rcpts;
	uint32_t i;

	if (f->filter.n > 0)
		ret->filter = buf_view(&f->filter);
	if (f->redirect.n == 0 && f->n_bcc == 0)
		return;
	rcpts = arena_alloc(j->arena, (e->nrcpts + f->n_bcc + 1) *
	    sizeof *rcpts);
	memcpy(rcpts, e->rcpts, e->nrcpts * sizeof *rcpts);
	e->rcpts = rcpts;
	if (f->redirect.n > 0 && e->nrcpts > 0) {
		rcpts[0].addr = buf_view(&f->redirect);
		e->nrcpts = 1;
	}
	for (i = 0; i < f->n_bcc && e->nrcpts < ENVELOPE_RCPTS_MAX; i++)
		rcpts[e->nrcpts++] = (struct recipient){
			.addr = buf_view(&f->bcc[i]),
			.notify = NOTIFY_NEVER };
	j->envelope_changed = true;
}

static bool
write_piece(void *arg, struct view piece)
{
	const int *fd = arg;

	return write_all(*fd, piece);
}

/* The message anew, for qmgr.  -1: it was logged. */
static int
job_text(struct milter_job *j, uint64_t *ret_size)
{
	int fd = memfd_create("text", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat st;

	if (fd >= 0 && milter_mail_write(j->mail, write_piece, &fd) &&
	    fstat(fd, &st) == 0 && fcntl(fd, F_ADD_SEALS, SEALS) == 0) {
		*ret_size = (uint64_t)st.st_size;
		return fd;
	}
	log_error("%s: writing a changed message: %s", j->name,
	    strerror(errno));
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

static void
job_send(struct milter_job *j, const struct judgement *is, int text,
    uint64_t size)
{
	struct buf *b, judgement;

	if (j->qmgr == NULL) {
		if (text >= 0)
			(void)close(text);
		return;
	}
	buf_init(&judgement, CHAN_MSG_MAX - 64);
	if (!judgement_put(&judgement, is)) {
		struct judgement later = { .verdict = refusal(451, "4.3.0",
		    view_of("Error: message too complex")) };

		log_warn("%s: more changes than can be kept", j->name);
		buf_clear(&judgement);
		ensure(judgement_put(&judgement, &later));
		if (text >= 0)
			(void)close(text);
		text = -1;
	}
	b = chan_begin(j->qmgr, text >= 0 ? MSG_MILTERED_TEXT : MSG_MILTERED);
	put_u64(b, j->id.n);
	if (text >= 0)
		put_u64(b, size);
	put_view(b, buf_view(&judgement));
	if (text >= 0)
		chan_put_fd(j->qmgr, text, false);
	else if (j->final.says == MILTER_SAYS_REFUSE ||
	    j->final.says == MILTER_SAYS_HANG_UP)
		put_view(b, j->final.text);
	chan_end(j->qmgr);
	buf_free(&judgement);
}

/* Nothing of what filters did comes of it. */
static void
job_refuse(struct milter_job *j, uint16_t code, const char *status,
    const char *text)
{
	struct judgement is = { .verdict = refusal(code, status,
	    view_of(text)) };

	job_send(j, &is, -1, 0);
}

static void
job_answer(struct milter_job *j)
{
	struct judgement is = j->judged;
	struct buf envelope;
	uint64_t size = 0;
	int text = -1;

	is.verdict = job_verdict(j);
	if (is.verdict.action == ACTION_REJECT ||
	    is.verdict.action == ACTION_DISCARD) {
		is = (struct judgement){ .verdict = is.verdict };
		job_send(j, &is, -1, 0);
		return;
	}
	job_readdress(j, &is);
	buf_init(&envelope, ENVELOPE_MAX);
	if (j->envelope_changed && !envelope_put(&envelope, &j->envelope)) {
		job_refuse(j, 452, "4.5.3", "Error: too many recipients");
		buf_free(&envelope);
		return;
	}
	is.envelope = buf_view(&envelope);
	if (!milter_mail_edits(j->mail, j->arena, &is.edits)) {
		is.edits = (struct edits){ 0 };
		text = job_text(j, &size);
		if (text < 0) {
			job_refuse(j, 451, "4.3.0",
			    "Error: queue file write error");
			buf_free(&envelope);
			return;
		}
	}
	job_send(j, &is, text, size);
	buf_free(&envelope);
}

/* -- one filter ------------------------------------------------------------ */

/* What the filter wants changed: all of it, or nothing.  NULL, or why not. */
static const char *
job_apply(struct milter_job *j, const struct session_filter *f)
{
	const struct milter_edit *list;
	struct envelope e;
	const char *why;
	bool changed;
	size_t n;

	list = milter_client_edits(f->client, &n);
	if (conf->soft_mode) {
		if (n > 0)
			job_would_change(j, list, n, f->spec->name);
		return NULL;
	}
	/* Rules see what it wants; then both parts must be possible. */
	why = milter_envelope_apply(conf, rewrite, &j->envelope, list, n, j->arena, &e,
	    &changed);
	if (why != NULL)
		return why;
	if (!milter_checks_apply(j->name, &j->envelope, list, n, j->arena,
	    &j->findings, &list, &n))
		return "its headers cannot be checked";
	if (!milter_mail_apply(j->mail, list, n,
	    milter_client_body(f->client),
	    (milter_client_steps(f->client) & MILTER_LEADING_SPACE) != 0))
		return "changes over the limit";
	if (changed) {
		j->envelope = e;
		j->envelope_changed = true;
	}
	return NULL;
}

static void
job_hold(struct milter_job *j, struct view reason, const char *filter)
{
	char *text;

	if (j->quarantine != NULL)
		return;
	if (conf->soft_mode) {
		text = mem_printf("milter triggers HOLD action: %.*s",
		    VIEW_ARGS(reason));
		job_would(j, "hold", text, filter);
		free(text);
		return;
	}
	j->quarantine = mem_copy(reason.n > 0 ? reason :
	    view_of("milter triggers HOLD action"));
	text = mem_printf("milter triggers HOLD action: %s", j->quarantine);
	job_log(j, "hold", text, filter);
	free(text);
}

static void
job_final(struct milter_job *j, const struct milter_verdict *v)
{
	char *line;

	if (conf->soft_mode && v->says == MILTER_SAYS_DISCARD) {
		job_would(j, "discard", "milter triggers DISCARD action",
		    v->filter);
		return;
	}
	if (conf->soft_mode) {
		line = mem_printf("%u %.*s", v->code, VIEW_ARGS(v->text));
		job_would(j, v->says == MILTER_SAYS_HANG_UP ? "shutdown" :
		    "reject", line, v->filter);
		free(line);
		return;
	}
	j->final = *v;
	/* The client is asked for something else next. */
	j->final_text = mem_copy(v->text);
	j->final.text = view_make(j->final_text, v->text.n);
	if (v->says == MILTER_SAYS_DISCARD)
		return;
	line = mem_printf("%u %.*s", v->code, VIEW_ARGS(v->text));
	job_log(j, v->says == MILTER_SAYS_HANG_UP ? "shutdown" : "reject",
	    line, v->filter);
	free(line);
}

/* TELL_FINAL: no more filters; the message is not taken. */
static enum filter_tell
job_took(struct milter_job *j, struct session_filter *f,
    struct milter_verdict *ret)
{
	const struct milter_result *r = milter_client_result(f->client);
	struct view reason;
	const char *why;

	f->asked = FILTER_NOTHING;
	if (milter_client_cut(f->client))
		milter_pool_early(f->address);
	switch (r->answer) {
	case MILTER_GO_ON:
	case MILTER_TAKE:
		why = job_apply(j, f);
		if (why != NULL) {
			milter_client_fail(f->client, why);
			return filter_broken(f, ret);
		}
		if (milter_client_quarantine(f->client, &reason))
			job_hold(j, reason, f->spec->name);
		return TELL_GO_ON;
	case MILTER_DROP:
		*ret = (struct milter_verdict){ .says = MILTER_SAYS_DISCARD,
			.filter = f->spec->name };
		return TELL_FINAL;
	case MILTER_REFUSE:
	case MILTER_HANG_UP:
		filter_refusal(f, r, ret);
		return TELL_FINAL;
	case MILTER_BROKEN:
		break;
	}
	return filter_broken(f, ret);
}

static enum filter_tell
job_tell(struct milter_job *j, struct session_filter *f,
    struct milter_verdict *ret)
{
	if (f->off || f->client == NULL)
		return filter_default(f, ret);
	if (f->asked == FILTER_MESSAGE)
		return job_took(j, f, ret);
	milter_client_pipelines(f->client, f->spec->pipelining &&
	    !milter_pool_is_early(f->address));
	if (!filter_ask(f, FILTER_MESSAGE, milter_client_message(f->client,
	    milter_mail_text(j->mail)), f->spec->content_ms))
		return TELL_WAIT;
	return job_took(j, f, ret);
}

bool
milter_job_step(struct milter_job *j)
{
	struct milter_session *s = j->session;
	struct milter_verdict v = { .says = MILTER_SAYS_GO_ON };
	enum filter_tell told = TELL_GO_ON;

	if (s->discard || j->final.says != MILTER_SAYS_GO_ON)
		s->at = s->n;
	for (; s->at < s->n && told == TELL_GO_ON &&
	    !findings_final(&j->findings); s->at++) {
		told = job_tell(j, &s->filters[s->at], &v);
		if (told == TELL_WAIT)
			return false;
		if (told == TELL_FINAL && filter_says(&s->filters[s->at]))
			job_final(j, &v);
		if (conf->soft_mode)
			told = TELL_GO_ON;
	}
	if (s->hold)
		job_hold(j, view_of("default_action"), NULL);
	job_answer(j);
	if (j->own_session)
		milter_session_release(s);
	job_free(j);
	return true;
}

/* -- begin and end --------------------------------------------------------- */

/* NULL: the sender broke the rules. */
struct milter_job *
milter_job_new(struct chan *qmgr, struct chan_in *in, pid_t *ret_pid,
    uint32_t *ret_session, uint32_t *ret_events)
{
	struct milter_job *j = mem_alloc(sizeof *j);
	uint64_t offset, size;
	struct view judgement, envelope;
	bool ok;

	j->qmgr = qmgr;
	j->id.n = cursor_u64(&in->body);
	*ret_pid = (pid_t)cursor_u32(&in->body);
	*ret_session = cursor_u32(&in->body);
	*ret_events = cursor_u32(&in->body);
	j->again = cursor_u8(&in->body) != 0;
	offset = cursor_u64(&in->body);
	size = cursor_u64(&in->body);
	judgement = cursor_view(&in->body);
	envelope = cursor_view(&in->body);
	TAILQ_INSERT_TAIL(&jobs, j, link);
	n_jobs++;
	(void)queue_id_text(j->id, j->name);
	findings_init(&j->findings);
	j->arena = arena_new(ARENA_MAX);
	j->final.says = MILTER_SAYS_GO_ON;
	if (!chan_check(qmgr, in)) {
		job_free(j);
		return NULL;
	}
	j->body = mem_alloc(judgement.n + envelope.n + 1);
	memcpy(j->body, judgement.p, judgement.n);
	memcpy(j->body + judgement.n, envelope.p, envelope.n);
	ok = milter_source_open(&j->source, in->fd[0], offset, size) &&
	    judgement_get(view_make(j->body, judgement.n), size, j->arena,
	    &j->judged) && envelope_get(view_make(j->body + judgement.n,
	    envelope.n), j->arena, &j->envelope);
	if (!ok) {
		chan_blame(qmgr, "a message for filters that is none");
		job_free(j);
		return NULL;
	}
	findings_begin(&j->findings, j->source.text);
	return j;
}

static size_t
job_text_max(const struct milter_job *j)
{
	size_t limit = (size_t)conf->message_size_limit;

	if (limit < j->source.text.n)
		limit = conf->message_size_limit > 0 ? j->source.text.n : 1u << 30;
	return limit + (1u << 20);
}

static void
job_gone(struct milter_job *j)
{
	milter_session_forget(j->session, j);
	if (j->own_session)
		milter_session_release(j->session);
	job_free(j);
}

void
milter_job_pass(struct milter_job *j)
{
	struct judgement is = j->judged;

	job_send(j, &is, -1, 0);
	job_free(j);
}

void
milter_job_fail(struct milter_job *j)
{
	job_refuse(j, 451, "4.7.1",
	    "Service unavailable - try again later");
	job_free(j);
}

void
milter_jobs_orphan(const struct chan *qmgr)
{
	struct milter_job *j, *next;

	for (j = TAILQ_FIRST(&jobs); j != NULL; j = next) {
		next = TAILQ_NEXT(j, link);
		if (j->qmgr != qmgr)
			continue;
		j->qmgr = NULL;
		if (j->session != NULL)
			job_gone(j);
	}
}

/* -- mail that no session brought ------------------------------------------ */

static struct view
angle(struct milter_job *j, struct view addr)
{
	struct view v;
	struct buf b;

	buf_init(&b, 2 * ADDRESS_MAX + 16);
	(void)buf_putc(&b, '<');
	(void)address_quote(addr, &b);
	(void)buf_putc(&b, '>');
	v = arena_copy(j->arena, buf_view(&b));
	buf_free(&b);
	return v;
}

void
milter_job_told(struct milter_job *j, const struct milter_verdict *v)
{
	/* A refusal of the session or of one recipient is one of all. */
	if (j->final.says == MILTER_SAYS_GO_ON &&
	    v->says != MILTER_SAYS_GO_ON)
		job_final(j, v);
}

static bool
retell(struct milter_job *j, struct milter_session *s,
    enum milter_stage stage, const struct milter_value *values,
    uint32_t n_values, const struct view *args, uint32_t n_args)
{
	struct milter_event ev = { .stage = stage, .n_values = n_values,
		.n_args = n_args, .values = values, .args = args };

	return milter_session_retell(s, &ev, j);
}

static bool
retell_transaction(struct milter_job *j, struct milter_session *s)
{
	const struct envelope *e = &j->envelope;
	struct view addr[1] = { angle(j, e->sender) };
	struct milter_value values[] = {
		{ view_of("i"), view_of(j->name) },
		{ view_of("mail_addr"), e->sender },
		{ view_of("mail_host"), address_domain(e->sender) },
		{ view_of("mail_mailer"), view_of("smtp") },
	};
	bool ok = retell(j, s, MILTER_STAGE_ABORT, NULL, 0, NULL, 0) &&
	    retell(j, s, MILTER_STAGE_MAIL, values, 4, addr, 1);
	uint32_t i;

	for (i = 0; ok && i < e->nrcpts; i++) {
		struct milter_value rcpt[] = {
			{ view_of("rcpt_addr"), e->rcpts[i].addr },
			{ view_of("rcpt_host"),
			    address_domain(e->rcpts[i].addr) },
			{ view_of("rcpt_mailer"), view_of("smtp") },
		};

		addr[0] = angle(j, e->rcpts[i].addr);
		ok = retell(j, s, MILTER_STAGE_RCPT, rcpt, 3, addr, 1);
	}
	return ok && retell(j, s, MILTER_STAGE_DATA, NULL, 0, NULL, 0);
}

void
milter_job_begin(struct milter_job *j, struct milter_session *s,
    bool own_session)
{
	j->session = s;
	j->own_session = own_session;
	j->mail = milter_mail_new(job_text_max(j));
	if (!milter_mail_begin(j->mail, j->source.text, &j->judged.edits, true)) {
		log_warn("%s: header over the limit of filters", j->name);
		job_refuse(j, 552, "5.3.4", "Error: message header too big");
		job_gone(j);
		return;
	}
	if (j->again && !retell_transaction(j, s)) {
		log_warn("%s: too many recipients for filters", j->name);
		job_refuse(j, 452, "4.5.3", "Error: too many recipients");
		job_gone(j);
		return;
	}
	milter_session_message(s, j);
}

void
milter_job_simulate(struct milter_job *j, const struct milter_set *set,
    const struct milter_list *list)
{
	struct milter_session *s = milter_session_new(set, list, NULL, NULL);
	struct milter_value who = { view_of("_"),
		view_of("localhost [127.0.0.1]") };
	struct view connect[] = { view_of("localhost"),
		view_of("127.0.0.1"), view_of("0") };

	j->again = true;
	/* Two events always fit. */
	ensure(retell(j, s, MILTER_STAGE_CONNECT, &who, 1, connect, 3) &&
	    retell(j, s, MILTER_STAGE_HELO, NULL, 0, &set->hostname, 1));
	milter_job_begin(j, s, true);
}
