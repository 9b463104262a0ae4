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

#include "filters/pmilter_session.h"
#include "lib/log.h"
#include "lib/netaddr.h"

#define BACKLOG		128
/* What need not be answered; all is said at the end of the message. */
#define NO_REPLY	(SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_RCPT | \
	SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY)
#define TLS_MACROS	"{tls_version} {cipher} {cipher_bits} " \
	"{cert_subject} {cert_issuer} {verify}"
#define CHANGES		(SMFIF_ADDHDRS | SMFIF_CHGHDRS | SMFIF_CHGBODY | \
	SMFIF_ADDRCPT | SMFIF_DELRCPT | SMFIF_QUARANTINE)

static struct {
	const struct conf *cf;
	struct pmilter_start start;
	atomic_uint sessions;
} server;

static struct view nothing = { "", 0 };

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
	s->restrictions = pmilter_restrict_new();
	atomic_fetch_add(&server.sessions, 1);
	if (smfi_setpriv(ctx, s) == MI_SUCCESS)
		return s;
	atomic_fetch_sub(&server.sessions, 1);
	pmilter_restrict_free(&s->restrictions);
	free(s);
	return NULL;
}

/* What a session answers only at the end, or, of stages with restrictions,
 * at once. */
static unsigned long
no_replies(void)
{
	unsigned long set = NO_REPLY;

	if (pmilter_restrict_at(STAGE_HELO))
		set &= ~(unsigned long)SMFIP_NR_HELO;
	if (pmilter_restrict_at(STAGE_MAIL))
		set &= ~(unsigned long)SMFIP_NR_MAIL;
	if (pmilter_restrict_at(STAGE_RCPT))
		set &= ~(unsigned long)SMFIP_NR_RCPT;
	return set;
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
	s->protocol = f1 & (no_replies() | SMFIP_HDR_LEADSPC);
	*pf0 = s->actions | (f0 & SMFIF_SETSYMLIST);
	*pf1 = s->protocol | (f1 & (SMFIP_NOUNKNOWN |
	    (pmilter_restrict_at(STAGE_DATA) ? 0 : SMFIP_NODATA)));
	*pf2 = *pf3 = 0;
	if ((f0 & SMFIF_SETSYMLIST) != 0) {
		ask_for(ctx, SMFIM_CONNECT, "j v {client_resolve} "
		    "{client_ptr} {daemon_addr} {if_addr} {daemon_port}");
		ask_for(ctx, SMFIM_HELO, TLS_MACROS);
		ask_for(ctx, SMFIM_ENVFROM, "i r {auth_authen} {auth_type} "
		    "{auth_author} " TLS_MACROS);
		ask_for(ctx, SMFIM_ENVRCPT, "i");
		ask_for(ctx, SMFIM_EOM, "i");
	}
	return SMFIS_CONTINUE;
}

/* None: a program of the server's own host gives it a message. */
static struct netaddr
client_address(struct session *s, const _SOCK_ADDR *addr)
{
	char text[NETADDR_TEXT];
	struct netaddr a;

	s->client.client_addr = text_kept("127.0.0.1", 256);
	ensure(netaddr_parse(s->client.client_addr, &a));
	if (addr == NULL || (addr->sa_family != AF_INET &&
	    addr->sa_family != AF_INET6))
		return a;
	a = netaddr_from_sockaddr(addr, addr->sa_family == AF_INET6 ?
	    sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	text_drop(&s->client.client_addr);
	s->client.client_addr = text_kept(netaddr_text(&a, text), 256);
	s->client.client_port = a.port;
	return a;
}

static sfsistat
on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *addr)
{
	struct session *s = session_of(ctx);
	const char *resolved;
	struct netaddr a;

	if (s == NULL)
		s = session_new(ctx);
	if (s == NULL || s->connected)
		return SMFIS_TEMPFAIL;
	s->connected = true;
	resolved = session_macro(ctx, "{client_resolve}");
	s->client.client_name = name == NULL || name[0] == '[' ||
	    (resolved != NULL && strcasecmp(resolved, "OK") != 0) ?
	    text_kept("unknown", TEXT_MAX) : text_kept(name, TEXT_MAX);
	a = client_address(s, addr);
	pmilter_restrict_client(ctx, s->restrictions, &a, &s->client);
	if (atomic_load(&server.sessions) <=
	    (unsigned)server.cf->postern_milter_session_limit)
		return session_restricted(ctx, s, STAGE_CLIENT, nothing);
	pmilter_note(true, mem_printf("too many connections of the mail "
	    "server: postern_milter_session_limit is %lld",
	    (long long)server.cf->postern_milter_session_limit));
	return server.start.mode == MODE_TAG ? SMFIS_ACCEPT : SMFIS_TEMPFAIL;
}

static sfsistat
on_helo(SMFICTX *ctx, char *helo)
{
	struct session *s = session_of(ctx);
	int rc;

	if (s == NULL)
		return SMFIS_TEMPFAIL;
	text_drop(&s->client.helo);
	s->client.helo = text_kept(helo, TEXT_MAX);
	rc = session_restricted(ctx, s, STAGE_HELO, nothing);
	return rc != SMFIS_CONTINUE ? rc : no_reply(s, SMFIP_NR_HELO);
}

static sfsistat
on_mail(SMFICTX *ctx, char **argv)
{
	struct session *s = session_of(ctx);
	int rc;

	if (s == NULL || argv[0] == NULL)
		return SMFIS_TEMPFAIL;
	message_begin(s, argv);
	rc = session_restricted(ctx, s, STAGE_MAIL, nothing);
	if (rc == SMFIS_CONTINUE)
		return no_reply(s, SMFIP_NR_MAIL);
	message_clear(s);
	return rc;
}

static sfsistat
on_rcpt(SMFICTX *ctx, char **argv)
{
	struct session *s = session_of(ctx);
	struct view addr;
	int rc;

	if (s == NULL || !s->begun || argv[0] == NULL)
		return SMFIS_TEMPFAIL;
	addr = session_path(argv[0]);
	rc = session_restricted(ctx, s, STAGE_RCPT, addr);
	if (rc != SMFIS_CONTINUE) {
		text_drop(&addr);
		return rc;
	}
	message_rcpt(s, argv[0], addr);
	return no_reply(s, SMFIP_NR_RCPT);
}

static sfsistat
on_data(SMFICTX *ctx)
{
	struct session *s = session_of(ctx);

	if (s == NULL || !s->begun)
		return SMFIS_TEMPFAIL;
	return session_restricted(ctx, s, STAGE_DATA, nothing);
}

static sfsistat
on_header(SMFICTX *ctx, char *name, char *value)
{
	struct session *s = session_of(ctx);

	if (s == NULL || !s->begun)
		return SMFIS_TEMPFAIL;
	message_prepend(s);
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
	message_prepend(s);
	pmilter_text_body(&s->text, nothing);
	return no_reply(s, SMFIP_NR_EOH);
}

static sfsistat
on_body(SMFICTX *ctx, unsigned char *piece, size_t n)
{
	struct session *s = session_of(ctx);

	if (s == NULL || !s->begun)
		return SMFIS_TEMPFAIL;
	message_prepend(s);
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
	text_drop(&s->env.proto);
	text_drop(&s->env.login);
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
	text_drop(&s->client.client_name);
	text_drop(&s->client.client_addr);
	text_drop(&s->client.helo);
	pmilter_restrict_free(&s->restrictions);
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
		.xxfi_data = on_data,
		.xxfi_header = on_header, .xxfi_eoh = on_eoh,
		.xxfi_body = on_body, .xxfi_eom = on_eom,
		.xxfi_abort = on_abort, .xxfi_close = on_close,
		.xxfi_negotiate = on_negotiate };
	const char *file = pmilter_socket_path(s->socket);

	server.cf = cf;
	server.start = *s;
	message_start(cf);
	pmilter_restrict_start(cf, s->mode);
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
