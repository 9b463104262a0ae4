/*
 * auth-cyrus: the server side of libsasl2.  The library asks files, saslauthd
 * or a database and waits for them, so that is done by threads: one step of one
 * conversation at a time, on a connection (sasl_conn_t) that nobody else
 * touches meanwhile.  A step that takes too long is given up; its thread is
 * free again when the library returns.
 */
#include <errno.h>
#include <pthread.h>
#include <sasl/sasl.h>
#include <sasl/saslutil.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/auth.h"

#define THREADS		8u
#define WHY_MAX		256u

/* One conversation; of the loop's thread while it is not worked on. */
struct cyrus {
	uint32_t id;		/* auth_talk_find(); 0: given up */
	sasl_conn_t *conn;
	bool working;
	bool queued;		/* under the lock: no thread has it yet */
	char mechanism[SASL_MECHANISM_MAX + 1];
	char service[256], realm[256], client[128], server[128];
	/* The step. */
	bool first, has_response;
	size_t n;
	char response[SASL_TEXT_MAX];	/* decoded */
	/* What came of it. */
	int outcome;
	size_t text_n;
	char text[SASL_TEXT_MAX + 1];	/* challenge, in BASE64 */
	char login[SASL_LOGIN_MAX + 1], why[WHY_MAX];
	TAILQ_ENTRY(cyrus) link;
};
TAILQ_HEAD(cyrus_list, cyrus);

static struct {
	struct auth_server *server;
	const struct conf *cf;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct cyrus_list waiting, done;	/* under the lock */
	int event_fd;
	struct event event, timer;
} work = { .lock = PTHREAD_MUTEX_INITIALIZER,
	.wake = PTHREAD_COND_INITIALIZER,
	.waiting = TAILQ_HEAD_INITIALIZER(work.waiting),
	.done = TAILQ_HEAD_INITIALIZER(work.done), .event_fd = -1 };

/* -- for the library -------------------------------------------------------- */

static _Thread_local char said[WHY_MAX];

/* What it would log goes into our log, when the step is over.  Its more
 * talkative levels show passwords. */
static int
on_log(void *context, int level, const char *message)
{
	(void)context;
	if (message != NULL && level > SASL_LOG_NONE && level <= SASL_LOG_WARN)
		(void)snprintf(said, sizeof said, "%s", message);
	return SASL_OK;
}

static int
on_path(void *context, char **ret)
{
	(void)context;
	*ret = mem_strdup(work.cf->cyrus_sasl_config_path);
	return SASL_OK;
}

/* Its type for functions has no arguments. */
typedef int callback(void);
typedef void any_function(void);

static void *
mutex_new(void)
{
	pthread_mutex_t *m = mem_alloc(sizeof *m);

	(void)pthread_mutex_init(m, NULL);
	return m;
}

static int
mutex_lock(void *m)
{
	return pthread_mutex_lock(m) == 0 ? SASL_OK : SASL_FAIL;
}

static int
mutex_unlock(void *m)
{
	return pthread_mutex_unlock(m) == 0 ? SASL_OK : SASL_FAIL;
}

static void
mutex_free(void *m)
{
	(void)pthread_mutex_destroy(m);
	free(m);
}

/* -- a thread --------------------------------------------------------------- */

static int
conn_new(struct cyrus *c)
{
	sasl_security_properties_t any = { .max_ssf = 0 };
	int rc = sasl_server_new(c->service, work.cf->myhostname,
	    c->realm[0] != '\0' ? c->realm : NULL, c->server, c->client, NULL,
	    0, &c->conn);

	/* Which mechanisms may be used smtpd knows. */
	return rc == SASL_OK ? sasl_setprop(c->conn, SASL_SEC_PROPS, &any) :
	    rc;
}

static int
step_name(struct cyrus *c)
{
	const void *name = NULL;
	int rc = sasl_getprop(c->conn, SASL_USERNAME, &name);

	if (rc != SASL_OK || name == NULL)
		return SASL_FAIL;
	if (!sasl_login_good(view_of(name)))
		return SASL_BADAUTH;
	(void)snprintf(c->login, sizeof c->login, "%s", (const char *)name);
	return SASL_OK;
}

static void
step(struct cyrus *c)
{
	const char *out = NULL;
	unsigned out_n = 0, n;
	int rc = SASL_OK;

	said[0] = '\0';
	c->text_n = 0;
	if (c->conn == NULL)
		rc = conn_new(c);
	if (rc == SASL_OK && c->first)
		rc = sasl_server_start(c->conn, c->mechanism,
		    c->has_response ? c->response : NULL, (unsigned)c->n,
		    &out, &out_n);
	else if (rc == SASL_OK)
		rc = sasl_server_step(c->conn, c->response, (unsigned)c->n,
		    &out, &out_n);
	explicit_bzero(c->response, sizeof c->response);
	if (rc == SASL_OK)
		rc = step_name(c);
	else if (rc == SASL_CONTINUE && out_n > 0) {
		if (sasl_encode64(out, out_n, c->text, sizeof c->text, &n) ==
		    SASL_OK && n <= SASL_TEXT_MAX)
			c->text_n = n;
		else
			rc = SASL_FAIL;
	}
	c->outcome = rc;
	(void)snprintf(c->why, sizeof c->why, "%s", said);
}

static void *
worker(void *arg)
{
	const uint64_t one = 1;
	struct cyrus *c;

	(void)arg;
	for (;;) {
		(void)pthread_mutex_lock(&work.lock);
		while ((c = TAILQ_FIRST(&work.waiting)) == NULL)
			(void)pthread_cond_wait(&work.wake, &work.lock);
		TAILQ_REMOVE(&work.waiting, c, link);
		c->queued = false;
		(void)pthread_mutex_unlock(&work.lock);
		step(c);
		(void)pthread_mutex_lock(&work.lock);
		TAILQ_INSERT_TAIL(&work.done, c, link);
		(void)pthread_mutex_unlock(&work.lock);
		if (write(work.event_fd, &one, sizeof one) < 0 &&
		    errno != EAGAIN)
			abort();
	}
	return NULL;
}

/* -- the loop's thread ------------------------------------------------------ */

static void
cyrus_free(struct cyrus *c)
{
	if (c->conn != NULL)
		sasl_dispose(&c->conn);
	explicit_bzero(c, sizeof *c);
	free(c);
}

static void
cyrus_step(struct cyrus *c, bool has_response, struct view response)
{
	unsigned n = 0;

	c->has_response = has_response;
	if (response.n > 0 && sasl_decode64(response.p, (unsigned)response.n,
	    c->response, sizeof c->response, &n) != SASL_OK)
		panic("BASE64 that was checked is none");
	c->n = n;
	c->working = true;
	(void)pthread_mutex_lock(&work.lock);
	TAILQ_INSERT_TAIL(&work.waiting, c, link);
	c->queued = true;
	(void)pthread_cond_signal(&work.wake);
	(void)pthread_mutex_unlock(&work.lock);
}

/* Nobody can tell, or will for the moment. */
static bool
is_temporary(int rc)
{
	return rc == SASL_FAIL || rc == SASL_NOMEM || rc == SASL_TRYAGAIN ||
	    rc == SASL_UNAVAIL || rc == SASL_NOTINIT;
}

static void
cyrus_answer(struct cyrus *c, struct auth_talk *t)
{
	/* Not whether there is such a user. */
	int rc = c->outcome == SASL_NOUSER ? SASL_BADAUTH : c->outcome;
	enum auth_says says = rc == SASL_OK ? AUTH_SAYS_SUCCESS :
	    is_temporary(rc) ? AUTH_SAYS_TEMPORARY : AUTH_SAYS_FAILURE;

	c->first = false;
	if (rc == SASL_CONTINUE) {
		auth_say(t, AUTH_SAYS_CHALLENGE, view_make(c->text,
		    c->text_n), view_of(""));
		return;
	}
	if (c->why[0] != '\0' && says == AUTH_SAYS_TEMPORARY)
		log_warn("authentication by Cyrus SASL: %s",
		    log_safe(view_of(c->why)));
	auth_say(t, says, rc == SASL_OK ? view_of("") :
	    view_of(sasl_errstring(rc, NULL, NULL)), view_of(c->login));
	cyrus_free(c);
}

static void
timer_set(void)
{
	const struct auth_talk *t = auth_oldest(work.server);
	int64_t left = work.cf->smtpd_sasl_time_limit;

	if (t == NULL) {
		event_del(&work.timer);
		return;
	}
	left -= mono_since(t->since, loop_now()) / 1000;
	event_add(&work.timer, loop_timeout(left > 0 ? left : 1));
}

static void
on_done(evutil_socket_t fd, short what, void *arg)
{
	struct cyrus_list done = TAILQ_HEAD_INITIALIZER(done);
	struct auth_talk *t;
	struct cyrus *c;
	uint64_t n;

	(void)what;
	(void)arg;
	if (read(fd, &n, sizeof n) < 0 && errno != EAGAIN)
		panic("eventfd: %s", strerror(errno));
	(void)pthread_mutex_lock(&work.lock);
	TAILQ_CONCAT(&done, &work.done, link);
	(void)pthread_mutex_unlock(&work.lock);
	while ((c = TAILQ_FIRST(&done)) != NULL) {
		TAILQ_REMOVE(&done, c, link);
		c->working = false;
		t = c->id != 0 ? auth_talk_find(c->id) : NULL;
		if (t != NULL)
			cyrus_answer(c, t);
		else
			cyrus_free(c);
	}
	timer_set();
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct auth_talk *t;

	(void)fd;
	(void)what;
	(void)arg;
	while ((t = auth_oldest(work.server)) != NULL &&
	    mono_since(t->since, loop_now()) / 1000 >=
	    work.cf->smtpd_sasl_time_limit) {
		log_warn("authentication by Cyrus SASL: no answer in time");
		auth_backend_stop(t);
		auth_say(t, AUTH_SAYS_TEMPORARY, view_of("no answer in time"),
		    view_of(""));
	}
	timer_set();
}

void
auth_backend_begin(struct auth_talk *t, const struct auth_begin *a)
{
	struct cyrus *c = mem_alloc(sizeof *c);

	c->id = t->id;
	t->backend = c;
	c->first = true;
	(void)snprintf(c->mechanism, sizeof c->mechanism, "%.*s",
	    VIEW_ARGS(a->mechanism));
	(void)snprintf(c->service, sizeof c->service, "%.*s",
	    VIEW_ARGS(a->service));
	(void)snprintf(c->realm, sizeof c->realm, "%.*s", VIEW_ARGS(a->realm));
	(void)snprintf(c->client, sizeof c->client, "%.*s;%u",
	    VIEW_ARGS(a->client_addr), a->client_port);
	(void)snprintf(c->server, sizeof c->server, "%.*s;%u",
	    VIEW_ARGS(a->server_addr), a->server_port);
	cyrus_step(c, a->has_response, a->response);
	timer_set();
}

void
auth_backend_go_on(struct auth_talk *t, struct view response)
{
	cyrus_step(t->backend, true, response);
	timer_set();
}

void
auth_backend_stop(struct auth_talk *t)
{
	struct cyrus *c = t->backend;
	bool queued;

	(void)pthread_mutex_lock(&work.lock);
	queued = c->queued;
	if (queued)
		TAILQ_REMOVE(&work.waiting, c, link);
	(void)pthread_mutex_unlock(&work.lock);
	if (c->working && !queued)
		c->id = 0;	/* a thread has it; on_done() frees it */
	else
		cyrus_free(c);
}

/* -- the begin -------------------------------------------------------------- */

/* The mechanisms that are left under such a condition: "X Y". */
static const char *
list_under(sasl_conn_t *conn, unsigned flag)
{
	sasl_security_properties_t p = { .security_flags = flag };
	const char *list = NULL;

	if (sasl_setprop(conn, SASL_SEC_PROPS, &p) != SASL_OK ||
	    sasl_listmech(conn, NULL, "", " ", "", &list, NULL, NULL) !=
	    SASL_OK)
		return "";
	return list;
}

static bool
list_has(const char *list, struct view name)
{
	struct view rest = view_of(list), word;

	while ((word = view_word(&rest, " ")).n > 0)
		if (view_eq(word, name))
			return true;
	return false;
}

static void
server_mechanisms(struct auth_server *s, sasl_conn_t *conn)
{
	static const struct {
		unsigned flag;
		uint32_t property;
		bool has_if_listed;
	} tests[] = {
		{ SASL_SEC_NOPLAINTEXT, SASL_PLAINTEXT, false },
		{ SASL_SEC_NOACTIVE, SASL_ACTIVE, false },
		{ SASL_SEC_NODICTIONARY, SASL_DICTIONARY, false },
		{ SASL_SEC_NOANONYMOUS, SASL_ANONYMOUS, false },
		{ SASL_SEC_FORWARD_SECRECY, SASL_FORWARD_SECRECY, true },
		{ SASL_SEC_MUTUAL_AUTH, SASL_MUTUAL, true },
	};
	char *all = mem_strdup(list_under(conn, 0));
	struct view rest = view_of(all), word;
	const char *list;
	uint32_t i;
	size_t k;

	while ((word = view_word(&rest, " ")).n > 0)
		if (sasl_mechanism_good(word) && s->n < SASL_MECHANISMS_MAX)
			(void)snprintf(s->mechanisms[s->n++].name,
			    sizeof s->mechanisms[0].name, "%.*s",
			    VIEW_ARGS(word));
	for (k = 0; k < sizeof tests / sizeof tests[0]; k++) {
		list = list_under(conn, tests[k].flag);
		for (i = 0; i < s->n; i++)
			if (list_has(list, view_of(s->mechanisms[i].name)) ==
			    tests[k].has_if_listed)
				s->mechanisms[i].properties |=
				    tests[k].property;
	}
	free(all);
}

bool
auth_backend_open(struct auth_server *s, const struct conf *cf)
{
	static sasl_callback_t callbacks[3];
	sasl_conn_t *conn = NULL;
	int rc;

	work.server = s;
	work.cf = cf;
	callbacks[0] = (sasl_callback_t){ SASL_CB_LOG,
		(callback *)(any_function *)on_log, NULL };
	callbacks[1] = (sasl_callback_t){ SASL_CB_GETCONFPATH,
		(callback *)(any_function *)on_path, NULL };
	callbacks[2] = (sasl_callback_t){ SASL_CB_LIST_END, NULL, NULL };
	/* By default the library has a path of its own. */
	if (cf->cyrus_sasl_config_path[0] == '\0')
		callbacks[1] = callbacks[2];
	sasl_set_mutex(mutex_new, mutex_lock, mutex_unlock, mutex_free);
	rc = sasl_server_init(callbacks, s->name);
	if (rc == SASL_OK)
		rc = sasl_server_new("smtp", cf->myhostname, NULL, NULL, NULL,
		    NULL, 0, &conn);
	if (rc != SASL_OK) {
		log_error("Cyrus SASL: %s%s%s", sasl_errstring(rc, NULL, NULL),
		    said[0] != '\0' ? ": " : "", log_safe(view_of(said)));
		return false;
	}
	server_mechanisms(s, conn);
	sasl_dispose(&conn);
	if (s->n == 0)
		log_warn("Cyrus SASL has no mechanisms%s%s", said[0] != '\0' ?
		    ": " : "", log_safe(view_of(said)));
	s->told = true;
	event_assign(&work.timer, loop_base(), -1, 0, on_timer, NULL);
	return true;
}

static void
cyrus_start(void)
{
	pthread_t thread;
	sigset_t all, old;
	unsigned i;

	work.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (work.event_fd < 0)
		fatal("eventfd: %s", strerror(errno));
	event_assign(&work.event, loop_base(), work.event_fd,
	    EV_READ | EV_PERSIST, on_done, NULL);
	event_add(&work.event, NULL);
	(void)sigfillset(&all);
	(void)sigdelset(&all, SIGSYS);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, worker, NULL) != 0)
			fatal("cannot start a thread");
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}

const struct role_def auth_backend_role = {
	.kind = ROLE_AUTH,
	.start = cyrus_start,
	.jail = { .allow = JAIL_CONNECT | JAIL_THREADS | JAIL_READ_FILES |
	    JAIL_RESOLVE, .max_files = 1024, .groups = true },
};
