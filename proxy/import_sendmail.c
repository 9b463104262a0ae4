#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/conf_source.h"
#include "lib/log.h"
#include "proxy/import_sm.h"

#define LINE_TEXT_MAX	1000u

/* -- the pieces ------------------------------------------------------------ */

struct import_place
sm_at(const char *file, unsigned line)
{
	return (struct import_place){ .file = file, .line = line };
}

struct sm_item *
sm_add(struct sm *s, struct sm_list *l, struct import_place at,
    struct view name, struct view text)
{
	struct sm_item *i;

	if (l->n == SM_ITEMS_MAX) {
		if (!s->failed)
			log_error("%s:%u: there are too many of these",
			    at.file, at.line);
		s->failed = true;
		return NULL;
	}
	i = arena_alloc(s->arena, sizeof *i);
	*i = (struct sm_item){ .name = arena_copy(s->arena, name),
	    .text = arena_copy(s->arena, view_head(text, LINE_TEXT_MAX)),
	    .at = at };
	if (l->end == NULL)
		l->end = &l->first;
	*l->end = i;
	l->end = &i->next;
	l->n++;
	return i;
}

struct sm_item *
sm_find(const struct sm_list *l, const char *name)
{
	struct sm_item *i, *last = NULL;

	for (i = l->first; i != NULL; i = i->next)
		if (view_is(i->name, name))
			last = i;
	return last;
}

const char *
sm_text(struct sm *s, struct view v)
{
	return arena_copy(s->arena, v).p;
}

void
sm_note(struct sm *s, struct sm_item *i, enum import_outcome outcome,
    const char *why, ...)
{
	struct buf b;
	va_list ap;

	if (i == NULL)
		return;
	i->used = true;
	buf_init(&b, 4096);
	va_start(ap, why);
	(void)buf_vprintf(&b, why, ap);
	va_end(ap);
	import_note(s->report, i->at, i->text, outcome, "%s", buf_cstr(&b));
	buf_free(&b);
}

bool
sm_line(struct view *rest, unsigned *line, struct view *ret)
{
	struct view v;

	while (rest->n > 0) {
		v = view_head(*rest, view_find(*rest, '\n'));
		*rest = view_from(*rest, v.n + 1);
		++*line;
		v = view_trim(v);
		if (v.n == 0 || v.p[0] == '#')
			continue;
		*ret = v;
		return true;
	}
	return false;
}

struct sm_item *
sm_feature(const struct sm *s, const char *name)
{
	return sm_find(&s->features, name);
}

struct view
sm_define(const struct sm *s, const char *name)
{
	struct sm_item *i = sm_find(&s->defines, name);

	return i != NULL ? i->arg[0] : view_of("");
}

struct import_place
sm_define_at(const struct sm *s, const char *name)
{
	struct sm_item *i = sm_find(&s->defines, name);

	return i != NULL ? i->at : sm_at(NULL, 0);
}

bool
sm_in_class(const struct sm *s, const char *class, struct view name,
    bool below)
{
	struct sm_item *i;
	struct view m;

	for (i = s->classes.first; i != NULL; i = i->next) {
		if (!view_is(i->name, class))
			continue;
		m = i->arg[0];
		if (view_eq_nocase(m, name))
			return true;
		if (below && name.n > m.n && view_ends_nocase(name, m) &&
		    (m.p[0] == '.' || name.p[name.n - m.n - 1] == '.'))
			return true;
	}
	return false;
}

/* -- files ----------------------------------------------------------------- */

/*
 * The files name each other as they lie on the machine they are for.  What
 * is in /etc/mail there is in the directory that is read; so is what lies
 * below it, or at least has its name.
 */
const char *
sm_path(struct sm *s, struct view path)
{
	const char *from = s->order->from, *in = "/etc/mail/";
	const char *name = sm_text(s, path), *slash;
	struct view full;
	char *try;
	size_t n = strlen(in);

	if (path.n > 0 && path.p[0] != '/')
		try = mem_printf("%s/%s", from, name);
	else if (view_starts_nocase(path, in))
		try = mem_printf("%s/%s", from, name + n);
	else {
		slash = strrchr(name, '/');
		try = mem_printf("%s/%s", from, slash != NULL ? slash + 1 :
		    name);
		if (access(try, F_OK) != 0) {
			/* /etc/aliases of a copied tree is beside mail/ */
			free(try);
			try = mem_printf("%s/..%s", from, view_starts_nocase(
			    path, "/etc/") ? name + 4 : name);
			if (access(try, F_OK) != 0) {
				free(try);
				try = mem_strdup(name);
			}
		}
	}
	full = arena_copy(s->arena, view_of(try));
	free(try);
	return full.p;
}

bool
sm_file(struct sm *s, const char *path, bool optional,
    struct import_place at, struct view *ret)
{
	struct buf b;

	buf_init(&b, CONF_READ_MAX);
	if (!conf_read_file(path, &b)) {
		int error = errno;

		buf_free(&b);
		if (!optional || error != ENOENT)
			import_note(s->report, at.file != NULL ? at :
			    sm_at(path, 0), view_of(path), IMPORT_DROPPED,
			    "the file cannot be read: %s", strerror(error));
		return false;
	}
	s->read += b.n;
	if (s->read > SM_INPUT_MAX || memchr(b.p != NULL ? b.p : "", '\0',
	    b.n) != NULL) {
		log_error("%s: %s", path, s->read > SM_INPUT_MAX ?
		    "the files are too large" : "this is not a text");
		s->failed = true;
		buf_free(&b);
		return false;
	}
	*ret = arena_copy(s->arena, buf_view(&b));
	buf_free(&b);
	return true;
}

/* -- all of it ------------------------------------------------------------- */

/* What nobody asked for. */
static void
note_rest(struct sm *s, const struct sm_list *l, const char *why)
{
	struct sm_item *i;

	for (i = l->first; i != NULL; i = i->next)
		if (!i->used)
			sm_note(s, i, IMPORT_UNKNOWN, "%s", why);
}

static bool
read_main(struct sm *s)
{
	const char *mc = sm_path(s, view_of("sendmail.mc"));
	const char *cf = sm_path(s, view_of("sendmail.cf"));

	if (access(mc, F_OK) == 0) {
		if (access(cf, F_OK) == 0)
			import_note(s->report, sm_at(cf, 0),
			    view_of("sendmail.cf"), IMPORT_DROPPED,
			    "it is made from sendmail.mc, which was read; "
			    "what was changed in it by hand is not seen");
		return import_sm_mc(s, mc);
	}
	if (access(cf, F_OK) == 0)
		return import_sm_cf(s, cf);
	log_error("%s: there is neither sendmail.mc nor sendmail.cf",
	    s->order->from);
	return false;
}

static void
note_submit(struct sm *s)
{
	static const char *const names[] = { "submit.mc", "submit.cf" };
	const char *path;
	size_t i;

	for (i = 0; i < 2; i++) {
		path = sm_path(s, view_of(names[i]));
		if (access(path, F_OK) == 0)
			import_note(s->report, sm_at(path, 0),
			    view_of(names[i]), IMPORT_DROPPED,
			    "sendmail(1) here hands mail to the queue by "
			    "postdrop(1); there is no second program with a "
			    "queue of its own");
	}
}

bool
import_sendmail(const struct import_order *o, struct import_config *c,
    struct import_report *r)
{
	struct sm s = { .order = o, .config = c, .report = r,
		.arena = arena_new(SM_MEMORY_MAX) };
	bool ok = read_main(&s);

	if (ok) {
		import_sm_names(&s);
		import_sm_options(&s);
		import_sm_services(&s);
		import_sm_routes(&s);
		import_sm_addresses(&s);
		import_sm_access(&s);
		import_sm_features(&s);
		note_submit(&s);
		note_rest(&s, &s.features, "there is no such feature known");
		note_rest(&s, &s.defines, "there is no such name known; "
		    "nothing else in the files uses it");
		note_rest(&s, &s.classes, "nothing known uses this class");
		note_rest(&s, &s.class_files,
		    "nothing known uses this class");
		note_rest(&s, &s.mailers, "there is no such mailer known");
		note_rest(&s, &s.daemons, "not understood");
		note_rest(&s, &s.filters, "not understood");
	}
	ok = ok && !s.failed;
	arena_free(&s.arena);
	return ok;
}
