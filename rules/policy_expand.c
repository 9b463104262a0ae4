/* $name and ${name} in texts for clients: what a session is, and nothing of
 * main.cf. */
#include <stdio.h>
#include <time.h>

#include "lib/address.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "rules/policy_priv.h"

#define CONDITIONS_MAX	5u	/* ${name?{...}} within one another */

/* sender, sender_name, sender_domain; and the same of the recipient */
static bool
expand_address(struct view name, const char *prefix, struct view addr,
    struct view *ret)
{
	struct view rest;

	if (!view_starts_nocase(name, prefix))
		return false;
	rest = view_from(name, strlen(prefix));
	if (rest.n == 0)
		*ret = addr.n > 0 ? addr : view_of("<>");
	else if (view_is(rest, "_name"))
		*ret = addr.n > 0 ? address_local(addr) : view_of("<>");
	else if (view_is(rest, "_domain"))
		*ret = address_domain(addr);
	else
		return false;
	return true;
}

struct expansion {
	const struct policy *p;
	const struct policy_facts *f;
	const struct expand_name *more;
	struct buf *out;
	unsigned depth;
	char text[200];		/* for values that are made */
};

static bool
expand_client(struct expansion *x, struct view name, struct view *ret)
{
	const struct policy_facts *f = x->f;
	char addr[NETADDR_TEXT];

	(void)netaddr_text(&f->client, addr);
	x->text[0] = '\0';
	if (view_is(name, "client"))
		(void)snprintf(x->text, sizeof x->text, "%s[%s]",
		    log_safe(f->client_name), addr);
	else if (view_is(name, "client_address"))
		(void)snprintf(x->text, sizeof x->text, "%s", addr);
	else if (view_is(name, "client_port"))
		(void)snprintf(x->text, sizeof x->text, "%u",
		    (unsigned)f->client.port);
	else if (view_is(name, "client_name"))
		(void)snprintf(x->text, sizeof x->text, "%s",
		    log_safe(f->client_name));
	else if (view_is(name, "reverse_client_name"))
		(void)snprintf(x->text, sizeof x->text, "%s",
		    log_safe(f->reverse_name));
	else
		return false;
	*ret = view_of(x->text);
	return true;
}

static bool
expand_value(struct expansion *x, struct view name, struct view *ret)
{
	const struct expand_name *m;
	time_t now;
	struct tm tm;

	for (m = x->more; m != NULL && m->name != NULL; m++) {
		if (view_is(name, m->name)) {
			*ret = m->value;
			return true;
		}
	}
	if (expand_client(x, name, ret) ||
	    expand_address(name, "sender", x->f->sender, ret) ||
	    expand_address(name, "recipient", x->f->recipient, ret))
		return true;
	if (view_is(name, "server_name")) {
		*ret = view_of(x->p->cf->myhostname);
		return true;
	}
	if (view_is(name, "helo_name")) {
		*ret = x->f->helo;
		return true;
	}
	if (view_is(name, "localtime")) {
		now = (time_t)(clock_wall().us / 1000000);
		x->text[0] = '\0';
		if (localtime_r(&now, &tm) != NULL)
			(void)strftime(x->text, sizeof x->text,
			    "%b %d %H:%M:%S", &tm);
		*ret = view_of(x->text);
		return true;
	}
	log_warn("unknown macro name \"%s\" in expansion request",
	    log_safe(name));
	return false;
}

/* What a client said, in a reply to it: no line ends, no NUL. */
static bool
expand_put(struct buf *out, struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if (!buf_putc(out, (unsigned char)v.p[i] < ' ' ||
		    v.p[i] == 0x7f ? '_' : v.p[i]))
			return false;
	return true;
}

static bool expand_run(struct expansion *x, struct view text);

/* Length of the group that begins with "{", with its braces; 0: none. */
static size_t
expand_group(struct view text)
{
	unsigned depth = 0;
	size_t i;

	if (text.n == 0 || text.p[0] != '{')
		return 0;
	for (i = 0; i < text.n; i++) {
		if (text.p[i] == '{')
			depth++;
		else if (text.p[i] == '}' && --depth == 0)
			return i + 1;
	}
	return 0;
}

static struct view
expand_inside(struct view text)
{
	size_t n = expand_group(text);

	return n == text.n && n > 1 ? view_make(text.p + 1, n - 2) : text;
}

/* ${name}, ${name?text}, ${name?{yes}:{no}}, ${name:text} */
static bool
expand_braces(struct expansion *x, struct view inside)
{
	struct view name, rest, value, yes = { NULL, 0 }, no = { NULL, 0 };
	size_t n = 0, group;
	char mark;
	bool ok;

	while (n < inside.n && (isalnum((unsigned char)inside.p[n]) ||
	    inside.p[n] == '_'))
		n++;
	name = view_head(inside, n);
	if (!expand_value(x, name, &value))
		return false;
	if (n == inside.n)
		return expand_put(x->out, value);
	mark = inside.p[n];
	rest = view_from(inside, n + 1);
	if ((mark != '?' && mark != ':') || x->depth == CONDITIONS_MAX)
		return false;
	if (mark == ':') {
		no = expand_inside(view_trim(rest));
	} else {
		rest = view_trim(rest);
		group = expand_group(rest);
		yes = group > 0 ? expand_inside(view_head(rest, group)) : rest;
		rest = group > 0 ? view_trim(view_from(rest, group)) :
		    view_of("");
		if (rest.n > 0 && rest.p[0] == ':')
			no = expand_inside(view_trim(view_from(rest, 1)));
	}
	x->depth++;
	ok = mark == ':' && value.n > 0 ? expand_put(x->out, value) :
	    expand_run(x, value.n > 0 ? yes : no);
	x->depth--;
	return ok;
}

static bool
expand_run(struct expansion *x, struct view text)
{
	struct view value;
	size_t n;

	while (text.n > 0) {
		n = view_find(text, '$');
		if (!buf_putv(x->out, view_head(text, n)))
			return false;
		text = view_from(text, n + 1);
		if (n == 0 && text.n == 0)
			break;
		if (text.n == 0)
			break;
		if (text.p[0] == '$') {
			if (!buf_putc(x->out, '$'))
				return false;
			text = view_from(text, 1);
		} else if (text.p[0] == '{') {
			n = expand_group(text);
			if (n < 2 || !expand_braces(x, view_make(text.p + 1,
			    n - 2)))
				return false;
			text = view_from(text, n);
		} else {
			for (n = 0; n < text.n && (text.p[n] == '_' ||
			    isalnum((unsigned char)text.p[n])); n++)
				;
			if (n == 0 || !expand_value(x, view_head(text, n),
			    &value) || !expand_put(x->out, value))
				return false;
			text = view_from(text, n);
		}
	}
	return true;
}

bool
expand_text(const struct policy *p, const struct policy_facts *f,
    const struct expand_name *more, struct view text, struct buf *out)
{
	struct expansion x = { .p = p, .f = f, .more = more, .out = out };

	return expand_run(&x, text);
}

bool
policy_expand(const struct policy *p, const struct policy_facts *f,
    struct view text, struct buf *out)
{
	return expand_text(p, f, NULL, text, out);
}

bool
expand_is_status(struct view word)
{
	size_t i, dots = 0, digits = 0;

	if (word.n < 5 || word.n > 9 ||
	    (word.p[0] != '4' && word.p[0] != '5') || word.p[1] != '.')
		return false;
	for (i = 1; i < word.n; i++) {
		if (word.p[i] == '.') {
			if (++dots > 2 || (i > 1 && digits == 0))
				return false;
			digits = 0;
		} else if (!isdigit((unsigned char)word.p[i]) ||
		    ++digits > 3) {
			return false;
		}
	}
	return dots == 2 && digits > 0;
}
