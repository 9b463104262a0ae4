/*
 * A connection of the mail server: libmilter's callbacks, each session in a
 * thread of its own.
 */
#include <libmilter/mfapi.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <grp.h>

#include "filters/pmilter.h"
#include "filters/pmilter_text.h"
#include "lib/address.h"
#include "lib/log.h"
#include "lib/netaddr.h"

#define TEXT_MAX	1024u	/* of a name; envelope_get() takes that */
#define ENVELOPE_MAX	(3u << 20)
#define BACKLOG		128
/* What need not be answered; all is said at the end of the message. */
#define NO_REPLY	(SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_RCPT | \
	SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY)
#define CHANGES		(SMFIF_ADDHDRS | SMFIF_CHGHDRS | SMFIF_CHGBODY | \
	SMFIF_ADDRCPT | SMFIF_DELRCPT | SMFIF_QUARANTINE)

struct session {
	unsigned long actions;
	unsigned long protocol;
	bool connected;
	struct envelope client;		/* what is the connection's */
	/* The message. */
	bool begun, counted;
	struct envelope env;
	char **raw;			/* recipients as they came */
	uint32_t cap;
	size_t rcpt_bytes;
	bool too_many;			/* recipients */
	struct pmilter_text text;
	uint64_t held;			/* bytes of texts.bytes */
	uint32_t forged;
};

static struct {
	const struct conf *cf;
	struct pmilter_start start;
	atomic_uint sessions;
	_Atomic uint64_t bytes;		/* of all texts */
} server;

static struct view nothing = { "", 0 };

/* -- texts ----------------------------------------------------------------- */

/* A copy in which nothing ends a line; NULL is empty. */
static struct view
kept(const char *text, size_t max)
{
	struct view v = view_head(view_of(text != NULL ? text : ""), max);
	char *p = mem_copy(v);
	size_t i;

	for (i = 0; i < v.n; i++)
		if ((unsigned char)p[i] < ' ' || p[i] == 0x7f)
			p[i] = '?';
	return view_make(p, v.n);
}

static void
drop(struct view *v)
{
	free((char *)(uintptr_t)v->p);
	*v = (struct view){ NULL, 0 };
}

static const char *
macro(SMFICTX *ctx, const char *name)
{
	char *n = mem_strdup(name);
	const char *value = smfi_getsymval(ctx, n);

	free(n);
	return value;
}

/* What stands in MAIL or RCPT, in internal form; what is no address stays as
 * it is. */
static struct view
path(const char *text)
{
	struct view rest = view_of(text), v;
	struct buf b;
	bool utf8;

	buf_init(&b, ADDRESS_MAX + 1);
	if (address_path(&rest, false, &b, &utf8) == ADDRESS_OK &&
	    rest.n == 0 && memchr(b.n > 0 ? b.p : "", '\0', b.n) == NULL) {
		v = kept(buf_cstr(&b), ADDRESS_MAX);
	} else {
		v = view_of(text);
		if (v.n >= 2 && v.p[0] == '<' && v.p[v.n - 1] == '>')
			v = view_head(view_from(v, 1), v.n - 2);
		buf_clear(&b);
		(void)buf_putv(&b, view_head(v, ADDRESS_MAX));
		v = kept(buf_cstr(&b), ADDRESS_MAX);
	}
	buf_free(&b);
	return v;
}

/* -- the message ----------------------------------------------------------- */

static void
message_hold(struct session *s)
{
	uint64_t size = s->text.size;

	if (size > s->held && atomic_fetch_add(&server.bytes,
	    size - s->held) + (size - s->held) >
	    (uint64_t)server.cf->postern_milter_memory_limit &&
	    s->text.trouble == TEXT_FINE)
		s->text.trouble = TEXT_NO_MEMORY;
	s->held = size > s->held ? size : s->held;
}

static void
message_clear(struct session *s)
{
	uint32_t i;

	for (i = 0; i < s->env.nrcpts; i++) {
		drop(&s->env.rcpts[i].addr);
		free(s->raw[i]);
	}
	free(s->env.rcpts);
	free(s->raw);
	if (s->begun)
		drop(&s->env.sender);
	s->raw = NULL;
	s->cap = 0;
	s->env = (struct envelope){ 0 };
	pmilter_text_clear(&s->text);
	atomic_fetch_sub(&server.bytes, s->held);
	s->held = 0;
	s->rcpt_bytes = 0;
	s->too_many = s->begun = false;
	s->forged = 0;
	if (s->counted)
		(void)pmilter_busy(false);
	s->counted = false;
}

static void
message_begin(struct session *s, char **argv)
{
	message_clear(s);
	s->begun = true;
	s->counted = pmilter_busy(true);
	s->env.sender = path(argv[0]);
	for (argv++; *argv != NULL; argv++)
		if (strcasecmp(*argv, "BODY=8BITMIME") == 0)
			s->env.flags |= ENVELOPE_8BIT;
		else if (strcasecmp(*argv, "SMTPUTF8") == 0)
			s->env.flags |= ENVELOPE_SMTPUTF8;
}

static void
message_rcpt(struct session *s, const char *text)
{
	struct view addr = path(text);
	uint32_t n = s->env.nrcpts;

	if (n == ENVELOPE_RCPTS_MAX || addr.n == 0 ||
	    s->rcpt_bytes + addr.n + 16 > ENVELOPE_MAX - 8 * TEXT_MAX) {
		s->too_many = s->too_many || addr.n > 0;
		drop(&addr);
		return;
	}
	if (n == s->cap) {
		s->cap = s->cap * 2 + 4;
		s->env.rcpts = mem_resize(s->env.rcpts, s->cap,
		    sizeof *s->env.rcpts);
		s->raw = mem_resize(s->raw, s->cap, sizeof *s->raw);
	}
	s->rcpt_bytes += addr.n + 16;
	s->env.rcpts[n] = (struct recipient){ .addr = addr };
	s->raw[n] = mem_strdup(text);
	s->env.nrcpts++;
}

/* What the mail server knows only now.  Postfix does not say whether it was
 * SMTP or ESMTP; hardly anybody uses the former. */
static void
message_complete(SMFICTX *ctx, struct session *s, char name[MESSAGE_NAME])
{
	const char *id = macro(ctx, "i"), *proto = macro(ctx, "r");
	struct envelope *e = &s->env;

	/* Its own rewriting is the mail server's affair. */
	e->flags |= ENVELOPE_NO_MAPPING;
	e->client_name = s->client.client_name;
	e->client_addr = s->client.client_addr;
	e->client_port = s->client.client_port;
	e->helo = s->client.helo;
	e->proto = kept(proto != NULL ? proto : "ESMTP", 32);
	e->login = kept(macro(ctx, "{auth_authen}"), TEXT_MAX);
	e->envid = e->full_name = nothing;
	(void)snprintf(name, MESSAGE_NAME, "%s", id != NULL &&
	    envelope_name_good(view_of(id)) ? id : "NOQUEUE");
}

static void
progress(void *arg)
{
	(void)smfi_progress(arg);
}

static int
message_judge(SMFICTX *ctx, struct session *s, const struct pmilter_told *m)
{
	struct pmilter_job j = { .fd = s->text.fd, .size = s->text.size,
		.nrcpts = s->env.nrcpts };
	struct buf b;
	int rc;

	buf_init(&b, ENVELOPE_MAX);
	ensure(envelope_put(&b, &s->env));
	j.envelope = buf_view(&b);
	(void)snprintf(j.name, sizeof j.name, "%s", m->name);
	pmilter_hand_over(&j, progress, ctx);
	rc = pmilter_reply(ctx, m, &j.answer);
	arena_free(&j.arena);
	free(j.parts);
	buf_free(&b);
	return rc;
}

static int
message_end(SMFICTX *ctx, struct session *s, const struct pmilter_told *m)
{
	if (!s->counted)
		return pmilter_reply_failure(ctx, m, 451, "4.3.2",
		    "Error: content filter is being stopped");
	if (s->too_many)
		return pmilter_reply_failure(ctx, m, 452, "4.5.3",
		    "Error: too many recipients");
	if (!pmilter_text_end(&s->text) || s->text.trouble != TEXT_FINE)
		switch (s->text.trouble) {
		case TEXT_TOO_BIG:
			return pmilter_reply_failure(ctx, m, 552, "5.3.4",
			    "Error: message file too big");
		case TEXT_HEADERS:
			return pmilter_reply_failure(ctx, m, 554, "5.6.0",
			    "Error: too many header lines");
		case TEXT_FINE:
		case TEXT_NO_MEMORY:
			return pmilter_reply_failure(ctx, m, 452, "4.3.1",
			    "Error: insufficient memory in content filter");
		}
	return message_judge(ctx, s, m);
}

/* -- callbacks ------------------------------------------------------------- */

static struct session *
session_of(SMFICTX *ctx)
{
	return smfi_getpriv(ctx);
}

static struct session *
session_new(SMFICTX *ctx)
{
	struct session *s = mem_alloc(sizeof *s);

	pmilter_text_init(&s->text,
	    (uint64_t)server.cf->message_size_limit);
	atomic_fetch_add(&server.sessions, 1);
	if (smfi_setpriv(ctx, s) == MI_SUCCESS)
		return s;
	atomic_fetch_sub(&server.sessions, 1);
	free(s);
	return NULL;
}

static sfsistat
no_reply(const struct session *s, unsigned long stage)
{
	return (s->protocol & stage) != 0 ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static void
ask_for(SMFICTX *ctx, int stage, const char *names)
{
	char *list = mem_strdup(names);

	(void)smfi_setsymlist(ctx, stage, list);
	free(list);
}

static sfsistat
on_negotiate(SMFICTX *ctx, unsigned long f0, unsigned long f1,
    unsigned long f2, unsigned long f3, unsigned long *pf0,
    unsigned long *pf1, unsigned long *pf2, unsigned long *pf3)
{
	struct session *s = session_new(ctx);

	(void)f2;
	(void)f3;
	if (s == NULL)
		return SMFIS_REJECT;
	s->actions = f0 & (server.start.mode == MODE_TAG ?
	    SMFIF_ADDHDRS | SMFIF_CHGHDRS : CHANGES);
	s->protocol = f1 & (NO_REPLY | SMFIP_HDR_LEADSPC);
	*pf0 = s->actions | (f0 & SMFIF_SETSYMLIST);
	*pf1 = s->protocol | (f1 & (SMFIP_NOUNKNOWN | SMFIP_NODATA));
	*pf2 = *pf3 = 0;
	if ((f0 & SMFIF_SETSYMLIST) != 0) {
		ask_for(ctx, SMFIM_CONNECT, "j {client_resolve}");
		ask_for(ctx, SMFIM_ENVFROM, "i r {auth_authen}");
		ask_for(ctx, SMFIM_EOM, "i");
	}
	return SMFIS_CONTINUE;
}

/* None: a program of the server's own host gives it a message. */
static void
client_address(struct session *s, const _SOCK_ADDR *addr)
{
	char text[NETADDR_TEXT];
	struct netaddr a;

	s->client.client_addr = kept("127.0.0.1", 256);
	if (addr == NULL || (addr->sa_family != AF_INET &&
	    addr->sa_family != AF_INET6))
		return;
	a = netaddr_from_sockaddr(addr, addr->sa_family == AF_INET6 ?
	    sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	drop(&s->client.client_addr);
	s->client.client_addr = kept(netaddr_text(&a, text), 256);
	s->client.client_port = a.port;
}

static sfsistat
on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *addr)
{
	struct session *s = session_of(ctx);
	const char *resolved;

	if (s == NULL)
		s = session_new(ctx);
	if (s == NULL || s->connected)
		return SMFIS_TEMPFAIL;
	s->connected = true;
	resolved = macro(ctx, "{client_resolve}");
	s->client.client_name = name == NULL || name[0] == '[' ||
	    (resolved != NULL && strcasecmp(resolved, "OK") != 0) ?
	    kept("unknown", TEXT_MAX) : kept(name, TEXT_MAX);
	client_address(s, addr);
	if (atomic_load(&server.sessions) <=
	    (unsigned)server.cf->postern_milter_session_limit)
		return SMFIS_CONTINUE;
	pmilter_note(true, mem_printf("too many connections of the mail "
	    "server: postern_milter_session_limit is %lld",
	    (long long)server.cf->postern_milter_session_limit));
	return server.start.mode == MODE_TAG ? SMFIS_ACCEPT : SMFIS_TEMPFAIL;
}

static sfsistat
on_helo(SMFICTX *ctx, char *helo)
{
	struct session *s = session_of(ctx);

	if (s == NULL)
		return SMFIS_TEMPFAIL;
	drop(&s->client.helo);
	s->client.helo = kept(helo, TEXT_MAX);
	return no_reply(s, SMFIP_NR_HELO);
}

static sfsistat
on_mail(SMFICTX *ctx, char **argv)
{
	struct session *s = session_of(ctx);

	if (s == NULL || argv[0] == NULL)
		return SMFIS_TEMPFAIL;
	message_begin(s, argv);
	return no_reply(s, SMFIP_NR_MAIL);
}

static sfsistat
on_rcpt(SMFICTX *ctx, char **argv)
{
	struct session *s = session_of(ctx);

	if (s == NULL || !s->begun || argv[0] == NULL)
		return SMFIS_TEMPFAIL;
	message_rcpt(s, argv[0]);
	return no_reply(s, SMFIP_NR_RCPT);
}

static sfsistat
on_header(SMFICTX *ctx, char *name, char *value)
{
	struct session *s = session_of(ctx);

	if (s == NULL || !s->begun)
		return SMFIS_TEMPFAIL;
	s->forged += strcasecmp(name, PMILTER_TAG) == 0;
	pmilter_text_header(&s->text, view_of(name), view_of(value),
	    (s->protocol & SMFIP_HDR_LEADSPC) != 0);
	message_hold(s);
	return no_reply(s, SMFIP_NR_HDR);
}

static sfsistat
on_eoh(SMFICTX *ctx)
{
	struct session *s = session_of(ctx);

	if (s == NULL || !s->begun)
		return SMFIS_TEMPFAIL;
	pmilter_text_body(&s->text, nothing);
	return no_reply(s, SMFIP_NR_EOH);
}

static sfsistat
on_body(SMFICTX *ctx, unsigned char *piece, size_t n)
{
	struct session *s = session_of(ctx);

	if (s == NULL || !s->begun)
		return SMFIS_TEMPFAIL;
	pmilter_text_body(&s->text, view_make(piece, n));
	message_hold(s);
	return no_reply(s, SMFIP_NR_BODY);
}

static sfsistat
on_eom(SMFICTX *ctx)
{
	struct session *s = session_of(ctx);
	char name[MESSAGE_NAME];
	struct pmilter_told m = { .mode = server.start.mode,
		.cf = server.cf, .name = name };
	int rc;

	if (s == NULL || !s->begun || s->env.nrcpts == 0)
		return SMFIS_TEMPFAIL;
	message_complete(ctx, s, name);
	m.actions = s->actions;
	m.space = (s->protocol & SMFIP_HDR_LEADSPC) != 0;
	m.forged = s->forged;
	m.text = &s->text;
	m.env = &s->env;
	m.rcpts = s->raw;
	rc = message_end(ctx, s, &m);
	drop(&s->env.proto);
	drop(&s->env.login);
	message_clear(s);
	return rc;
}

static sfsistat
on_abort(SMFICTX *ctx)
{
	struct session *s = session_of(ctx);

	if (s != NULL)
		message_clear(s);
	return SMFIS_CONTINUE;
}

static sfsistat
on_close(SMFICTX *ctx)
{
	struct session *s = session_of(ctx);

	if (s == NULL)
		return SMFIS_CONTINUE;
	message_clear(s);
	drop(&s->client.client_name);
	drop(&s->client.client_addr);
	drop(&s->client.helo);
	(void)smfi_setpriv(ctx, NULL);
	atomic_fetch_sub(&server.sessions, 1);
	free(s);
	return SMFIS_CONTINUE;
}

/* -- the socket ------------------------------------------------------------ */

static void
socket_rights(const struct pmilter_start *s, const char *file)
{
	struct group *gr = NULL;

	if (s->group[0] != '\0' && (gr = getgrnam(s->group)) == NULL)
		fatal("no such group: %s", s->group);
	if (gr != NULL && chown(file, (uid_t)-1, gr->gr_gid) != 0)
		fatal("%s: cannot give it to group %s", file, s->group);
	if (s->socket_mode >= 0 && chmod(file, (mode_t)s->socket_mode) != 0)
		fatal("%s: cannot set its mode", file);
}

void
pmilter_session_open(const struct conf *cf, const struct pmilter_start *s)
{
	static char name[] = "postern-milter";
	struct smfiDesc desc = { .xxfi_name = name,
		.xxfi_version = SMFI_VERSION,
		.xxfi_flags = (s->mode == MODE_TAG ? SMFIF_ADDHDRS |
		    SMFIF_CHGHDRS : CHANGES) | SMFIF_SETSYMLIST,
		.xxfi_connect = on_connect, .xxfi_helo = on_helo,
		.xxfi_envfrom = on_mail, .xxfi_envrcpt = on_rcpt,
		.xxfi_header = on_header, .xxfi_eoh = on_eoh,
		.xxfi_body = on_body, .xxfi_eom = on_eom,
		.xxfi_abort = on_abort, .xxfi_close = on_close,
		.xxfi_negotiate = on_negotiate };
	const char *file = pmilter_socket_path(s->socket);

	server.cf = cf;
	server.start = *s;
	(void)smfi_setbacklog(BACKLOG);
	if (smfi_register(desc) != MI_SUCCESS ||
	    smfi_setconn(server.start.socket) != MI_SUCCESS ||
	    smfi_opensocket(true) != MI_SUCCESS)
		fatal("cannot open the socket %s", s->socket);
	if (file != NULL)
		socket_rights(s, file);
}

static void *
session_serve(void *arg)
{
	(void)arg;
	if (smfi_main() != MI_SUCCESS)
		pmilter_note(true, mem_strdup("libmilter has given up"));
	pmilter_hand_ended();
	return NULL;
}

void
pmilter_session_start(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, session_serve, NULL) != 0)
		fatal("cannot start a thread");
	(void)pthread_detach(thread);
}
