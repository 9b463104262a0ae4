/* postern import postfix: tables, lists and sockets in a value. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/import_config_impl.h"
#include "proxy/import_postfix.h"

#define NAME_MAX_HERE	200u

enum type_kind {
	TYPE_INDEXED = 1,	/* a file that postmap builds of a text */
	TYPE_TEXT,		/* a text that is read as it is */
	TYPE_REMOTE,		/* a text that says where to ask */
	TYPE_OTHER,		/* no file */
	TYPE_NONE		/* Postern has no such type */
};

static const struct {
	const char *type;
	enum type_kind kind;
} types[] = {
	{ "hash", TYPE_INDEXED }, { "btree", TYPE_INDEXED },
	{ "dbm", TYPE_INDEXED }, { "cdb", TYPE_INDEXED },
	{ "sdbm", TYPE_INDEXED }, { "lmdb", TYPE_INDEXED },
	{ "texthash", TYPE_TEXT }, { "cidr", TYPE_TEXT },
	{ "regexp", TYPE_TEXT }, { "pcre", TYPE_TEXT },
	{ "ldap", TYPE_REMOTE }, { "mysql", TYPE_REMOTE },
	{ "pgsql", TYPE_REMOTE }, { "sqlite", TYPE_REMOTE },
	{ "memcache", TYPE_REMOTE }, { "static", TYPE_OTHER },
	{ "inline", TYPE_OTHER }, { "fail", TYPE_OTHER },
	{ "environ", TYPE_OTHER }, { "pipemap", TYPE_OTHER },
	{ "unionmap", TYPE_OTHER }, { "randmap", TYPE_OTHER },
	{ "debug", TYPE_OTHER }, { "tcp", TYPE_OTHER },
	{ "socketmap", TYPE_OTHER }, { "nis", TYPE_NONE },
	{ "nisplus", TYPE_NONE }, { "netinfo", TYPE_NONE },
	{ "mongodb", TYPE_NONE },
};

struct value {
	struct import_postfix *x;
	struct import_place at;
	const char *name;
	struct buf out;
};

/* -- copies ---------------------------------------------------------------- */

/* The path behind the source's directory; NULL: it is elsewhere. */
static const char *
inside(const struct import_postfix *x, const char *path)
{
	size_t n = strlen(x->o->from);

	return strncmp(path, x->o->from, n) == 0 && path[n] == '/' ?
	    path + n + 1 : NULL;
}

/* What we write ourselves is not replaced by a table of that name. */
static char *
copy_name(const char *rel)
{
	char *name = mem_strdup(rel), *p;

	for (p = name; *p != '\0'; p++)
		if (*p == '/')
			*p = '-';
	if (strcmp(name, "main.cf") == 0 || strcmp(name, "master.cf") == 0 ||
	    strcmp(name, IMPORT_REPORT_NAME) == 0 || name[0] == '.') {
		p = mem_printf("table-%s", name);
		free(name);
		name = p;
	}
	return name;
}

static struct import_file *
copy_find(const struct import_config *c, const char *name)
{
	size_t i;

	for (i = 0; i < c->n_files; i++)
		if (strcmp(c->files[i]->name, name) == 0)
			return c->files[i];
	return NULL;
}

bool
import_postfix_copied(const struct import_postfix *x, const char *rel)
{
	char *name = copy_name(rel);
	bool copied = copy_find(x->c, name) != NULL;
	size_t n = strlen(rel), i;

	for (i = 0; !copied && i < x->c->n_files; i++)
		copied = strncmp(x->c->files[i]->name, rel, n) == 0 &&
		    x->c->files[i]->name[n] == '-';
	free(name);
	return copied;
}

static bool
copy_read(int fd, struct buf *b)
{
	ssize_t n = 0;
	char *to;

	while ((to = buf_room(b, 65536)) != NULL &&
	    (n = read(fd, to, 65536)) > 0)
		b->n += (size_t)n;
	return to != NULL && n == 0;
}

/* The name of the copy for free(); NULL: there is no such text. */
static char *
copy(struct import_postfix *x, const char *path, const char *rel,
    bool indexed)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *name = copy_name(rel);
	struct import_file *f = copy_find(x->c, name);
	struct stat st;
	struct buf *b;
	bool ok = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);

	if (ok && f == NULL) {
		/* Passwords stay as secret as they were. */
		b = import_file(x->c, name, (st.st_mode & 04) != 0 ? 0644 :
		    0600);
		ok = copy_read(fd, b);
		f = copy_find(x->c, name);
	}
	if (ok && f != NULL && indexed)
		f->indexed = true;
	if (fd >= 0)
		close(fd);
	if (ok)
		return name;
	free(name);
	return NULL;
}

/* -- words ----------------------------------------------------------------- */

static void
value_note(struct value *v, struct view word, enum import_outcome outcome,
    const char *why, const char *what)
{
	char *text = mem_printf("%s: %.*s", v->name, VIEW_ARGS(word));

	import_note(v->x->r, v->at, view_of(text), outcome, "%s%s", why,
	    what);
	free(text);
}

static enum type_kind
type_of(struct view type)
{
	size_t i;

	for (i = 0; i < sizeof types / sizeof types[0]; i++)
		if (view_is(type, types[i].type))
			return types[i].kind;
	return (enum type_kind)0;
}

static bool
is_alias_map(const char *name)
{
	return strcmp(name, "alias_maps") == 0;
}

/* A table with a file; path is expanded. */
static void
value_file(struct value *v, struct view word, struct view type,
    enum type_kind kind, const char *path)
{
	const char *rel = path[0] == '/' ? inside(v->x, path) : path;
	char *full = path[0] == '/' ? mem_strdup(path) : mem_printf("%s/%s",
	    v->x->o->from, path);
	char *name = NULL;

	if (rel == NULL) {
		if (access(full, R_OK) != 0)
			value_note(v, word, IMPORT_UNKNOWN, kind ==
			    TYPE_INDEXED ? "the text that it is built from "
			    "is missing (`postmap -s` of Postfix prints what "
			    "the database holds): " : "it is missing: ",
			    full);
		else if (kind == TYPE_INDEXED && !is_alias_map(v->name))
			value_note(v, word, IMPORT_CHANGED, "it stays where "
			    "it is; run `postmap` of Postern once: postmap "
			    "hash:", full);
		(void)(buf_putv(&v->out, type) && buf_putc(&v->out, ':') &&
		    buf_puts(&v->out, full));
		free(full);
		return;
	}
	/* local builds tables of aliases: their rows are others */
	name = copy(v->x, full, rel, kind == TYPE_INDEXED &&
	    !is_alias_map(v->name));
	if (name == NULL) {
		value_note(v, word, IMPORT_UNKNOWN, kind == TYPE_INDEXED ?
		    "the text that it is built from is missing (`postmap -s` "
		    "of Postfix prints what the database holds): " :
		    "it is missing: ", full);
		name = copy_name(rel);
	}
	(void)(buf_putv(&v->out, type) && buf_puts(&v->out,
	    ":$config_directory/") && buf_puts(&v->out, name));
	free(name);
	free(full);
}

/* type:name; false: it is none. */
static bool
value_table(struct value *v, struct view word)
{
	struct view spec = word, type;
	enum type_kind kind;
	char *path;

	while (view_starts_nocase(spec, "proxy:"))
		spec = view_from(spec, strlen("proxy:"));
	type = view_head(spec, view_find(spec, ':'));
	kind = type.n < spec.n ? type_of(type) : (enum type_kind)0;
	if (kind == 0)
		return false;
	if (kind == TYPE_NONE) {
		value_note(v, word, IMPORT_DROPPED, "there are no tables of "
		    "this type", "");
		return true;
	}
	path = import_postfix_expand(v->x, view_from(spec, type.n + 1));
	if (kind == TYPE_OTHER || path[0] == '\0')
		(void)buf_putv(&v->out, spec);
	else if (kind == TYPE_REMOTE && strchr(path, '/') == NULL)
		(void)buf_putv(&v->out, spec);	/* settings of main.cf */
	else
		value_file(v, word, type, kind, path);
	free(path);
	return true;
}

static bool
ends(const char *name, const char *tail)
{
	return view_ends_nocase(view_of(name), view_of(tail));
}

/* Sockets are named from Postfix's queue_directory, which is not ours. */
static bool
value_socket(struct value *v, struct view word)
{
	bool milter = ends(v->name, "_milters");
	struct view path = word;
	bool unix_socket = view_starts_nocase(word, "unix:");

	if (strcmp(v->name, "smtpd_sasl_path") == 0) {
		if (unix_socket)
			path = view_from(path, 5);
		if (view_has(path, ':') || path.n == 0 || path.p[0] == '/' ||
		    !view_has(path, '/'))
			return false;
		(void)buf_printf(&v->out, "%s/%.*s", v->x->queue,
		    VIEW_ARGS(path));
		value_note(v, word, IMPORT_CHANGED, "the socket stays where "
		    "it is, below ", v->x->queue);
		return true;
	}
	if (!milter || (!unix_socket && !view_starts_nocase(word, "local:")))
		return false;
	path = view_from(path, view_find(path, ':') + 1);
	if (path.n > 0 && path.p[0] == '/' && !v->x->jailed)
		return false;
	if (path.n > 0 && path.p[0] == '/' && strncmp(path.p, v->x->queue,
	    strlen(v->x->queue) < path.n ? strlen(v->x->queue) : path.n) == 0)
		return false;
	(void)buf_printf(&v->out, "unix:%s%s%.*s", v->x->queue,
	    path.n > 0 && path.p[0] == '/' ? "" : "/", VIEW_ARGS(path));
	value_note(v, word, IMPORT_CHANGED, "seen from the jail of Postfix, "
	    "so it stays where it is, below ", v->x->queue);
	return true;
}

/* What else is below queue_directory there. */
static void
value_warn_socket(struct value *v, struct view word)
{
	const char *at = word.n > 0 ? memmem(word.p, word.n, "unix:", 5) :
	    NULL;
	struct view path;

	if (at == NULL || view_starts_nocase(word, "proxy:unix:") ||
	    memmem(word.p, word.n, ".byname", 7) != NULL)
		return;
	path = view_from(word, (size_t)(at - word.p) + 5);
	if (path.n > 0 && (path.p[0] != '/' || v->x->jailed))
		value_note(v, word, IMPORT_CHANGED, "a socket below "
		    "queue_directory: the server behind it has to make it in "
		    "that of Postern, too; there it is below ", v->x->queue);
}

/* A file of patterns or addresses, such as mynetworks = /etc/postfix/nets. */
static bool
value_list(struct value *v, struct view word)
{
	static const char *const keys[] = { "_file", "_files", "CAfile",
		"CApath", "_directory", "_command", "_program", "_home",
		"_base", "_shell", "_path", "mailbox" };
	char *path, *name = NULL;
	const char *rel;
	size_t i;

	if (word.n == 0 || (word.p[0] != '/' && word.p[0] != '$'))
		return false;
	for (i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (ends(v->name, keys[i]) || view_starts_nocase(view_of(
		    v->name), keys[i]))
			return false;
	path = import_postfix_expand(v->x, word);
	rel = path[0] == '/' ? inside(v->x, path) : NULL;
	if (rel != NULL)
		name = copy(v->x, path, rel, false);
	if (name != NULL)
		(void)buf_printf(&v->out, "$config_directory/%s", name);
	free(name);
	free(path);
	return name != NULL;
}

/* What releases before 2.0 asked in one word. */
static bool
value_old_rbl(struct value *v, struct view word)
{
	struct view rest, domain;
	const char *comma = "";
	char *list;

	if (!view_is(word, "reject_maps_rbl"))
		return false;
	list = import_postfix_expand(v->x, view_of("$maps_rbl_domains"));
	rest = view_of(list);
	while ((domain = conf_word(&rest)).n > 0) {
		(void)buf_printf(&v->out, "%sreject_rbl_client %.*s", comma,
		    VIEW_ARGS(domain));
		comma = ", ";
	}
	value_note(v, word, IMPORT_CHANGED, "reject_rbl_client for each of "
	    "maps_rbl_domains: ", list);
	free(list);
	return true;
}

static void
value_word(struct value *v, struct view word)
{
	if (value_table(v, word) || value_socket(v, word) ||
	    value_old_rbl(v, word) ||
	    value_list(v, word))
		return;
	value_warn_socket(v, word);
	(void)buf_putv(&v->out, word);
}

static bool
is_separator(char c)
{
	return view_space(c) || c == ',' || c == '{' || c == '}' || c == '=';
}

/* Of "$name" and "${name...}": they are one word with what follows. */
static size_t
reference_length(struct view rest)
{
	size_t n = 1, depth = 0;

	if (rest.n < 2 || (rest.p[1] != '{' && rest.p[1] != '('))
		return 1;
	for (; n < rest.n; n++) {
		depth += rest.p[n] == '{' || rest.p[n] == '(';
		if ((rest.p[n] == '}' || rest.p[n] == ')') && --depth == 0)
			return n + 1;
	}
	return rest.n;
}

static size_t
word_length(struct view rest)
{
	size_t n = 0;

	while (n < rest.n && !is_separator(rest.p[n]))
		n += rest.p[n] == '$' ? reference_length(view_from(rest, n)) :
		    1;
	return n < rest.n ? n : rest.n;
}

/* Free text, in which a colon or a slash means nothing; the file of a cache is
 * not read. */
static bool
is_text(const char *name)
{
	return ends(name, "_banner") || ends(name, "_footer") ||
	    ends(name, "_command") || ends(name, "_text") ||
	    ends(name, "_auth_cache_name");
}

/* What was left out at the end of a list leaves its comma. */
static struct view
without_comma(struct view v)
{
	while (v.n > 0 && v.p[v.n - 1] == ',')
		v = view_trim(view_head(v, v.n - 1));
	return v;
}

char *
import_postfix_value(struct import_postfix *x, struct import_place at,
    const char *name, struct view value)
{
	struct value v = { .x = x, .at = at, .name = name };
	char *result;
	size_t n;

	if (is_text(name))
		return mem_copy(value);
	buf_init(&v.out, IMPORT_VALUE_MAX);
	while (value.n > 0) {
		n = word_length(value);
		if (n == 0) {
			(void)buf_putc(&v.out, value.p[0]);
			n = 1;
		} else {
			value_word(&v, view_head(value, n));
		}
		value = view_from(value, n);
	}
	/* Truncated, it would be another value. */
	if (v.out.n >= IMPORT_VALUE_MAX - 1)
		fatal("%s: the value of %s is too long", x->main_cf, name);
	result = mem_copy(without_comma(view_trim(buf_view(&v.out))));
	buf_free(&v.out);
	return result;
}
