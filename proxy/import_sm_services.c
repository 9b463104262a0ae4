/*
 * What listens, what delivers, outside filters, TLS and AUTH.
 */
#include "lib/conf.h"
#include "lib/log.h"
#include "lib/netaddr.h"
#include "proxy/import_sm.h"
#include "proxy/postern_files.h"

/* -- DAEMON_OPTIONS -------------------------------------------------------- */

struct daemon {
	struct view addr, port, modify, name, filters;
	bool six;
};

/* "Name=MTA, Port=smtp, Addr=::1, Family=inet6, M=E"; false: not understood */
static bool
daemon_parse(struct view v, struct daemon *d)
{
	struct view part, key, value;

	*d = (struct daemon){ .port = view_of("smtp"),
		.modify = view_of("") };
	while (v.n > 0) {
		part = view_trim(view_head(v, view_find(v, ',')));
		v = view_from(v, view_find(v, ',') + 1);
		if (part.n == 0)
			continue;
		key = view_trim(view_head(part, view_find(part, '=')));
		if (key.n >= part.n || key.n == 0)
			return false;
		value = view_trim(view_from(part, view_find(part, '=') + 1));
		/* a letter is enough for sendmail */
		switch (key.p[0]) {
		case 'A': case 'a':
			d->addr = value;
			break;
		case 'P': case 'p':
			d->port = value;
			break;
		case 'M': case 'm':
			d->modify = value;
			break;
		case 'N': case 'n':
			d->name = value;
			break;
		case 'F': case 'f':
			d->six = view_is_nocase(value, "inet6");
			break;
		case 'I': case 'i':
			d->filters = value;
			break;
		default:
			break;
		}
	}
	return true;
}

static bool
word_good(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if (!((v.p[i] >= '0' && v.p[i] <= '9') || v.p[i] == '-' ||
		    v.p[i] == '.' || v.p[i] == ':' ||
		    (v.p[i] >= 'a' && v.p[i] <= 'z') ||
		    (v.p[i] >= 'A' && v.p[i] <= 'Z')))
			return false;
	return v.n < 256;
}

static bool
daemon_line(const struct daemon *d, struct buf *out)
{
	struct netaddr a;
	struct view port = d->port;
	bool any = d->addr.n == 0 || view_is(d->addr, "0.0.0.0") ||
	    view_is(d->addr, "::"), six;

	if (view_is_nocase(port, "MSA"))
		port = view_of("submission");
	if (!word_good(port) || port.n == 0 || !word_good(d->addr))
		return false;
	six = netaddr_parse(d->addr, &a) && a.family == AF_INET6;
	if (any)
		(void)buf_printf(out, "%.*s", VIEW_ARGS(port));
	else
		(void)buf_printf(out, six ? "[%.*s]:%.*s" : "%.*s:%.*s",
		    VIEW_ARGS(d->addr), VIEW_ARGS(port));
	(void)buf_puts(out, "  inet  n  -  y  -  -  smtpd\n");
	if (view_has(d->modify, 's') || view_is(port, "smtps") ||
	    view_is(port, "465"))
		(void)buf_puts(out, "  -o smtpd_tls_wrappermode=yes\n");
	if (view_has(d->modify, 'a'))
		(void)buf_puts(out, "  -o smtpd_client_restrictions="
		    "permit_sasl_authenticated,reject\n");
	if (view_has(d->modify, 'E'))
		(void)buf_puts(out,
		    "  -o smtpd_etrn_restrictions=reject\n");
	return true;
}

static void
daemon_one(struct sm *s, struct sm_item *i, struct buf *out, bool *ret_any)
{
	struct view v = i->n_args > 0 ? i->arg[0] : view_of(""), service;
	size_t before = out->n;
	struct daemon d;

	if (view_starts_nocase(i->text, "CLIENT_OPTIONS") ||
	    view_starts_nocase(i->text, "O Client")) {
		if (!daemon_parse(v, &d) || d.addr.n == 0 ||
		    !word_good(d.addr))
			sm_note(s, i, IMPORT_DROPPED, "see smtp_bind_address");
		else {
			import_set(s->config, d.six ? "smtp_bind_address6" :
			    "smtp_bind_address", i->at, "%s", sm_text(s,
			    d.addr));
			sm_note(s, i, IMPORT_CARRIED, "smtp_bind_address");
		}
		return;
	}
	if (!daemon_parse(v, &d))
		return;
	(void)buf_printf(out, "# %s:%u\n", i->at.file, i->at.line);
	if (!daemon_line(&d, out)) {
		out->n = before;
		sm_note(s, i, IMPORT_UNKNOWN, "the address or port is not "
		    "understood");
		return;
	}
	/* two families on one port are one service here */
	service = view_from(buf_view(out), before);
	service = view_from(service, view_find(service, '\n'));
	if (before > 0 && memmem(out->p, before, service.p, service.n) !=
	    NULL) {
		out->n = before;
		sm_note(s, i, IMPORT_CARRIED, "the service of an earlier "
		    "line listens there, for IPv4 and IPv6");
		return;
	}
	*ret_any = true;
	if (d.filters.n > 0 || strpbrk(sm_text(s, d.modify), "bcfhruCOS") !=
	    NULL)
		sm_note(s, i, IMPORT_CHANGED, "a service of master.cf, "
		    "without%s%s", d.filters.n > 0 ? " filters of its own "
		    "(smtpd_milters)" : "", d.filters.n > 0 ? "" :
		    " some of its modifiers");
	else
		sm_note(s, i, IMPORT_CARRIED, "a service of master.cf");
}

/* The template, with our lines instead of its one, and local mail. */
static void
services(struct sm *s)
{
	struct buf *out = import_file(s->config, "master.cf", 0644), lines;
	struct sm_item *i, *msa = sm_feature(s, "no_default_msa");
	bool any = false, local = sm_feature(s, "nullclient") == NULL;
	struct view rest = view_of(postern_master_cf_text), line;

	buf_init(&lines, 65536);
	for (i = s->daemons.first; i != NULL; i = i->next)
		daemon_one(s, i, &lines, &any);
	if (!any)
		(void)buf_puts(&lines, "# sendmail's default\n"
		    "smtp  inet  n  -  y  -  -  smtpd\n");
	sm_note(s, msa, IMPORT_CARRIED, "no service submission");
	if (msa == NULL && local)
		(void)buf_puts(&lines, "# sendmail's default, as there is no "
		    "FEATURE(no_default_msa)\n"
		    "submission  inet  n  -  y  -  -  smtpd\n"
		    "  -o smtpd_etrn_restrictions=reject\n");
	while (rest.n > 0) {
		line = view_head(rest, view_find(rest, '\n'));
		rest = view_from(rest, line.n + 1);
		if (view_starts_nocase(line, "@LISTEN@")) {
			(void)buf_putv(out, buf_view(&lines));
			continue;
		}
		if (view_starts_nocase(line, "#local  ") && local)
			line = view_from(line, 1);
		(void)buf_putv(out, line);
		(void)buf_putc(out, '\n');
	}
	buf_free(&lines);
}

/* -- filters --------------------------------------------------------------- */

/* S=local:/run/x, inet:port@host as smtpd_milters has it */
static bool
filter_socket(struct view v, struct buf *out)
{
	struct view host, port;

	if (view_starts_nocase(v, "local:") || view_starts_nocase(v, "unix:"))
		return buf_puts(out, "unix:") &&
		    buf_putv(out, view_from(v, view_find(v, ':') + 1));
	if (!view_starts_nocase(v, "inet:") &&
	    !view_starts_nocase(v, "inet6:"))
		return v.n > 0 && v.p[0] == '/' && buf_puts(out, "unix:") &&
		    buf_putv(out, v);
	v = view_from(v, view_find(v, ':') + 1);
	port = view_head(v, view_find(v, '@'));
	host = view_from(v, port.n + 1);
	if (host.n == 0)
		host = view_of("localhost");
	return word_good(host) && word_good(port) && buf_printf(out,
	    view_has(host, ':') ? "inet:[%.*s]:%.*s" : "inet:%.*s:%.*s",
	    VIEW_ARGS(host), VIEW_ARGS(port));
}

/* T=C:15m;S:4m;R:4m;E:10m: sendmail's S and R are for commands, E is for
 * the end of the message. */
static void
filter_times(struct view v, struct buf *out)
{
	static const struct {
		char letter;
		const char *name;
	} times[] = { { 'C', "connect_timeout" }, { 'R', "command_timeout" },
		{ 'E', "content_timeout" } };
	struct view part;
	int64_t ms;
	size_t k;

	while (v.n > 0) {
		part = view_trim(view_head(v, view_find(v, ';')));
		v = view_from(v, view_find(v, ';') + 1);
		if (part.n < 3 || part.p[1] != ':' || !conf_parse_time(
		    view_from(part, 2), 's', &ms))
			continue;
		for (k = 0; k < 3; k++)
			if (times[k].letter == part.p[0])
				(void)buf_printf(out, ", %s=%llds",
				    times[k].name, (long long)(ms / 1000));
	}
}

static bool
filter_text(struct view v, struct buf *out)
{
	struct view part, value;
	const char *action = "accept";
	bool found = false;
	struct buf times;

	buf_init(&times, 500);
	(void)buf_puts(out, "{ ");
	while (v.n > 0) {
		part = view_trim(view_head(v, view_find(v, ',')));
		v = view_from(v, view_find(v, ',') + 1);
		if (part.n < 3 || part.p[1] != '=')
			continue;
		value = view_trim(view_from(part, 2));
		if (part.p[0] == 'S')
			found = filter_socket(value, out);
		else if (part.p[0] == 'F')
			action = value.n == 0 ? "accept" : value.p[0] == 'R' ?
			    "reject" : value.p[0] == 'T' ? "tempfail" :
			    value.p[0] == '4' ? "shutdown" : "accept";
		else if (part.p[0] == 'T')
			filter_times(value, &times);
	}
	(void)buf_printf(out, ", default_action=%s", action);
	(void)buf_putv(out, buf_view(&times));
	(void)buf_puts(out, " }");
	buf_free(&times);
	return found;
}

static void
filter_one(struct sm *s, struct sm_item *i)
{
	struct buf b;

	buf_init(&b, 2000);
	if (i->n_args > 0 && filter_text(i->arg[0], &b)) {
		import_add(s->config, "smtpd_milters", i->at, "%s",
		    buf_cstr(&b));
		sm_note(s, i, IMPORT_CARRIED, "smtpd_milters");
	} else
		sm_note(s, i, IMPORT_UNKNOWN, "its socket is not "
		    "understood");
	buf_free(&b);
}

static void
filters(struct sm *s)
{
	struct sm_item *order = sm_find(&s->defines,
	    "confINPUT_MAIL_FILTERS"), *i;
	struct view rest, name;

	if (order != NULL) {
		rest = order->arg[0];
		while ((name = view_word(&rest, ", \t")).n > 0) {
			i = sm_find(&s->filters, sm_text(s, name));
			if (i != NULL && !i->used)
				filter_one(s, i);
		}
		sm_note(s, order, IMPORT_CARRIED, "the order of "
		    "smtpd_milters");
	}
	for (i = s->filters.first; i != NULL; i = i->next) {
		if (i->used)
			continue;
		if (order == NULL && !view_starts_nocase(i->text,
		    "MAIL_FILTER"))
			filter_one(s, i);
		else
			sm_note(s, i, IMPORT_DROPPED, "nothing uses it: it is "
			    "not in confINPUT_MAIL_FILTERS");
	}
	if (import_value(s->config, "smtpd_milters") != NULL)
		import_set(s->config, "non_smtpd_milters", sm_at(NULL, 0),
		    "$smtpd_milters");
}

/* -- TLS, AUTH ------------------------------------------------------------- */

static void
tls(struct sm *s)
{
	static const struct {
		const char *define, *to;
	} files[] = {
		{ "confSERVER_CERT", "smtpd_tls_cert_file" },
		{ "confSERVER_KEY", "smtpd_tls_key_file" },
		{ "confCLIENT_CERT", "smtp_tls_cert_file" },
		{ "confCLIENT_KEY", "smtp_tls_key_file" },
		{ "confCACERT", "smtp_tls_CAfile smtpd_tls_CAfile" },
		{ "confCACERT_PATH", "smtp_tls_CApath smtpd_tls_CApath" },
	};
	struct sm_item *i;
	struct view names, name;
	size_t k;

	for (k = 0; k < sizeof files / sizeof files[0]; k++) {
		i = sm_find(&s->defines, files[k].define);
		if (i == NULL)
			continue;
		if (i->arg[0].n == 0 || i->arg[0].p[0] != '/') {
			sm_note(s, i, IMPORT_UNKNOWN, "not the path of a "
			    "file");
			continue;
		}
		names = view_of(files[k].to);
		while ((name = view_word(&names, " ")).n > 0)
			import_set(s->config, sm_text(s, name), i->at, "%s",
			    sm_text(s, i->arg[0]));
		sm_note(s, i, IMPORT_CARRIED, "%s", files[k].to);
	}
	if (import_value(s->config, "smtpd_tls_cert_file") != NULL)
		import_set(s->config, "smtpd_tls_security_level", sm_at(NULL,
		    0), "may");
	import_set(s->config, "smtp_tls_security_level", sm_at(NULL, 0),
	    "may");
	import_remark(s->config, "smtp_tls_security_level", "sendmail uses "
	    "TLS where a server offers it");
}

static void
auth(struct sm *s)
{
	struct sm_item *m = sm_find(&s->defines, "confAUTH_MECHANISMS"),
	    *o = sm_find(&s->defines, "confAUTH_OPTIONS"), *i;
	struct import_place at = sm_at(NULL, 0);
	struct view v, w;
	bool on = m != NULL;

	for (i = s->classes.first; i != NULL; i = i->next)
		if (view_is(i->name, "TrustAuthMech")) {
			sm_note(s, i, IMPORT_CARRIED,
			    "permit_sasl_authenticated");
			at = i->at;
			on = true;
		}
	if (m != NULL) {
		v = m->arg[0];
		while ((w = view_word(&v, " \t,")).n > 0)
			import_add(s->config, "smtpd_sasl_mechanism_filter",
			    m->at, "%s", sm_text(s, w));
		sm_note(s, m, IMPORT_CARRIED, "smtpd_sasl_mechanism_filter");
		at = m->at;
	}
	if (on) {
		import_set(s->config, "smtpd_sasl_auth_enable", at, "yes");
		import_set(s->config, "smtpd_sasl_type", at, "cyrus");
		import_set(s->config, "smtpd_sasl_path", at, "Sendmail");
		import_remark(s->config, "smtpd_sasl_path", "sendmail's "
		    "Cyrus SASL configuration is Sendmail.conf");
	}
	if (o == NULL)
		return;
	v = o->arg[0];
	while (on && v.n > 0) {
		if (v.p[0] == 'p') {
			import_set(s->config, "smtpd_tls_auth_only", o->at,
			    "yes");
			sm_note(s, o, IMPORT_CHANGED, "p: "
			    "smtpd_tls_auth_only = yes, for all mechanisms");
		} else if (v.p[0] == 'y')
			sm_note(s, o, IMPORT_CARRIED, "y: anonymous logins "
			    "are never taken");
		else if (v.p[0] != ' ' && v.p[0] != ',')
			sm_note(s, o, IMPORT_DROPPED, "%c: see "
			    "smtpd_sasl_security_options", v.p[0]);
		v = view_from(v, 1);
	}
	if (!o->used)
		sm_note(s, o, IMPORT_DROPPED, "no mechanism is trusted");
}

static void
mailers(struct sm *s)
{
	static const struct {
		const char *name;
		enum import_outcome outcome;
		const char *why;
	} known[] = {
		{ "smtp", IMPORT_CARRIED, "the services smtp and relay" },
		{ "local", IMPORT_CARRIED, "the service local" },
		{ "procmail", IMPORT_DROPPED, "make a service procmail with "
		    "pipe(8) if mailertable uses it" },
		{ "uucp", IMPORT_DROPPED, "make a service uucp with pipe(8): "
		    "see its example" },
		{ "cyrus", IMPORT_DROPPED, "see mailbox_transport" },
		{ "cyrusv2", IMPORT_CHANGED, "mailbox_transport = "
		    "lmtp:unix:/var/lib/imap/socket/lmtp" },
		{ "fax", IMPORT_DROPPED, "make a service with pipe(8)" },
		{ "usenet", IMPORT_DROPPED, "there is none" },
		{ "phquery", IMPORT_DROPPED, "there is none" },
		{ "qpage", IMPORT_DROPPED, "make a service with pipe(8)" },
	};
	struct sm_item *i;
	size_t k;

	for (i = s->mailers.first; i != NULL; i = i->next)
		for (k = 0; k < sizeof known / sizeof known[0]; k++)
			if (view_is_nocase(i->name, known[k].name)) {
				sm_note(s, i, known[k].outcome, "%s",
				    known[k].why);
				if (known[k].outcome == IMPORT_CHANGED)
					import_set(s->config,
					    "mailbox_transport", i->at, "%s",
					    known[k].why + 20);
			}
}

void
import_sm_services(struct sm *s)
{
	services(s);
	filters(s);
	tls(s);
	auth(s);
	mailers(s);
}
