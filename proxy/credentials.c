/*
 * The credentials role: it alone has the logins by which the relay gets into
 * other servers.
 *
 * The relay speaks with the world, so it gets no table of passwords: it asks
 * for the one login of the server it is connected to.  There is one such role
 * for each relay service that logs in, with the settings of that service, and
 * it answers the relays of that service only.  A relay that was taken over
 * learns the logins of servers that it is told to deliver to, or whose names it
 * guesses, one by one and counted; not who else there is, and not those of
 * another service.  The exchange with the server is the relay's: whoever reads
 * a hostile server's challenges should not be the one who has all passwords.
 *
 * The tables are read before the jail, as root: their files need no other
 * reader.  In it there is no network, and no file but those of tokens, if
 * smtp_sasl_token_directory, which is its root directory then, is set: tokens
 * are written anew by others every hour.  A changed table makes a new instance.
 * No log line has a password, and memory that one passed through is
 * overwritten.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/role.h"
#include "lib/sasl.h"
#include "lib/table_client.h"
#include "proxy/credentials_find.h"
#include "proxy/credentials_refused.h"
#include "proxy/credentials_token.h"
#include "rules/table_ask.h"

#define QUESTIONS_MAX	4096u	/* of one relay that wait for a table */
#define RENEW_SLACK_MS	5000	/* after the time limit of the command */

struct question {
	TAILQ_ENTRY(question) link;
	struct relay_peer *peer;
	uint32_t tag;
	char *sender, *next_hop, *host;
	struct credentials_about about;
	struct table_known *known;	/* NULL: there are no such tables */
	struct table_asking *asking;
	bool refused;			/* what we told before */
	bool renewed;			/* the command was run, or waited for */
	char *waiting;			/* NULL, or for this token */
	TAILQ_ENTRY(question) waiting_link;
	struct event limit;
};

struct relay_peer {
	struct chan *chan;
	TAILQ_HEAD(, question) questions;
	size_t n;
};

static struct {
	const struct conf *cf;
	struct table_list passwords, tokens;
	TAILQ_HEAD(, question) waiting;
	size_t n_relays;
	uint64_t asked, found, failed;
} role;

static void
look_for_end(void)
{
	if (role_phase() == PHASE_RETIRING && role.n_relays == 0)
		role_exit();
}

/* -- questions ------------------------------------------------------------- */

static void
question_wait_no_more(struct question *q)
{
	if (q->waiting == NULL)
		return;
	TAILQ_REMOVE(&role.waiting, q, waiting_link);
	event_del(&q->limit);
	free(q->waiting);
	q->waiting = NULL;
}

static void
question_free(struct question *q)
{
	question_wait_no_more(q);
	TAILQ_REMOVE(&q->peer->questions, q, link);
	q->peer->n--;
	table_ask_cancel(&q->asking);
	table_known_free(&q->known);
	free(q->sender);
	free(q->next_hop);
	free(q->host);
	free(q);
}

static void
question_answer(struct question *q, enum credentials answer,
    struct view user, struct view secret, const char *why)
{
	struct buf *b = chan_begin(q->peer->chan, MSG_CREDENTIALS_ARE);

	role.found += answer == CREDENTIALS_PASSWORD ||
	    answer == CREDENTIALS_TOKEN;
	role.failed += answer == CREDENTIALS_FAILED;
	put_u32(b, q->tag);
	put_u8(b, (uint8_t)answer);
	put_view(b, user);
	put_view(b, secret);
	put_view(b, view_head(view_of(why), SASL_REASON_MAX));
	chan_end(q->peer->chan);
	question_free(q);
}

static void
question_without(struct question *q, enum credentials answer, const char *why)
{
	question_answer(q, answer, view_of(""), view_of(""), why);
}

/* -- tokens ---------------------------------------------------------------- */

/* The file as it is now; NULL: it is in b, and *ret_written when it was
 * written. */
static const char *
token_load(struct view name, struct buf *b, int64_t *ret_written)
{
	bool locked = *role_root() != '\0';
	char *path = mem_printf("%s/%.*s", locked ? "" :
	    role.cf->smtp_sasl_token_directory, VIEW_ARGS(name));
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	const char *why = NULL;
	ssize_t n = -1;

	free(path);
	if (fd < 0)
		return strerror(errno);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		why = "not a regular file";
	else if ((st.st_mode & S_IWOTH) != 0)
		why = "everybody may write to it";
	else if (st.st_size > (off_t)TOKEN_TEXT_MAX)
		why = "the file is too large";
	else if ((n = read(fd, b->p, TOKEN_TEXT_MAX)) < 0)
		why = strerror(errno);
	(void)close(fd);
	if (why != NULL)
		return why;
	b->n = (size_t)n;
	*ret_written = (int64_t)st.st_mtime;
	return NULL;
}

static void question_go_on(struct question *q);

static void
question_renewed(struct question *q)
{
	question_wait_no_more(q);
	q->renewed = true;
	question_go_on(q);
}

/* Master has not told what came of it. */
static void
question_on_limit(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	question_renewed(arg);
}

static void
token_stale(struct view name)
{
	struct buf *b;

	if (role_control() == NULL)
		return;
	b = chan_begin(role_control(), MSG_TOKEN_STALE);
	put_view(b, name);
	chan_end(role_control());
}

static bool
token_may_be_renewed(struct view name)
{
	return *role.cf->smtp_sasl_token_command != '\0' &&
	    token_name_plain(name) && role_control() != NULL;
}

static void
question_wait(struct question *q, struct view name)
{
	const struct question *o;

	TAILQ_FOREACH(o, &role.waiting, waiting_link)
		if (view_is(name, o->waiting))
			break;
	if (o == NULL)
		token_stale(name);
	q->waiting = mem_copy(name);
	TAILQ_INSERT_TAIL(&role.waiting, q, waiting_link);
	event_assign(&q->limit, loop_base(), -1, 0, question_on_limit, q);
	event_add(&q->limit, loop_timeout(
	    role.cf->smtp_sasl_token_command_time_limit + RENEW_SLACK_MS));
}

static void
credentials_control(struct chan_in *m)
{
	struct question *q, *next;
	struct view name;

	if (m->type != MSG_TOKEN_TRIED)
		return;
	name = cursor_view(&m->body);
	if (!chan_check(role_control(), m))
		return;
	/* One that goes on does not wait again, and ends no other. */
	for (q = TAILQ_FIRST(&role.waiting); q != NULL; q = next) {
		next = TAILQ_NEXT(q, waiting_link);
		if (view_is(name, q->waiting))
			question_renewed(q);
	}
}

/* entry: "user:file" */
static void
question_token(struct question *q, struct view user, struct view name)
{
	bool renewable = token_may_be_renewed(name), there;
	int64_t now = clock_wall().us / 1000000, written = 0;
	struct token token;
	const char *why;
	struct buf b;

	buf_init(&b, TOKEN_TEXT_MAX);
	ensure(buf_room(&b, TOKEN_TEXT_MAX) != NULL);
	why = !token_name_good(name) ? "not the name of a file" :
	    token_load(name, &b, &written);
	there = why == NULL;
	if (why == NULL)
		why = token_read(buf_view(&b), written, &token);
	if (why == NULL && token.expires > 0 && token.expires <= now)
		why = "the token has expired";
	if (renewable && there && !q->renewed && (why != NULL || q->refused)) {
		question_wait(q, name);
	} else if (why == NULL) {
		/* The next one shall not have to wait. */
		if (renewable && !q->renewed && token.expires > 0 &&
		    (token.expires - now) * 1000 <
		    role.cf->smtp_sasl_token_refresh_time)
			token_stale(name);
		question_answer(q, CREDENTIALS_TOKEN, user, token.text, "");
	} else {
		log_warn("token %s: %s", log_safe(view_head(name, 100)), why);
		question_without(q, CREDENTIALS_FAILED, why);
	}
	explicit_bzero(b.p, b.cap);
	buf_free(&b);
}

/* What the server said of it before; NULL: nothing that counts. */
static const char *
question_refused(const struct question *q, struct view user,
    struct view secret)
{
	const struct refused_login l = { q->about.host, user, secret,
		q->about.port };

	return *role.cf->smtp_sasl_auth_cache_name != '\0' ? refused_find(&l,
	    role.cf->smtp_sasl_auth_cache_time, loop_now()) : NULL;
}

static void
question_found(struct question *q, struct view entry, const struct table *t,
    unsigned line, bool token)
{
	struct view user, secret;
	const char *said;

	if (credentials_split(entry, &user, &secret)) {
		said = token ? NULL : question_refused(q, user, secret);
		if (said != NULL)
			question_without(q, CREDENTIALS_REFUSED, said);
		else if (token)
			question_token(q, user, secret);
		else
			question_answer(q, CREDENTIALS_PASSWORD, user, secret,
			    "");
		return;
	}
	/* Not what it is: it may be a password. */
	log_warn("%s:%u: this is not user:password", table_origin(t), line);
	question_without(q, CREDENTIALS_FAILED, "an entry is malformed");
}

static void
question_told(void *arg)
{
	struct question *q = arg;

	q->asking = NULL;
	question_go_on(q);
}

static void
question_go_on(struct question *q)
{
	const struct table *t = NULL;
	struct table_need need;
	enum table_answer a;
	struct buf value;
	unsigned line = 0;
	bool needs = false, token = false;

	buf_init(&value, CREDENTIALS_VALUE_MAX);
	ensure(buf_room(&value, CREDENTIALS_VALUE_MAX) != NULL);
	if (q->known != NULL)
		table_known_begin(q->known);
	a = credentials_find(&role.tokens, role.cf->recipient_delimiter,
	    &q->about, &value, &t, &line);
	token = a == TABLE_FOUND;
	if (a == TABLE_NOT_FOUND)
		a = credentials_find(&role.passwords,
		    role.cf->recipient_delimiter, &q->about, &value, &t,
		    &line);
	if (q->known != NULL)
		needs = table_known_end(q->known, &need);
	if (needs)
		q->asking = table_ask_all(q->known, question_told, q);
	else if (a == TABLE_FOUND)
		question_found(q, buf_view(&value), t, line, token);
	else if (a == TABLE_FAILED)
		question_without(q, CREDENTIALS_FAILED,
		    "a table cannot be asked");
	else
		question_without(q, CREDENTIALS_NONE, "");
	explicit_bzero(value.p, value.cap);
	buf_free(&value);
}

/* -- relays ---------------------------------------------------------------- */

/* Only who has been told a password can say that it is refused. */
static void
peer_refused(struct chan *c, struct chan_in *m)
{
	struct refused_login l = { .host = cursor_view(&m->body) };
	struct view said;

	l.port = cursor_u16(&m->body);
	l.user = cursor_view(&m->body);
	l.secret = cursor_view(&m->body);
	said = cursor_view(&m->body);
	if (!chan_check(c, m))
		return;
	if (l.host.n > 255 || l.user.n > SASL_LOGIN_MAX ||
	    l.secret.n > CREDENTIALS_VALUE_MAX || said.n > SASL_REASON_MAX ||
	    view_has(l.host, '\0') || view_has(l.user, '\0') ||
	    view_has(l.secret, '\0') || view_has(said, '\0'))
		chan_blame(c, "a refusal that is none");
	else
		refused_put(&l, said, loop_now());
}

static void
peer_asks(struct chan *c, struct chan_in *m, struct relay_peer *p)
{
	uint32_t tag = cursor_u32(&m->body);
	struct view sender = cursor_view(&m->body);
	struct view next_hop = cursor_view(&m->body);
	struct view host = cursor_view(&m->body);
	uint16_t port = cursor_u16(&m->body);
	bool refused = cursor_u8(&m->body) != 0;
	struct question *q;

	if (!chan_check(c, m))
		return;
	if (sender.n > CREDENTIALS_KEY_MAX || host.n > 255 ||
	    p->n >= QUESTIONS_MAX) {
		chan_blame(c, "a question for a login that is none");
		return;
	}
	role.asked++;
	q = mem_alloc(sizeof *q);
	q->peer = p;
	q->tag = tag;
	q->refused = refused;
	q->sender = mem_copy(sender);
	q->next_hop = mem_copy(view_head(next_hop, CREDENTIALS_KEY_MAX + 1));
	q->host = mem_copy(host);
	q->about = (struct credentials_about){ view_of(q->sender),
		view_of(q->next_hop), view_of(q->host), port };
	if (table_remote_opened() > 0)
		q->known = table_known_gather();
	TAILQ_INSERT_TAIL(&p->questions, q, link);
	p->n++;
	question_go_on(q);
}

static void
peer_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	if (m->type == MSG_LOGIN_REFUSED)
		peer_refused(c, m);
	else
		peer_asks(c, m, arg);
}

static void
peer_on_close(struct chan *c, void *arg)
{
	struct relay_peer *p = arg;
	struct question *q, *next;

	for (q = TAILQ_FIRST(&p->questions); q != NULL; q = next) {
		next = TAILQ_NEXT(q, link);
		question_free(q);
	}
	chan_free(&c);
	free(p);
	role.n_relays--;
	look_for_end();
}

static void
credentials_peer(const struct role_peer *peer, int fd)
{
	struct relay_peer *p;

	if (peer->kind == ROLE_TABLE) {
		table_client_peer(peer, fd);
		return;
	}
	/* Of no other service. */
	if (peer->kind != ROLE_RELAY || peer->service != role_service()) {
		close(fd);
		return;
	}
	p = mem_alloc(sizeof *p);
	TAILQ_INIT(&p->questions);
	p->chan = chan_new(fd, ROLE_CREDENTIALS, ROLE_RELAY, peer->pid,
	    peer_on_msg, peer_on_close, p);
	chan_secret(p->chan);
	role.n_relays++;
}

/* -- the role -------------------------------------------------------------- */

/* Files may be opened only where there are some. */
static struct role_def def;

static void
credentials_load(void)
{
	const struct conf *cf = role.cf = role_conf();

	TAILQ_INIT(&role.waiting);
	table_client_init(ROLE_CREDENTIALS, cf->lookup_table_time_limit);
	if (!table_list_open(cf->smtp_sasl_password_maps,
	    cf->config_directory, &role.passwords, log_report_errors, NULL))
		fatal("smtp_sasl_password_maps cannot be used");
	if (!table_list_open(cf->smtp_sasl_token_maps,
	    cf->config_directory, &role.tokens, log_report_errors, NULL))
		fatal("smtp_sasl_token_maps cannot be used");
	if (role.passwords.n == 0 && role.tokens.n == 0)
		log_warn("smtp_sasl_auth_enable is yes, but "
		    "smtp_sasl_password_maps is empty");
	if (*cf->smtp_sasl_token_directory != '\0')
		def.jail.allow |= JAIL_READ_FILES;
	else if (role.tokens.n > 0)
		fatal("smtp_sasl_token_maps needs smtp_sasl_token_directory");
}

static void
credentials_status(struct buf *b)
{
	(void)buf_printf(b, "asked %llu\nfound %llu\nfailed %llu\n",
	    (unsigned long long)role.asked, (unsigned long long)role.found,
	    (unsigned long long)role.failed);
}

int
main(int argc, char **argv)
{
	def.kind = ROLE_CREDENTIALS;
	def.load = credentials_load;
	def.peer = credentials_peer;
	def.retire = look_for_end;
	def.control = credentials_control;
	def.status = credentials_status;
	return role_main(&def, argc, argv);
}
