#include <stdarg.h>

#include "proxy/import_sm_table.h"

bool
sm_table_text(struct sm *s, struct sm_item *feature, const char *path,
    const char **ret_file, struct view *ret_text)
{
	struct view rest = feature->n_args > 0 ? feature->arg[0] :
	    view_of(""), word, type = view_word(&rest, " \t"), last = type;

	if (view_is_nocase(type, "LDAP") || view_is_nocase(type, "nis") ||
	    view_is_nocase(type, "nisplus") || view_is_nocase(type, "ph")) {
		sm_note(s, feature, IMPORT_DROPPED, "the table is not a file: "
		    "see ldap_table(5) and others");
		return false;
	}
	while ((word = view_word(&rest, " \t")).n > 0)
		last = word;
	/* an argument like "skip", or a bare type: no file is named */
	if (!view_has(last, '/'))
		last = view_of(path);
	if (view_ends_nocase(last, view_of(".db")))
		last.n -= 3;
	*ret_file = sm_path(s, last);
	return sm_file(s, *ret_file, false, feature->at, ret_text);
}

bool
sm_table_row(struct sm *s, const char *file, struct view *rest,
    unsigned *line, struct sm_row *ret)
{
	struct view v;
	size_t n;

	while (sm_line(rest, line, &v)) {
		for (n = 0; n < v.n && !view_space(v.p[n]); n++)
			;
		*ret = (struct sm_row){ .at = sm_at(file, *line), .text = v,
		    .key = view_head(v, n),
		    .value = view_trim(view_from(v, n)) };
		if (ret->value.n > 0)
			return true;
		sm_row_note(s, ret, IMPORT_UNKNOWN,
		    "there is nothing behind the key");
	}
	return false;
}

void
sm_row_note(struct sm *s, const struct sm_row *row,
    enum import_outcome outcome, const char *why, ...)
{
	struct buf b;
	va_list ap;

	buf_init(&b, 4096);
	va_start(ap, why);
	(void)buf_vprintf(&b, why, ap);
	va_end(ap);
	import_note(s->report, row->at, row->text, outcome, "%s",
	    buf_cstr(&b));
	buf_free(&b);
}

const char *
sm_table_copy(struct sm *s, const char *type, const char *name,
    const char *file, struct view text)
{
	struct buf *b = import_file(s->config, name, 0644), spec;
	const char *done;

	buf_clear(b);
	if (!buf_printf(b, "# %s, as it was: sendmail's syntax\n", file) ||
	    !buf_putv(b, text))
		s->failed = true;
	buf_init(&spec, 1000);
	(void)buf_printf(&spec, "%s:$config_directory/%s", type, name);
	done = sm_text(s, buf_view(&spec));
	buf_free(&spec);
	return done;
}

/* -- what values mean ------------------------------------------------------ */

const char *
sm_transport(struct view v, struct buf *out)
{
	static const struct {
		const char *mailer, *transport;
	} mailers[] = {
		{ "smtp", "smtp" }, { "esmtp", "smtp" }, { "smtp8", "smtp" },
		{ "dsmtp", "smtp" }, { "relay", "relay" },
		{ "uucp", "uucp" }, { "uucp-old", "uucp" },
		{ "uucp-new", "uucp" }, { "uucp-dom", "uucp" },
		{ "uucp-uudom", "uucp" }, { "suucp", "uucp" },
	};
	struct view mailer = view_head(v, view_find(v, ':')), host;
	size_t i;

	if (v.n == 0)
		return "there is no host";
	/* a bare host, which may be [IPv6:...] */
	if (v.p[0] == '[' || mailer.n == v.n) {
		mailer = view_of("relay");
		host = v;
	} else
		host = view_from(v, mailer.n + 1);
	if (host.n == 0)
		return "there is no host";
	for (i = 0; i < host.n; i++)
		if (view_space(host.p[i]) || host.p[i] == '$')
			return "the host is not a name";
	for (i = 0; i < sizeof mailers / sizeof mailers[0]; i++) {
		if (!view_is_nocase(mailer, mailers[i].mailer))
			continue;
		(void)buf_printf(out, "%s:", mailers[i].transport);
		/* host1:host2 are tried in order */
		for (;;) {
			struct view one = view_head(host, host.p[0] == '[' ?
			    view_find(host, ']') + 1 : view_find(host, ':'));

			(void)buf_putv(out, one);
			host = view_from(host, one.n);
			if (host.n < 2 || host.p[0] != ':')
				return NULL;
			(void)buf_puts(out, ", ");
			host = view_from(host, 1);
		}
	}
	return "there is no transport for this mailer";
}
