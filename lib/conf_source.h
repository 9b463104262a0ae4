/*
 * The inside of lib/conf: raw settings with their places, the reporter, and
 * what a name means.  For lib/conf*.c and for postconf; roles use lib/conf.h.
 *
 * A conf_source owns an arena; every text in it lives as long as it does.
 */
#ifndef LIB_CONF_SOURCE_H
#define LIB_CONF_SOURCE_H

#include "lib/conf.h"
#include "lib/conf_line.h"
#include "lib/mem.h"

#define CONF_SETTINGS_MAX	10000
#define CONF_EXPANDED_MAX	(256 * 1024)	/* one value, expanded */
#define CONF_MEMORY_MAX		(256u * 1024 * 1024)

enum conf_use {
	CONF_UNUSED = 0,	/* nobody uses this name */
	CONF_DECLARED,		/* in conf_params.def */
	CONF_COMPOSED,		/* TRANSPORT_suffix, with effect */
	CONF_USER,		/* the user's own, another setting names it */
	CONF_KNOWN		/* Postfix's, without effect here */
};

struct conf_setting {
	struct view name;
	struct view value;	/* unexpanded */
	const char *text;	/* expanded; NULL: not yet */
	unsigned line;		/* 0: not from the file */
	bool computed;		/* by conf_source_compute() */
	bool override;		/* given beside the file */
	enum conf_use use;
	unsigned hash;
};

struct conf_interned;

struct conf_source {
	struct arena *arena;
	const char *origin;
	struct conf_setting *list;	/* in the order of the file */
	size_t n, cap;
	uint32_t *slots;	/* open addressing: index in list plus 1 */
	size_t n_slots;
	const char **defaults;	/* expanded, by place in conf_params */
	struct conf_interned **interned;
	struct conf_interned *warned;	/* names already reported */
	size_t work;		/* bytes looked at by expansion */
};

/* Where reports go; counts errors. */
struct conf_reporter {
	conf_report *report;	/* may be NULL */
	void *arg;
	const char *origin;
	unsigned errors;
};
void conf_tell(struct conf_reporter *r, bool error, unsigned line,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

struct conf_source *conf_source_new(const char *origin);
void conf_source_free(struct conf_source **src);
/* Add the settings of a main.cf text; the last definition wins. */
void conf_source_read(struct conf_source *src, struct view text,
    struct conf_reporter *r);
/* NULL: not set. */
struct conf_setting *conf_source_find(const struct conf_source *src,
    struct view name);
/* Set or replace; value is copied. Fails only past CONF_SETTINGS_MAX. */
struct conf_setting *conf_source_set(struct conf_source *src,
    struct view name, struct view value, unsigned line);
/* The unexpanded value: set, or the declared default. */
bool conf_source_value(const struct conf_source *src, struct view name,
    struct view *ret, unsigned *ret_line);

/*
 * Set myhostname, mydomain and mynetworks where the file does not, from the
 * kernel's host name and the network interfaces.
 */
void conf_source_compute(struct conf_source *src);
/*
 * The blocks that an unset mynetworks means, for style "host", "subnet" or
 * "class", in out.  interfaces and protocols: inet_interfaces and
 * inet_protocols.  False: no such style.
 */
bool conf_default_networks(struct view style, struct view interfaces,
    struct view protocols, struct buf *out);

/*
 * Expand text, found at line `line`, into out.  False after an error was
 * reported.  name is the parameter it is the value of, or empty.
 */
bool conf_expand_into(struct conf_source *src, struct conf_reporter *r,
    struct view name, unsigned line, struct view text, struct buf *out);
/* "" after an error. */
const char *conf_source_text(struct conf_source *src, struct conf_reporter *r,
    struct conf_setting *s);

/* A name $-expression begins at p[at] == '$'; empty when there is none. */
struct view conf_reference(struct view text, size_t at);

/*
 * Set use of every setting, and warn of those that nobody uses, of comments
 * after values and of restrictions used as parameters.  dir: where master.cf
 * is, which may use a name too; NULL: none.
 */
void conf_check(struct conf_source *src, const char *dir,
    struct conf_reporter *r);
bool conf_known(struct view name, bool *ret_raw);
/* The declared parameter that gives TRANSPORT_suffix its kind, limits and
 * default; NULL when the name has no such suffix. */
const struct conf_param *conf_composed(struct view name);
/* The declared name at most two letters away; NULL: none. */
const char *conf_nearest(struct view name);
/* The parameter that a restriction such as check_recipient_access belongs
 * in; NULL: not a restriction. */
const char *conf_restriction_list(struct view name);

/* conf_load() with overrides ("name=value"), as if they ended the file. */
struct conf *conf_open(const char *dir, char *const *overrides, size_t n,
    conf_report *report, void *arg);

/* A regular file of at most CONF_FILE_MAX bytes into out, whose maximum is
 * CONF_READ_MAX.  False with errno; EFBIG: larger. */
#define CONF_READ_MAX	(CONF_FILE_MAX + 64 * 1024)
bool conf_read_file(const char *path, struct buf *out);
/* Is every text a value of p? */
bool conf_param_is_text(const struct conf_param *p);
/* Whether text is a good value of p; if not, why in `why`. */
bool conf_value_good(const struct conf_param *p, struct view text,
    int64_t *ret, char *why, size_t why_size);

#endif
