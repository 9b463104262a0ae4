/*
 * sendmail's configuration as `postern import` knows it, from sendmail.mc or
 * sendmail.cf: what was defined, switched on and listed, and where.  The
 * readers fill it, the import_sm_* functions turn it into settings and
 * tables, and note in the report what became of each part.
 */
#ifndef PROXY_IMPORT_SM_H
#define PROXY_IMPORT_SM_H

#include "lib/mem.h"
#include "proxy/import_mc.h"
#include "proxy/postern_import.h"

#define SM_ITEMS_MAX	20000u
#define SM_MEMORY_MAX	(256u << 20)
#define SM_DEPTH_MAX	8u
#define SM_FILES_MAX	100u	/* includes in all */
#define SM_INPUT_MAX	(64u << 20)	/* of all files together */

/* One thing that was said: a define with its value, a FEATURE with its
 * arguments, a member of a class, ... */
struct sm_item {
	struct view name;
	struct view arg[MC_ARGS_MAX];
	unsigned n_args;
	struct view text;	/* for the report */
	struct import_place at;
	bool used;		/* the report knows it */
	struct sm_item *next;
};

struct sm_list {
	struct sm_item *first, **end;
	size_t n;
};

struct sm {
	const struct import_order *order;
	struct import_config *config;
	struct import_report *report;
	struct arena *arena;
	size_t read;		/* bytes */
	bool failed;
	struct sm_list defines;	/* the later one wins */
	struct sm_list features;
	struct sm_list classes;	/* name: "w", "R", ...; arg[0]: a member */
	struct sm_list class_files;
	struct sm_list daemons, filters, mailers;
	unsigned depth;		/* of include() and conditions */
	unsigned includes;
};

/* The item is of sendmail.mc line at; NULL: there are too many. */
struct sm_item *sm_add(struct sm *s, struct sm_list *l,
    struct import_place at, struct view name, struct view text);
struct sm_item *sm_find(const struct sm_list *l, const char *name);
const char *sm_text(struct sm *s, struct view v);
/* Where sendmail would find path: /etc/mail/x is x in the directory that is
 * read, if there is no such file elsewhere to be found. */
const char *sm_path(struct sm *s, struct view path);
/* The file, or false with a report; optional: without one if there is none.
 * The text is in the arena. */
bool sm_file(struct sm *s, const char *path, bool optional,
    struct import_place at, struct view *ret);
/* The place of a line of a file */
struct import_place sm_at(const char *file, unsigned line);
/* Note it, once. */
void sm_note(struct sm *s, struct sm_item *i, enum import_outcome outcome,
    const char *why, ...) __attribute__((format(printf, 4, 5)));
/* The next line of *rest without comment and outer white space, false at the
 * end; *line counts. */
bool sm_line(struct view *rest, unsigned *line, struct view *ret);

/* Is name a member of class? */
bool sm_in_class(const struct sm *s, const char *class, struct view name,
    bool below);
/* FEATURE(name), or NULL; it counts as seen only with sm_note(). */
struct sm_item *sm_feature(const struct sm *s, const char *name);
/* The value of define(name), or "". */
struct view sm_define(const struct sm *s, const char *name);
struct import_place sm_define_at(const struct sm *s, const char *name);

/* sendmail.mc, sendmail.cf; false: it cannot be read to its end. */
bool import_sm_mc(struct sm *s, const char *file);
bool import_sm_cf(struct sm *s, const char *file);

/* One line of sendmail.cf, which LOCAL_CONFIG may have too. */
void import_sm_cf_line(struct sm *s, struct import_place at,
    struct view line);
/* A network as sendmail writes it, 10, 192.168.1, 192.0.2.3, IPv6:2001:db8,
 * as a block; false: it is none. */
bool import_sm_network(struct view v, struct buf *out);

/* What the parts become. */
void import_sm_names(struct sm *s);	/* hosts, domains, classes */
void import_sm_options(struct sm *s);	/* define(`conf...') */
void import_sm_features(struct sm *s);
void import_sm_routes(struct sm *s);	/* smart host, hub, mailertable */
void import_sm_addresses(struct sm *s);	/* virtusertable, generics, ... */
void import_sm_access(struct sm *s);	/* access, and who may relay */
void import_sm_services(struct sm *s);	/* master.cf, filters, TLS, AUTH */

#endif
