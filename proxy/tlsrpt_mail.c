#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/envelope.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/peers.h"
#include "lib/write_all.h"
#include "proxy/tlsrpt_mail.h"
#include "rules/tlsrpt_report.h"

#define SEALS	(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

struct tlsrpt_mail {
	TAILQ_ENTRY(tlsrpt_mail) link;
	struct chan *asked;	/* for a slot; NULL: nobody is there */
	uint64_t id;		/* 0: no slot yet */
	struct buf text;
	char *to[TLSRPT_TO_MAX];
	size_t n_to;
	tlsrpt_mail_done *done;
	void *arg;
};

static TAILQ_HEAD(, tlsrpt_mail) mails = TAILQ_HEAD_INITIALIZER(mails);
static struct peers managers;

static void
mail_ask(struct tlsrpt_mail *m)
{
	struct buf *b;

	m->asked = peers_newest(&managers);
	if (m->asked == NULL)
		return;
	b = chan_begin(m->asked, MSG_SLOTS);
	put_u32(b, 1);
	chan_end(m->asked);
}

struct tlsrpt_mail *
tlsrpt_mail_send(struct view text, const struct view *to, size_t n_to,
    tlsrpt_mail_done *done, void *arg)
{
	struct tlsrpt_mail *m = mem_alloc(sizeof *m);
	size_t i;

	ensure(n_to > 0 && n_to <= TLSRPT_TO_MAX);
	buf_init(&m->text, TLSRPT_MAIL_MAX);
	(void)buf_putv(&m->text, text);
	for (i = 0; i < n_to; i++)
		m->to[i] = mem_copy(to[i]);
	m->n_to = n_to;
	m->done = done;
	m->arg = arg;
	TAILQ_INSERT_TAIL(&mails, m, link);
	mail_ask(m);
	return m;
}

void
tlsrpt_mail_cancel(struct tlsrpt_mail **mp)
{
	struct tlsrpt_mail *m = *mp;
	size_t i;

	*mp = NULL;
	if (m == NULL)
		return;
	TAILQ_REMOVE(&mails, m, link);
	for (i = 0; i < m->n_to; i++)
		free(m->to[i]);
	buf_free(&m->text);
	free(m);
}

static void
mail_ends(struct tlsrpt_mail *m, bool ok, const char *why)
{
	tlsrpt_mail_done *done = m->done;
	void *arg = m->arg;

	tlsrpt_mail_cancel(&m);
	done(ok, why, arg);
}

static bool
mail_seal(struct tlsrpt_mail *m, struct chan *c)
{
	struct recipient rcpts[TLSRPT_TO_MAX] = { { .addr = view_of("") } };
	struct envelope e = {
		.flags = ENVELOPE_TLS_OPTIONAL,	/* as its header says */
		.client_name = view_of("localhost"),
		.client_addr = view_of("127.0.0.1"),
		.proto = view_of("tlsrpt"),
		.nrcpts = (uint32_t)m->n_to, .rcpts = rcpts,
	};
	struct buf env, *b;
	bool ok;
	size_t i;

	for (i = 0; i < m->n_to; i++)
		rcpts[i].addr = view_of(m->to[i]);
	buf_init(&env, 65536);
	ok = envelope_put(&env, &e);
	if (ok) {
		b = chan_begin(c, MSG_SEAL);
		put_u64(b, m->id);
		put_u64(b, m->text.n);
		put_u8(b, 0);
		put_view(b, buf_view(&env));
		chan_end(c);
	}
	buf_free(&env);
	return ok;
}

static void
slot_drop(struct chan *c, uint64_t id)
{
	struct buf *b = chan_begin(c, MSG_SLOT_DROP);

	put_u64(b, id);
	chan_end(c);
}

static void
manager_slot(struct chan *c, struct chan_in *in)
{
	uint64_t id = cursor_u64(&in->body);
	struct tlsrpt_mail *m;

	if (!chan_check(c, in))
		return;
	TAILQ_FOREACH(m, &mails, link)
		if (m->asked == c && m->id == 0)
			break;
	if (m == NULL) {
		slot_drop(c, id);
		return;
	}
	m->id = id;
	if (write_all(in->fd[0], buf_view(&m->text)) &&
	    fcntl(in->fd[0], F_ADD_SEALS, SEALS) == 0 && mail_seal(m, c))
		return;
	log_error("cannot write a TLS report: %s", strerror(errno));
	slot_drop(c, id);
	mail_ends(m, false, "it cannot be written");
}

static void
manager_sealed(struct chan *c, struct chan_in *in)
{
	uint64_t id = cursor_u64(&in->body);
	uint16_t code = cursor_u16(&in->body);
	struct view status = cursor_view(&in->body);
	struct view text = cursor_view(&in->body);
	struct tlsrpt_mail *m;
	char why[400];

	if (!chan_check(c, in))
		return;
	TAILQ_FOREACH(m, &mails, link)
		if (m->asked == c && m->id == id && id != 0)
			break;
	if (m == NULL)
		return;		/* it was given up */
	(void)snprintf(why, sizeof why, "%u %s %s", code, log_safe(status),
	    log_safe(text));
	mail_ends(m, code / 100 == 2, why);
}

static void
manager_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	(void)arg;
	switch ((int)in->type) {
	case MSG_SLOT:
		manager_slot(c, in);
		break;
	case MSG_SEALED:
		manager_sealed(c, in);
		break;
	case MSG_SPACE:
		break;		/* SEALED tells */
	default:
		chan_blame(c, "unexpected message");
		break;
	}
}

static void
manager_on_close(struct chan *c, void *arg)
{
	struct tlsrpt_mail *m, *next;

	(void)arg;
	peers_remove(&managers, c);
	for (m = TAILQ_FIRST(&mails); m != NULL; m = next) {
		next = TAILQ_NEXT(m, link);
		if (m->asked != c)
			continue;
		/* Was it taken?  The next one asks again; it has the same
		 * id. */
		m->id = 0;
		mail_ask(m);
	}
	chan_free(&c);
}

void
tlsrpt_mail_peer(const struct role_peer *peer, int fd)
{
	struct tlsrpt_mail *m;

	peers_add(&managers, chan_new(fd, ROLE_TLSRPT, ROLE_QMGR, peer->pid,
	    manager_on_msg, manager_on_close, NULL), peer->generation);
	/* One that hands over gives no slots any more. */
	TAILQ_FOREACH(m, &mails, link)
		if (m->id == 0)
			mail_ask(m);
}
