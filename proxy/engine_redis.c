/*
 * redis:/path/NAME.cf.  hiredis writes the requests and reads the replies; the
 * connection is ours, so that time and size have limits.
 */
#include <hiredis/hiredis.h>
#include <stdlib.h>

#include "lib/conf.h"
#include "lib/mem.h"
#include "proxy/engine_format.h"
#include "proxy/engine_net.h"

#define WORDS_MAX	16u	/* of a query */
#define ELEMENTS_MAX	10000
#define REPLY_MAX	(4u * ENGINE_VALUE_MAX)

struct redis {
	struct net net;
	struct engine_format *format;	/* for the results */
	char *word[WORDS_MAX];		/* the query's */
	unsigned words;
	char *user, *password, *database;
	int64_t timeout;
	redisReader *reader;
};

static void
redis_close(void *h)
{
	struct redis *r = h;
	unsigned i;

	net_free(&r->net);
	engine_format_free(&r->format);
	for (i = 0; i < r->words; i++)
		free(r->word[i]);
	if (r->reader != NULL)
		redisReaderFree(r->reader);
	free(r->user);
	explicit_bzero(r->password, strlen(r->password));
	free(r->password);
	free(r->database);
	free(r);
}

static void
redis_words(struct redis *r, const struct engine_conf *c)
{
	struct view rest = view_of(engine_conf_str(c, "query", "GET %s"));
	struct view word;

	while ((word = view_word(&rest, " \t")).n > 0) {
		if (r->words == WORDS_MAX) {
			engine_conf_wrong(c, "query: more than %u words",
			    WORDS_MAX);
			return;
		}
		r->word[r->words++] = mem_copy(word);
	}
	if (r->words > 0 && strchr(r->word[0], '%') != NULL)
		engine_conf_wrong(c, "query: the command must not depend on "
		    "the key");
}

/* The number of elements comes before them, and room is made for it. */
#if HIREDIS_MAJOR < 1
typedef int redis_count;
#else
typedef size_t redis_count;
#endif
static redisReplyObjectFunctions bounded;
static void *(*make_array)(const redisReadTask *, redis_count);

static void *
array_bounded(const redisReadTask *task, redis_count n)
{
	return n > ELEMENTS_MAX ? NULL : make_array(task, n);
}

/* Before there are threads. */
static void
reader_limits_make(void)
{
	redisReader *reader = redisReaderCreate();

	if (make_array != NULL || reader == NULL)
		return;
	bounded = *reader->fn;
	make_array = bounded.createArray;
	bounded.createArray = array_bounded;
	redisReaderFree(reader);
}

static bool
redis_open(const struct engine_conf *c, void **ret, struct buf *err)
{
	struct redis *r = mem_alloc(sizeof *r);
	const char *host = engine_conf_str(c, "host", "localhost");
	int64_t port = engine_conf_int(c, "port", 6379, 1, 65535);
	char *endpoint = strncmp(host, "unix:", 5) == 0 ? mem_strdup(host) :
	    mem_printf("%s:%lld", host, (long long)port);

	(void)err;
	reader_limits_make();
	if (!net_init(&r->net, view_of(endpoint)))
		engine_conf_wrong(c, "host: need a name, an address or "
		    "unix:/path");
	free(endpoint);
	r->format = engine_format_new(c, "query", "GET %s");
	redis_words(r, c);
	r->user = mem_strdup(engine_conf_str(c, "user", ""));
	r->password = mem_strdup(engine_conf_str(c, "password", ""));
	r->database = mem_printf("%lld", (long long)engine_conf_int(c,
	    "database", 0, 0, 65535));
	r->timeout = engine_conf_time(c, "timeout", 's', 5000);
	*ret = r;
	return true;
}

static void
redis_hang_up(struct redis *r)
{
	net_close(&r->net);
	if (r->reader != NULL)
		redisReaderFree(r->reader);
	r->reader = NULL;
}

static bool
redis_send(struct redis *r, const struct view *argv, unsigned n,
    struct buf *err)
{
	const char *arg[WORDS_MAX];
	size_t len[WORDS_MAX];
	char *text = NULL;
	long long size;
	unsigned i;
	bool ok;

	for (i = 0; i < n; i++) {
		arg[i] = argv[i].p;
		len[i] = argv[i].n;
	}
	size = redisFormatCommandArgv(&text, (int)n, arg, len);
	if (size <= 0)
		return false;
	ok = net_write(&r->net, view_make(text, (size_t)size), err);
	redisFreeCommand(text);
	return ok;
}

/* NULL: err; the connection is of no use any more. */
static redisReply *
redis_receive(struct redis *r, struct buf *err)
{
	size_t total = 0;
	void *reply = NULL;

	for (;;) {
		if (redisReaderGetReply(r->reader, &reply) != REDIS_OK) {
			(void)buf_printf(err, "the server's reply makes no "
			    "sense: %.100s", r->reader->errstr);
			return NULL;
		}
		if (reply != NULL)
			return reply;
		if (!net_read(&r->net, 1, err))
			return NULL;
		total += r->net.in.n;
		if (total > REPLY_MAX) {
			(void)buf_puts(err, "the server's reply is too long");
			return NULL;
		}
		if (redisReaderFeed(r->reader, r->net.in.p, r->net.in.n) !=
		    REDIS_OK)
			return NULL;
		buf_clear(&r->net.in);
	}
}

static redisReply *
redis_command(struct redis *r, const struct view *argv, unsigned n,
    struct buf *err)
{
	return redis_send(r, argv, n, err) ? redis_receive(r, err) : NULL;
}

/* AUTH, SELECT: what must succeed before the first question. */
static enum engine_answer
redis_prepare(struct redis *r, const struct view *argv, unsigned n,
    struct buf *err)
{
	redisReply *reply = redis_command(r, argv, n, err);
	enum engine_answer a = ENGINE_FOUND;

	if (reply == NULL)
		return ENGINE_NONE;
	if (reply->type == REDIS_REPLY_ERROR) {
		(void)buf_printf(err, "%.*s: %.200s", VIEW_ARGS(argv[0]),
		    reply->str);
		a = strncmp(reply->str, "LOADING", 7) == 0 ?
		    ENGINE_TEMPORARY : ENGINE_WRONG;
	}
	freeReplyObject(reply);
	return a;
}

static enum engine_answer
redis_connect(struct redis *r, struct buf *err)
{
	const struct view select[] = { view_of("SELECT"),
		view_of(r->database) };
	const struct view auth[] = { view_of("AUTH"), view_of(r->user),
		view_of(r->password) };
	const struct view old_auth[] = { auth[0], auth[2] };
	enum engine_answer a = ENGINE_FOUND;

	if (r->net.fd >= 0 && net_stale(&r->net))
		redis_hang_up(r);
	if (r->net.fd >= 0)
		return ENGINE_FOUND;
	if (!net_open(&r->net, err))
		return ENGINE_NONE;
	r->reader = redisReaderCreateWithFunctions(&bounded);
	if (r->reader == NULL)
		return ENGINE_NONE;
	if (r->password[0] != '\0')
		a = r->user[0] != '\0' ? redis_prepare(r, auth, 3, err) :
		    redis_prepare(r, old_auth, 2, err);
	if (a == ENGINE_FOUND && strcmp(r->database, "0") != 0)
		a = redis_prepare(r, select, 2, err);
	if (a != ENGINE_FOUND)
		redis_hang_up(r);
	return a;
}

static enum engine_answer
redis_result(struct redis *r, const redisReply *reply, struct view key,
    unsigned *n, struct buf *value, struct buf *err)
{
	enum engine_answer a = ENGINE_FOUND;
	char number[24];
	struct buf b;
	size_t i;

	switch (reply->type) {
	case REDIS_REPLY_STRING:
		return engine_format_result(r->format, key,
		    view_make(reply->str, reply->len), n, value, err);
	case REDIS_REPLY_INTEGER:
		b = (struct buf){ .p = number, .cap = sizeof number,
			.max = sizeof number };
		(void)buf_printf(&b, "%lld", reply->integer);
		return engine_format_result(r->format, key, buf_view(&b), n,
		    value, err);
	case REDIS_REPLY_ARRAY:
		for (i = 0; a == ENGINE_FOUND && i < reply->elements; i++)
			a = redis_result(r, reply->element[i], key, n, value,
			    err);
		return a;
	case REDIS_REPLY_NIL:
		return ENGINE_FOUND;
	case REDIS_REPLY_ERROR:
		(void)buf_printf(err, "server: %.200s", reply->str);
		return strncmp(reply->str, "LOADING", 7) == 0 ||
		    strncmp(reply->str, "CLUSTERDOWN", 11) == 0 ||
		    strncmp(reply->str, "MASTERDOWN", 10) == 0 ?
		    ENGINE_TEMPORARY : ENGINE_WRONG;
	default:
		(void)buf_puts(err, "the reply has no value that a table "
		    "can have");
		return ENGINE_WRONG;
	}
}

static enum engine_answer
redis_once(struct redis *r, struct view key, const struct view *argv,
    struct buf *value, struct buf *err)
{
	enum engine_answer a;
	redisReply *reply;
	unsigned n = 0;

	net_limit(&r->net, r->timeout);
	a = redis_connect(r, err);
	if (a != ENGINE_FOUND)
		return a;
	reply = redis_command(r, argv, r->words, err);
	if (reply == NULL) {
		redis_hang_up(r);
		return ENGINE_NONE;
	}
	r->net.used = true;
	a = redis_result(r, reply, key, &n, value, err);
	freeReplyObject(reply);
	return a == ENGINE_FOUND && n == 0 ? ENGINE_NOT_FOUND : a;
}

static enum engine_answer
redis_query(void *h, struct view key, struct buf *ret_value, struct buf *err)
{
	struct redis *r = h;
	enum engine_answer a = ENGINE_NOT_FOUND;
	struct view argv[WORDS_MAX] = { { NULL, 0 } };
	struct buf text[WORDS_MAX];
	bool wanted = engine_format_wants(r->format, key), used;
	unsigned i;

	/* Each word is expanded by itself: a key can bring no more words. */
	for (i = 0; i < r->words; i++) {
		buf_init(&text[i], 16 * ENGINE_KEY_MAX);
		if (wanted && !engine_format_template(r->word[i], key, NULL,
		    NULL, &text[i], &wanted))
			wanted = false;
		argv[i] = buf_part(&text[i], 0, text[i].n);
	}
	if (wanted) {
		used = r->net.used;
		a = redis_once(r, key, argv, ret_value, err);
		if (a == ENGINE_NONE && used) {
			buf_clear(err);
			a = redis_once(r, key, argv, ret_value, err);
		}
	}
	for (i = 0; i < r->words; i++)
		buf_free(&text[i]);
	return a == ENGINE_NONE ? ENGINE_TEMPORARY : a;
}

const struct lookup_engine engine = {
	.type = "redis", .open = redis_open, .query = redis_query,
	.close = redis_close, .sees_files = true,
};
