/*
 *	data = "DATA" CRLF
 *
 * RFC 5321 section 4.1.1.4.  The text goes through proxy/smtpd_text.c into
 * the slot's memfd, or the file that takes its place when it grows large.
 * Whatever goes wrong is told at the end of the text, which is read in any
 * case: the client listens only then.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_tls.h"

#define PIECE		16384u	/* input decoded at once */
#define WRITE_SIZE	32768u	/* output collected before it is written */
#define SEALS	(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define SEAL_GRACE_MS	60000
#define PROXY_STEPS	4	/* slow ones of smtpd_proxy_filter */
#define MILTERS_MS	600000	/* filters that show signs of life */

static bool
data_lost_for(const struct transaction *tx)
{
	return tx->too_big || tx->failed || tx->no_room;
}

bool
data_check(struct session *s, struct view args)
{
	if (args.n > 0)
		session_refuse(s, "501 5.5.4 Syntax: DATA");
	else if (s->tx->binarymime) {
		session_refuse(s, "503 5.5.1 Error: BODY=BINARYMIME needs "
		    "BDAT");
		return false;
	}
	return args.n == 0 &&
	    session_policy(s, STAGE_DATA, args, view_of(""));
}

bool
data_begin(struct session *s, enum smtp_state to)
{
	const struct conf *cf = s->server->cf;
	struct transaction *tx = s->tx;
	struct mime_options limits;
	uint32_t i;

	ensure(tx->has_slot && tx->nrcpts > 0);
	if (tx->slot.link == NULL) {
		/* qmgr went away, and the slot with it. */
		session_refuse(s, "451 4.3.0 Error: queue file write error");
		session_enter(s, SMTP_GREETED);
		return false;
	}
	session_enter(s, to);
	s->where = WHERE_DATA;
	if (to == SMTP_CHUNK)
		text_init_chunks(&tx->text, cf->cleanup_replace_stray_cr_lf);
	else
		text_init(&tx->text, cf->cleanup_replace_stray_cr_lf);
	if (tx->binarymime) {
		limits = mime_options_of(cf);
		tx->binary = binary_new(&limits, &tx->text);
	}
	/* Above our own Received: header, so that it reads as ours. */
	for (i = 0; tx->actions != NULL && i < tx->actions->n_prepend; i++)
		(void)buf_printf(&tx->out, "%.*s\r\n",
		    VIEW_ARGS(tx->actions->prepend[i]));
	received_put(s, &tx->out);
	/* For a filter that gives it back and does not know the parameter. */
	if ((tx->flags & ENVELOPE_REQUIRETLS) != 0 &&
	    cf->requiretls_esmtp_header)
		(void)buf_puts(&tx->out, "Require-TLS-ESMTP: yes\r\n");
	header_watch_init(&tx->watch);
	tx->deadline.us = loop_now().us + cf->smtpd_data_timeout * 1000;
	return true;
}

void
data_proceed(struct session *s, struct view args)
{
	(void)args;
	if (!data_begin(s, SMTP_DATA))
		return;
	session_reply(s, "354 End data with <CR><LF>.<CR><LF>");
	session_timer_state(s);
}

static void
data_fail(struct transaction *tx, const char *what)
{
	char id[QUEUE_ID_TEXT];

	log_warn("%s: %s: %s", queue_id_text(tx->slot.id, id), what,
	    strerror(errno));
	tx->failed = true;
	buf_clear(&tx->out);
}

static void
data_write(struct transaction *tx)
{
	size_t done = 0;
	ssize_t n;

	if (data_lost_for(tx))
		return;
	while (done < tx->out.n) {
		/* At its place: the offset is shared with qmgr. */
		n = pwrite(tx->slot.fd, tx->out.p + done, tx->out.n - done,
		    (off_t)(tx->written + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			data_fail(tx, "writing the text");
			return;
		}
		done += (size_t)n;
	}
	tx->written += done;
	buf_clear(&tx->out);
}

static bool
data_bare_lf(struct session *s)
{
	const struct conf *cf = s->server->cf;

	s->bare_lf |= s->tx->text.bare_lf;
	if (!s->tx->text.bare_lf || s->server->bare_lf != BARE_LF_REJECT ||
	    net_list_match(s->server->bare_lf_exclusions,
	    session_client_name(s), &s->addr) == TABLE_FOUND)
		return false;
	session_log_reject(s, "reject", "bare <LF> received",
	    s->tx->nrcpts == 1 ? s->tx->rcpts[0].addr :
	    (struct view){ NULL, 0 });
	session_refuse(s, "%d 5.5.2 %s Error: bare <LF> received",
	    (int)cf->smtpd_forbid_bare_newline_reject_code, cf->myhostname);
	return true;
}

/* What is in it cannot be written as lines. */
static bool
data_not_lines(struct session *s)
{
	const char *why = s->tx->binary != NULL ?
	    binary_refusal(s->tx->binary) : NULL;

	if (why == NULL)
		return false;
	session_log_reject(s, "reject", why, s->tx->nrcpts == 1 ?
	    s->tx->rcpts[0].addr : (struct view){ NULL, 0 });
	session_refuse(s, "%s", why);
	return true;
}

static bool
data_is_local(const struct session *s)
{
	struct local_client c = { .addr = s->addr,
		.name = session_client_name(s),
		.authenticated = s->login != NULL };
	struct policy_facts f = { .tls_trusted = false };

	tls_facts(s, &f);
	c.trusted = f.tls_trusted;
	c.fingerprint = f.tls_fingerprint;
	c.pubkey_fingerprint = f.tls_pubkey_fingerprint;
	return local_clients_match(s->server->local_clients, &c);
}

/* What its header asks for, and MAIL did not. */
static uint32_t
data_header_flags(const struct session *s)
{
	const struct conf *cf = s->server->cf;

	return header_watch_flags(&s->tx->watch) & ((cf->requiretls_enable &&
	    cf->requiretls_esmtp_header ? ENVELOPE_REQUIRETLS : 0u) |
	    (cf->tls_required_enable ? ENVELOPE_TLS_OPTIONAL : 0u));
}

static void
data_seal(struct session *s)
{
	const struct conf *cf = s->server->cf;
	struct transaction *tx = s->tx;
	char addr[NETADDR_TEXT];
	struct envelope e = {
		.flags = tx->flags | s->server->flags | data_header_flags(s) |
		    (data_is_local(s) ? ENVELOPE_LOCAL : 0),
		.sender = tx->sender,
		.client_name = session_client_name(s),
		.client_addr = view_of(netaddr_text(&s->addr, addr)),
		.client_port = s->addr.port,
		.helo = session_helo(s),
		.proto = view_of(s->esmtp ? "ESMTP" : "SMTP"),
		.login = s->login != NULL ? view_of(s->login->name) :
		    view_of(""),
		.envid = tx->envid,
		.ret = tx->ret,
		.nrcpts = tx->nrcpts,
		.rcpts = tx->rcpts,
	};

	int64_t wait = cf->filter_time_limit + SEAL_GRACE_MS;

	/* Its steps are usually quick; until there is a place for it, it may
	 * have waited that time once. */
	if (cf->smtpd_proxy_filter[0] != '\0')
		wait += PROXY_STEPS * cf->smtpd_proxy_timeout;
	session_enter(s, SMTP_SEALING);
	close(tx->slot.fd);
	tx->slot.fd = -1;
	xforward_envelope(s, &e);
	if (s->milter != NULL)
		wait += MILTERS_MS;
	tx->sealed = true;
	queue_seal(tx, &e);
	session_wait_for(s, WAIT_SEAL, wait);
}

void
data_permitted(struct session *s)
{
	/* qmgr may have gone while the policy was waited for. */
	if (s->tx->slot.link != NULL) {
		data_seal(s);
		return;
	}
	session_refuse(s, "451 4.3.0 Error: queue file write error");
	session_enter(s, SMTP_GREETED);
}

bool
data_refused(struct session *s)
{
	struct transaction *tx = s->tx;

	if (tx->slot.link == NULL)
		tx->failed = true;
	if (data_bare_lf(s) || data_not_lines(s))
		;
	else if (tx->too_big)
		session_refuse(s, "552 5.3.4 Error: message file too big");
	else if (tx->no_room)
		session_refuse(s, "452 4.3.1 Insufficient system storage");
	else if (tx->failed)
		session_refuse(s, "451 4.3.0 Error: queue file write error");
	else
		return false;
	session_enter(s, SMTP_GREETED);
	session_timer_state(s);
	return true;
}

/* The end of the text was seen. */
static void
data_finish(struct session *s)
{
	struct transaction *tx = s->tx;

	s->where = WHERE_EOM;
	/* For the next hop it is what it has become. */
	if (tx->binary != NULL && !binary_is_8bit(tx->binary))
		tx->flags &= ~(uint32_t)ENVELOPE_8BIT;
	data_write(tx);
	/* From here on nobody can change a text in memory. */
	if (!data_lost_for(tx) && !tx->spilled && tx->slot.link != NULL &&
	    fcntl(tx->slot.fd, F_ADD_SEALS, SEALS) != 0)
		data_fail(tx, "sealing the text");
	/* A refusal ends the transaction; or it is waited for. */
	if (!data_refused(s) &&
	    session_policy(s, STAGE_EOD, view_of(""), view_of("")))
		data_permitted(s);
}

/* Is this the end of it? */
static void
data_arrived(struct session *s)
{
	if (s->tx->text.state == TEXT_END)
		data_finish(s);
	else if (s->state == SMTP_CHUNK && !s->chunk.on)
		chunk_taken(s);
}

uint64_t
data_size(const struct transaction *tx)
{
	return tx->came > tx->size ? tx->came : tx->size;
}

/* Octets of a chunk were decoded: was it the end? */
static void
data_chunk(struct session *s, size_t used)
{
	struct transaction *tx = s->tx;
	struct chunk *c = &s->chunk;

	c->left -= used;
	c->on = c->left > 0;
	if (c->on || !c->last)
		return;
	if (tx->binary != NULL)
		binary_finish(tx->binary, &tx->out);
	else
		/* There is room behind what text_decode() wrote. */
		tx->out.n += text_finish(&tx->text, tx->out.p + tx->out.n);
}

/* What in says goes to tx->out.  Returns the bytes used. */
static size_t
data_decode(struct session *s, struct view in)
{
	struct transaction *tx = s->tx;
	size_t before = tx->out.n, used = in.n, got;
	char *to;

	if (tx->binary != NULL) {
		binary_decode(tx->binary, in, &tx->out);
		tx->came += in.n;
	} else {
		to = buf_room(&tx->out, 2 * in.n + TEXT_SPARE);
		ensure(to != NULL);
		used = text_decode(&tx->text, in, to, &got);
		tx->out.n += got;
	}
	if (s->state == SMTP_CHUNK)
		data_chunk(s, used);
	got = tx->out.n - before;
	header_watch_feed(&tx->watch, buf_part(&tx->out, before, got));
	tx->size += got;
	if (data_lost_for(tx))
		tx->out.n = before;
	return used;
}

size_t
session_text(struct session *s, struct view in)
{
	const struct conf *cf = s->server->cf;
	struct transaction *tx = s->tx;
	size_t used;
	char id[QUEUE_ID_TEXT];

	in = view_head(in, PIECE);
	if (s->state == SMTP_CHUNK)
		in = view_head(in, s->chunk.left);
	else if (in.n == 0)
		return 0;
	used = data_decode(s, in);
	if (cf->message_size_limit > 0 && !tx->too_big &&
	    data_size(tx) > (uint64_t)cf->message_size_limit) {
		log_warn("%s: queue file size limit exceeded",
		    session_queue_id(s, id));
		tx->too_big = true;
		buf_clear(&tx->out);
	}
	if (!data_lost_for(tx) && !tx->spilled && tx->written + tx->out.n >
	    (uint64_t)cf->queue_memory_text_limit) {
		if (tx->slot.link == NULL) {
			tx->failed = true;
			buf_clear(&tx->out);
		} else {
			queue_spill(tx);
			session_wait_for(s, WAIT_SPILL, SPILL_WAIT_MS);
			return used;
		}
	}
	if (tx->out.n >= WRITE_SIZE)
		data_write(tx);
	data_arrived(s);
	return used;
}

void
session_text_resume(struct session *s)
{
	struct transaction *tx = s->tx;

	data_write(tx);
	data_arrived(s);
}

/* Go on in fd with what the memfd has. */
static void
data_move(struct transaction *tx, int fd)
{
	off_t at = 0;
	ssize_t n;

	while ((uint64_t)at < tx->written) {
		n = sendfile(fd, tx->slot.fd, &at,
		    (size_t)(tx->written - (uint64_t)at));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			data_fail(tx, "copying the text");
			break;
		}
	}
	close(tx->slot.fd);
	tx->slot.fd = fd;
	tx->spilled = true;
}

void
data_spilled(struct transaction *tx, int fd)
{
	ensure(tx->session->wait == WAIT_SPILL);
	queue_forget(tx);
	if (fd >= 0)
		data_move(tx, fd);
	else {
		tx->no_room = true;
		buf_clear(&tx->out);
	}
	session_resume(tx->session);
}

/* -- PRDR ----------------------------------------------------------------- */

/* Replies wait in memory, so not for any number of recipients. */
#define PRDR_RCPTS_MAX	256u

bool
data_answers_each(const struct transaction *tx)
{
	return tx->prdr && tx->nrcpts <= PRDR_RCPTS_MAX;
}

/* One recipient's reply.  Codes that end a session are not for one. */
static void
data_answer(struct session *s, const struct recipient *r, unsigned code,
    struct view status, struct view text)
{
	if (code % 100 == 21)
		code += 29;
	if ((code < 200 || code > 299) && (code < 400 || code > 599))
		code = 451;
	session_reply(s, "%u %s <%s>: %s", code,
	    log_safe(view_head(status, 12)), log_safe(r->addr),
	    log_safe(view_head(text, 300)));
}

/* draft-hall-prdr: 353, the recipients' replies in their order; the one for
 * the message follows.  each: see MSG_SEALED; empty: they are all accepted. */
static void
data_answer_each(struct transaction *tx, struct view each)
{
	struct cursor c = cursor_of(each);
	bool same = each.n == 0;
	struct view status = view_of("2.1.5"), text = view_of("Ok");
	unsigned code = 250;
	uint32_t i;

	if (!same && cursor_u32(&c) != tx->nrcpts)
		panic("replies for other recipients");
	session_reply(tx->session, "353 Content analyzed");
	for (i = 0; i < tx->nrcpts; i++) {
		if (!same) {
			code = cursor_u16(&c);
			status = cursor_view(&c);
			text = cursor_view(&c);
		}
		data_answer(tx->session, &tx->rcpts[i], code, status, text);
	}
}

void
data_sealed(struct transaction *tx, unsigned code, struct view status,
    struct view text, struct view each)
{
	struct session *s = tx->session;
	bool good = code >= 200 && code <= 299;

	ensure(s->wait == WAIT_SEAL);
	queue_forget(tx);
	queue_release(tx);
	tx->has_slot = false;
	/* What all are refused for is one reply, as ever. */
	if (data_answers_each(tx) && (good || each.n > 0))
		data_answer_each(tx, each);
	if (good) {
		/* Who brings mail is forgiven. */
		s->errors = s->junk = s->overshoot = 0;
		s->server->messages++;
		session_accept(s, (enum verb)s->verb, "%u %s %s", code,
		    log_safe(view_head(status, 12)), log_safe(text));
	} else {
		if (code < 400 || code > 599)
			code = 451;
		if (status.n == 0)
			session_refuse_lines(s, code, text);
		else
			session_refuse(s, "%u %s %s", code,
			    log_safe(view_head(status, 12)), log_safe(text));
	}
	session_enter(s, SMTP_GREETED);
	session_resume(s);
}

void
data_lost(struct transaction *tx)
{
	struct session *s = tx->session;

	if (s->wait == WAIT_SEAL) {
		/* It may have been accepted all the same: the client sends
		 * it again, and the recipient may get it twice (RFC 1047). */
		queue_forget(tx);
		queue_release(tx);
		tx->has_slot = false;
		session_refuse(s, "451 4.3.0 Error: queue file write error");
		session_enter(s, SMTP_GREETED);
		session_resume(s);
	} else if (s->wait == WAIT_SPILL) {
		queue_forget(tx);
		tx->failed = true;
		buf_clear(&tx->out);
		session_resume(s);
	}
}
