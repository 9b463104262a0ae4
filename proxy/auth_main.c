#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/auth.h"

#define SERVERS_MAX	64u
#define HASH		1024u

struct auth_peer {
	struct chan *c;
	struct auth_peer *next;
};

static struct {
	struct auth_server server[SERVERS_MAX];
	unsigned n_servers;
	struct auth_peer *peers;
	struct auth_talk *slot[AUTH_MAX];
	unsigned n_talks, hint;
	uint32_t serial;
	struct auth_talk *hash[HASH];
	TAILQ_HEAD(, auth_talk) waiting;
	uint64_t good, bad, failed;
} auth = { .waiting = TAILQ_HEAD_INITIALIZER(auth.waiting) };

/* -- conversations ---------------------------------------------------------- */

static struct auth_talk **
talk_place(const struct auth_peer *p, uint32_t conversation)
{
	struct auth_talk **t = &auth.hash[conversation % HASH];

	while (*t != NULL && ((*t)->peer != p ||
	    (*t)->conversation != conversation))
		t = &(*t)->next;
	return t;
}

struct auth_talk *
auth_talk_find(uint32_t id)
{
	struct auth_talk *t = auth.slot[id % AUTH_MAX];

	return t != NULL && t->id == id ? t : NULL;
}

static struct auth_talk *
talk_new(struct auth_peer *p, uint32_t conversation, struct auth_server *s)
{
	struct auth_talk *t = mem_alloc(sizeof *t);

	ensure(auth.n_talks < AUTH_MAX);
	while (auth.slot[auth.hint % AUTH_MAX] != NULL)
		auth.hint++;
	/* A number is not used again for long: a late answer is for nobody. */
	do {
		t->id = auth.serial++ * AUTH_MAX + auth.hint % AUTH_MAX;
	} while (t->id == 0);
	auth.slot[auth.hint++ % AUTH_MAX] = t;
	auth.n_talks++;
	t->server = s;
	t->peer = p;
	t->conversation = conversation;
	t->next = auth.hash[conversation % HASH];
	auth.hash[conversation % HASH] = t;
	t->waits = AUTH_WAITS_SERVER;
	t->since = loop_now();
	TAILQ_INSERT_TAIL(&auth.waiting, t, link);
	return t;
}

static void
talk_free(struct auth_talk *t)
{
	*talk_place(t->peer, t->conversation) = t->next;
	if (t->waits == AUTH_WAITS_SERVER)
		TAILQ_REMOVE(&auth.waiting, t, link);
	auth.slot[t->id % AUTH_MAX] = NULL;
	auth.n_talks--;
	free(t);
}

static void
say(const struct auth_peer *p, uint32_t conversation, enum auth_says says,
    struct view text, struct view login)
{
	struct buf *b = chan_begin(p->c, MSG_AUTH_SAYS);

	(void)put_u32(b, conversation);
	(void)put_u8(b, (uint8_t)says);
	(void)put_view(b, text);
	(void)put_view(b, login);
	chan_end(p->c);
}

void
auth_say(struct auth_talk *t, enum auth_says says, struct view text,
    struct view login)
{
	ensure(t->waits == AUTH_WAITS_SERVER || says != AUTH_SAYS_CHALLENGE);
	if (says != AUTH_SAYS_CHALLENGE)
		text = view_head(text, SASL_REASON_MAX);
	if (!sasl_login_good(login))
		login = view_of("");
	say(t->peer, t->conversation, says, text, login);
	if (says == AUTH_SAYS_CHALLENGE) {
		t->waits = AUTH_WAITS_CLIENT;
		TAILQ_REMOVE(&auth.waiting, t, link);
		return;
	}
	*(says == AUTH_SAYS_SUCCESS ? &auth.good : says ==
	    AUTH_SAYS_FAILURE ? &auth.bad : &auth.failed) += 1;
	talk_free(t);
}

unsigned
auth_fail_all(struct auth_server *s, const char *why)
{
	struct auth_talk *t;
	unsigned i, n = 0;

	for (i = 0; i < AUTH_MAX && auth.n_talks > 0; i++) {
		t = auth.slot[i];
		if (t == NULL || t->server != s)
			continue;
		n++;
		auth_say(t, AUTH_SAYS_TEMPORARY, view_of(why), view_of(""));
	}
	return n;
}

struct auth_talk *
auth_oldest(const struct auth_server *s)
{
	struct auth_talk *t;

	TAILQ_FOREACH(t, &auth.waiting, link)
		if (t->server == s)
			return t;
	return NULL;
}

/* -- smtpds ----------------------------------------------------------------- */

static void
offer_to(const struct auth_peer *p, const struct auth_server *s)
{
	struct buf *b = chan_begin(p->c, MSG_AUTH_OFFER);
	uint32_t i;

	(void)put_view(b, view_of(s->name));
	(void)put_u32(b, s->n);
	for (i = 0; i < s->n; i++) {
		(void)put_view(b, view_of(s->mechanisms[i].name));
		(void)put_u32(b, s->mechanisms[i].properties);
	}
	chan_end(p->c);
}

void
auth_offer(struct auth_server *s)
{
	struct auth_peer *p;

	s->told = true;
	for (p = auth.peers; p != NULL; p = p->next)
		offer_to(p, s);
}

static struct auth_server *
server_find(struct view name)
{
	unsigned i;

	for (i = 0; i < auth.n_servers; i++)
		if (view_is(name, auth.server[i].name))
			return &auth.server[i];
	return NULL;
}

static void
on_begin(struct auth_peer *p, struct chan_in *m, uint32_t conversation)
{
	struct auth_server *s = server_find(cursor_view(&m->body));
	struct auth_begin a = { .tls = false };

	a.mechanism = cursor_view(&m->body);
	a.service = cursor_view(&m->body);
	a.realm = cursor_view(&m->body);
	a.tls = cursor_u8(&m->body) != 0;
	a.tls_name = cursor_view(&m->body);
	a.client_addr = cursor_view(&m->body);
	a.client_port = cursor_u16(&m->body);
	a.server_addr = cursor_view(&m->body);
	a.server_port = cursor_u16(&m->body);
	a.has_response = cursor_u8(&m->body) != 0;
	a.response = cursor_view(&m->body);
	if (!chan_check(p->c, m))
		return;
	if (s == NULL || !sasl_mechanism_good(a.mechanism) ||
	    a.service.n > 255 || a.realm.n > 255 || a.tls_name.n > 255 ||
	    a.client_addr.n > 100 || a.server_addr.n > 100 ||
	    a.response.n > SASL_TEXT_MAX || !sasl_base64_good(a.response) ||
	    *talk_place(p, conversation) != NULL) {
		chan_blame(p->c, "bad begin of an authentication");
		return;
	}
	if (auth.n_talks == AUTH_MAX) {
		log_warn("more than %u authentications at a time", AUTH_MAX);
		say(p, conversation, AUTH_SAYS_TEMPORARY,
		    view_of("too many at a time"), view_of(""));
		return;
	}
	auth_backend_begin(talk_new(p, conversation, s), &a);
}

static void
on_go_on(struct auth_peer *p, struct chan_in *m, uint32_t conversation)
{
	struct auth_talk *t = *talk_place(p, conversation);
	struct view response = cursor_view(&m->body);

	if (!chan_check(p->c, m))
		return;
	if (response.n > SASL_TEXT_MAX || !sasl_base64_good(response) ||
	    (t != NULL && t->waits != AUTH_WAITS_CLIENT)) {
		chan_blame(p->c, "bad response in an authentication");
		return;
	}
	if (t == NULL) {
		/* The server ended it, or went away, before this came. */
		say(p, conversation, AUTH_SAYS_TEMPORARY,
		    view_of("Connection lost to authentication server"),
		    view_of(""));
		return;
	}
	t->waits = AUTH_WAITS_SERVER;
	t->since = loop_now();
	TAILQ_INSERT_TAIL(&auth.waiting, t, link);
	auth_backend_go_on(t, response);
}

static void
on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	uint32_t conversation = cursor_u32(&m->body);
	struct auth_peer *p = arg;
	struct auth_talk *t;

	switch ((int)m->type) {
	case MSG_AUTH_BEGIN:
		on_begin(p, m, conversation);
		break;
	case MSG_AUTH_GO_ON:
		on_go_on(p, m, conversation);
		break;
	case MSG_AUTH_STOP:
		if (!chan_check(c, m))
			return;
		t = *talk_place(p, conversation);
		if (t == NULL)
			return;
		auth_backend_stop(t);
		talk_free(t);
		break;
	default:
		chan_blame(c, "unexpected message");
		break;
	}
}

static void
look_for_end(void)
{
	if (role_phase() == PHASE_RETIRING && auth.peers == NULL)
		role_exit();
}

static void
on_close(struct chan *c, void *arg)
{
	struct auth_peer *p = arg, **at;
	unsigned i;

	(void)c;
	for (i = 0; i < AUTH_MAX && auth.n_talks > 0; i++)
		if (auth.slot[i] != NULL && auth.slot[i]->peer == p) {
			auth_backend_stop(auth.slot[i]);
			talk_free(auth.slot[i]);
		}
	for (at = &auth.peers; *at != p; at = &(*at)->next)
		ensure(*at != NULL);
	*at = p->next;
	chan_free(&p->c);
	free(p);
	look_for_end();
}

static void
auth_peer(const struct role_peer *peer, int fd)
{
	struct auth_peer *p;
	unsigned i;

	if (peer->kind != ROLE_SMTPD) {
		close(fd);
		return;
	}
	p = mem_alloc(sizeof *p);
	p->c = chan_new(fd, ROLE_AUTH, ROLE_SMTPD, peer->pid, on_msg,
	    on_close, p);
	chan_secret(p->c);
	p->next = auth.peers;
	auth.peers = p;
	for (i = 0; i < auth.n_servers; i++)
		if (auth.server[i].told)
			offer_to(p, &auth.server[i]);
}

/* -- the role --------------------------------------------------------------- */

static void
auth_load(void)
{
	struct view rest = view_of(role_conf()->auth_servers), word;
	struct auth_server *s;
	bool ok = true;

	while ((word = view_word(&rest, " ")).n > 0) {
		if (auth.n_servers == SERVERS_MAX)
			fatal("more than %u authentication servers",
			    SERVERS_MAX);
		s = &auth.server[auth.n_servers++];
		s->name = mem_copy(word);
		ok = auth_backend_open(s, role_conf()) && ok;
	}
	if (!ok)
		fatal("the configuration cannot be used");
}

static void
auth_status(struct buf *b)
{
	unsigned i;

	(void)buf_printf(b, "good %llu\nbad %llu\nfailed %llu\nopen %u\n",
	    (unsigned long long)auth.good, (unsigned long long)auth.bad,
	    (unsigned long long)auth.failed, auth.n_talks);
	for (i = 0; i < auth.n_servers; i++)
		(void)buf_printf(b, "mechanisms %u %s\n", auth.server[i].n,
		    log_safe(view_of(auth.server[i].name)));
}

int
main(int argc, char **argv)
{
	struct role_def def = auth_backend_role;

	def.load = auth_load;
	def.peer = auth_peer;
	def.retire = look_for_end;
	def.status = auth_status;
	return role_main(&def, argc, argv);
}
