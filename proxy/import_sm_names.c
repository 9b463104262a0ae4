/*
 * Hosts and domains: who we are, which domains end here.
 */
#include <unistd.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/netaddr.h"
#include "proxy/import_sm.h"

#define INLINE_MAX	24u	/* names in a list; more make a table */

/* "-o /etc/mail/x %[^\#]": options before it, a format behind it */
static struct view
class_path(struct view v, bool *ret_optional)
{
	struct view word;

	*ret_optional = false;
	while ((word = view_word(&v, " \t")).n > 0) {
		if (view_is(word, "-o"))
			*ret_optional = true;
		else if (word.n > 2 && word.p[0] == '-') {
			*ret_optional = true;
			return view_from(word, 2);
		} else
			return word;
	}
	return word;
}

static void
class_read(struct sm *s, struct sm_item *f, const char *class,
    struct view value, struct import_place at)
{
	bool optional;
	struct view path = class_path(value, &optional), rest, line, word;
	const char *file = sm_path(s, path);
	struct sm_item *i;
	unsigned n = 0;

	if (access(file, F_OK) != 0) {
		if (f != NULL)
			sm_note(s, f, IMPORT_CARRIED, "there is no file %s",
			    file);
		return;
	}
	if (!sm_file(s, file, false, at, &rest))
		return;
	if (f != NULL)
		sm_note(s, f, IMPORT_CARRIED, "its names were read");
	while (sm_line(&rest, &n, &line)) {
		while ((word = view_word(&line, " \t")).n > 0) {
			if (word.p[0] == '#')
				break;
			i = sm_add(s, &s->classes, sm_at(file, n),
			    view_of(class), word);
			if (i != NULL)
				i->arg[i->n_args++] = i->text;
		}
	}
}

static void
class_files(struct sm *s)
{
	struct sm_item *i, *cw = sm_feature(s, "use_cw_file"),
	    *ct = sm_feature(s, "use_ct_file");
	struct view v;

	for (i = s->class_files.first; i != NULL; i = i->next)
		class_read(s, i, sm_text(s, i->name), i->arg[0], i->at);
	v = sm_define(s, "confCW_FILE");
	if (cw != NULL)
		class_read(s, cw, "w", v.n > 0 ? v :
		    view_of("-o /etc/mail/local-host-names"), cw->at);
	sm_note(s, sm_find(&s->defines, "confCW_FILE"), cw != NULL ?
	    IMPORT_CARRIED : IMPORT_DROPPED, cw != NULL ?
	    "the file that FEATURE(use_cw_file) reads" :
	    "nothing reads it without FEATURE(use_cw_file)");
	v = sm_define(s, "confCT_FILE");
	if (ct != NULL)
		class_read(s, ct, "t", v.n > 0 ? v :
		    view_of("-o /etc/mail/trusted-users"), ct->at);
	sm_note(s, sm_find(&s->defines, "confCT_FILE"), ct != NULL ?
	    IMPORT_CARRIED : IMPORT_DROPPED, ct != NULL ?
	    "the file that FEATURE(use_ct_file) reads" :
	    "nothing reads it without FEATURE(use_ct_file)");
	v = sm_define(s, "confCR_FILE");
	class_read(s, NULL, "R", v.n > 0 ? v :
	    view_of("-o /etc/mail/relay-domains"), sm_at(NULL, 0));
	sm_note(s, sm_find(&s->defines, "confCR_FILE"), IMPORT_CARRIED,
	    "the file of domains and networks that may relay");
	for (i = s->classes.first; i != NULL; i = i->next)
		if (view_is(i->name, "t"))
			sm_note(s, i, IMPORT_DROPPED, "everybody may name a "
			    "sender with sendmail -f; authorized_submit_users "
			    "says who may hand in mail at all");
}

/* A name that a list of domains can have. */
static bool
domain_good(struct view v)
{
	if (v.n > 0 && v.p[0] == '.')
		v = view_from(v, 1);
	return address_valid_hostname(v);
}

/* The names of class into a list, or a table if they are many. */
static void
names_list(struct sm *s, const char *class, const char *to, const char *file)
{
	struct import_table *t = NULL;
	struct sm_item *i;
	size_t n = 0;

	for (i = s->classes.first; i != NULL; i = i->next)
		n += view_is(i->name, class) && !i->used;
	for (i = s->classes.first; i != NULL; i = i->next) {
		if (!view_is(i->name, class) || i->used)
			continue;
		if (!domain_good(i->arg[0])) {
			sm_note(s, i, IMPORT_DROPPED, "not a domain");
			continue;
		}
		if (n > INLINE_MAX) {
			t = import_table(s->config, "hash", file);
			(void)import_row(t, i->at, i->arg[0], view_of("OK"));
		} else
			import_add(s->config, to, i->at, "%s",
			    sm_text(s, i->arg[0]));
		sm_note(s, i, IMPORT_CARRIED, "%s", to);
	}
	if (t != NULL)
		import_add(s->config, to, sm_at(NULL, 0), "%s",
		    import_table_spec(t));
}

static bool
all_hex(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if (strchr("0123456789abcdefABCDEF", v.p[i]) == NULL ||
		    v.p[i] == '\0')
			return false;
	return true;
}

bool
import_sm_network(struct view v, struct buf *out)
{
	struct netaddr a;
	unsigned groups = 0, n = 0, digits = 0;
	struct view rest;

	if (view_starts_nocase(v, "IPv6:")) {
		v = view_from(v, 5);
		if (netaddr_parse(v, &a) && a.family == AF_INET6)
			return buf_printf(out, "[%.*s]/128", VIEW_ARGS(v));
		rest = v;
		while (rest.n > 0) {
			struct view w = view_head(rest, view_find(rest, ':'));

			rest = view_from(rest, w.n + 1);
			if (w.n == 0 || w.n > 4 || !all_hex(w))
				return false;
			groups++;
		}
		return groups > 0 && groups < 8 && buf_printf(out,
		    "[%.*s::]/%u", VIEW_ARGS(view_head(v, v.n -
		    (v.p[v.n - 1] == ':'))), groups * 16);
	}
	for (rest = v; rest.n > 0; rest = view_from(rest, 1)) {
		if (rest.p[0] == '.') {
			if (digits == 0)
				return false;
			groups++;
			n = digits = 0;
			continue;
		}
		if (rest.p[0] < '0' || rest.p[0] > '9' || ++digits > 3)
			return false;
		n = n * 10 + (unsigned)(rest.p[0] - '0');
		if (n > 255)
			return false;
	}
	groups += digits > 0;
	if (groups == 0 || groups > 4)
		return false;
	while (v.n > 0 && v.p[v.n - 1] == '.')
		v.n--;
	return buf_printf(out, "%.*s%s/%u", VIEW_ARGS(v), groups == 1 ?
	    ".0.0.0" : groups == 2 ? ".0.0" : groups == 3 ? ".0" : "",
	    groups * 8);
}

/*
 * Class R: networks of clients, domains of recipients and clients.  What is
 * below a domain counts too, but for relay_hosts_only.
 */
static void
names_relay(struct sm *s)
{
	struct sm_item *i, *only = sm_feature(s, "relay_hosts_only");
	struct import_table *t;
	struct buf b;

	buf_init(&b, 200);
	import_set(s->config, "mynetworks", sm_at(NULL, 0),
	    "127.0.0.1/32, [::1]/128");
	import_remark(s->config, "mynetworks", "sendmail relays for its own "
	    "host, and for what class R (relay-domains) names");
	for (i = s->classes.first; i != NULL; i = i->next) {
		if (!view_is(i->name, "R"))
			continue;
		buf_clear(&b);
		if (import_sm_network(i->arg[0], &b)) {
			import_add(s->config, "mynetworks", i->at, "%s",
			    buf_cstr(&b));
			sm_note(s, i, IMPORT_CARRIED, "mynetworks has %s",
			    buf_cstr(&b));
		} else if (domain_good(i->arg[0])) {
			t = import_table(s->config, "hash", "relay_clients");
			(void)import_row(t, i->at, i->arg[0],
			    view_of("OK"));
		}
	}
	buf_free(&b);
	names_list(s, "R", "relay_domains", "relay_domains");
	if (only == NULL && import_value(s->config, "relay_domains") != NULL)
		import_remark(s->config, "relay_domains", "with what is "
		    "below them: parent_domain_matches_subdomains");
	sm_note(s, only, IMPORT_CHANGED, "only the very domains of class R: "
	    "relay_domains and smtpd_access_maps are no longer among "
	    "parent_domain_matches_subdomains; rows of access mean what is "
	    "below them as .domain only");
	if (only != NULL)
		import_set(s->config, "parent_domain_matches_subdomains",
		    only->at, "mynetworks");
}

void
import_sm_names(struct sm *s)
{
	struct sm_item *i = sm_find(&s->defines, "confDOMAIN_NAME"), *m;
	struct view v = sm_define(s, "confDOMAIN_NAME");

	if (i != NULL && address_valid_hostname(v)) {
		import_set(s->config, "myhostname", i->at, "%s",
		    sm_text(s, v));
		sm_note(s, i, IMPORT_CARRIED, "myhostname");
	} else if (i != NULL)
		sm_note(s, i, view_is(v, "$w.$m") || view_is(v, "$w.Foo.COM") ?
		    IMPORT_CARRIED : IMPORT_UNKNOWN, "myhostname is the name "
		    "that the system has");
	class_files(s);
	if (sm_feature(s, "nullclient") == NULL) {
		import_set(s->config, "mydestination", sm_at(NULL, 0),
		    "$myhostname, localhost");
		import_remark(s->config, "mydestination", "class w: this "
		    "host, LOCAL_DOMAIN, local-host-names");
	}
	for (m = s->classes.first; m != NULL; m = m->next)
		if (view_is(m->name, "w") && m->arg[0].n > 0 &&
		    m->arg[0].p[0] == '[')
			sm_note(s, m, IMPORT_CARRIED, "addresses in brackets "
			    "are this host's by its interfaces");
	if (sm_feature(s, "nullclient") == NULL)
		names_list(s, "w", "mydestination", "local_host_names");
	names_relay(s);
}
