/*
 * A kind of table behind a connection: ldap:, redis:, tcp: and the like.  Each
 * kind is a program of its own, build/libexec/lookup-TYPE, which is this
 * interface, its engine and the engine's client library; proxy/engine_main.c
 * is the rest of it: questions arrive on channels, a few threads ask, each
 * with a handle of its own.
 *
 *	const struct lookup_engine engine = { .type = "redis", ... };
 *
 * A handle is used by one thread at a time, different handles at the same
 * time.  open() runs before the jail, with the rights of the one who starts:
 * it reads the parameters and what files they name (passwords, certificates)
 * and says what is wrong with them, but makes no connection.  query()
 * connects when it has to, again after a connection broke, and may wait as
 * long as its own timeouts allow; how often a dead server is tried is the
 * caller's matter.  After the jail there is no file to be opened unless
 * sees_files, and no program to be run.
 */
#ifndef PROXY_LOOKUP_ENGINE_H
#define PROXY_LOOKUP_ENGINE_H

#include "lib/buf.h"
#include "lib/view.h"

#define ENGINE_VALUE_MAX	65536u	/* bytes of one answer */
#define ENGINE_KEY_MAX		1024u
#define ENGINE_ERROR_MAX	512u	/* bytes of err, one line */

enum engine_answer {
	ENGINE_NONE = 0,
	ENGINE_FOUND,
	ENGINE_NOT_FOUND,	/* the server said so, clearly */
	ENGINE_TEMPORARY,	/* no answer now; err says why */
	ENGINE_WRONG		/* never, with this configuration; err */
};

struct engine_conf;

struct lookup_engine {
	const char *type;
	/* False: err says what is wrong with the parameters. */
	bool (*open)(const struct engine_conf *c, void **ret, struct buf *err);
	/*
	 * ret_value is empty, its maximum is ENGINE_VALUE_MAX; an answer
	 * that it has no room for is ENGINE_TEMPORARY.  The key is as it
	 * came: case folding and quoting are the engine's.
	 */
	enum engine_answer (*query)(void *h, struct view key,
	    struct buf *ret_value, struct buf *err);
	void (*close)(void *h);
	/* query() needs to read files of the system, as a library does that
	 * resolves host names, or loads certificates when it connects: no
	 * change of the root directory, files may be opened to read. */
	bool sees_files;
	/* The name is no file, and not that of NAME_param either: tcp: */
	bool name_is_all;
};

/* The program's engine. */
extern const struct lookup_engine engine;

/*
 * The parameters of one table.  TYPE:/path/NAME.cf: "name = value" lines of
 * that file.  TYPE:NAME, without a slash: NAME_param of main.cf (Postfix's
 * old form).  A value that is no number and the like, or out of its limits,
 * is a mistake: it is noted, the fallback returned, and the table is not
 * opened.  Texts live as long as c.  $name is not expanded in a file.
 */
const char *engine_conf_str(const struct engine_conf *c, const char *name,
    const char *fallback);
/* A copy of it, the caller's; NULL if it is empty or not there. */
char *engine_conf_copy(const struct engine_conf *c, const char *name,
    const char *fallback);
int64_t engine_conf_int(const struct engine_conf *c, const char *name,
    int64_t fallback, int64_t min, int64_t max);
bool engine_conf_bool(const struct engine_conf *c, const char *name,
    bool fallback);
/* Milliseconds; unit of a number without one: 's', 'm', ... */
int64_t engine_conf_time(const struct engine_conf *c, const char *name,
    char unit, int64_t fallback_ms);
/* Note a mistake: the table is not opened. */
void engine_conf_wrong(const struct engine_conf *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* "ldap:/etc/postern/users.cf" */
const char *engine_conf_table(const struct engine_conf *c);
/* What is behind the colon: for types whose name is all there is, as
 * tcp:host:port. */
const char *engine_conf_name(const struct engine_conf *c);
/* The value of a parameter of main.cf; NULL: not there. */
const char *engine_conf_main(const struct engine_conf *c, const char *name);

/* Read a table's parameters.  name_is_all: no file, as for tcp:.  NULL: err
 * says why. */
struct conf;
struct engine_conf *engine_conf_load(const char *table, bool name_is_all,
    const struct conf *main_cf, struct buf *err);
/* The same, from text. */
struct engine_conf *engine_conf_parse(const char *table, struct view text,
    struct buf *err);
/* The mistakes noted by now; empty: none. */
struct view engine_conf_mistakes(const struct engine_conf *c);
void engine_conf_free(struct engine_conf **c);

#endif
