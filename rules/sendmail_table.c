#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/netaddr.h"
#include "rules/sendmail_table.h"

/* -- reading --------------------------------------------------------------- */

/* The next line that says something; false at the end. */
bool
sendmail_line(struct table_source *s, struct view *ret)
{
	while (s->rest.n > 0) {
		struct view line = view_head(s->rest,
		    view_find(s->rest, '\n'));

		s->rest = view_from(s->rest, line.n + 1);
		s->line++;
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if (line.n > 0 && line.p[0] == '#' && s->comment != NULL)
			s->comment(view_from(line, 1), s->line,
			    s->comment_arg);
		if (line.n == 0 || line.p[0] == '#' || view_trim(line).n == 0)
			continue;
		*ret = line;
		return true;
	}
	return false;
}

static void
sendmail_add(struct memory_table *m, struct view key, struct view value,
    unsigned line, struct table_loader *l)
{
	if (key.n > SENDMAIL_KEY_MAX) {
		table_complain(l, line, true, "the key is too long");
		return;
	}
	switch (memory_add(m, key, value, line, false)) {
	case MEMORY_ADDED:
		break;
	case MEMORY_DUPLICATE:
		/* makemap keeps the first too. */
		table_complain(l, line, false, "duplicate entry: \"%.*s\"",
		    VIEW_ARGS(view_head(key, 200)));
		break;
	case MEMORY_FULL:
		table_complain(l, line, true, "the table is too large");
		break;
	}
}

struct memory_table *
sendmail_read(struct table_source *s, struct table_loader *l,
    const char *(*check)(struct view value))
{
	struct memory_table *m = memory_new(false);
	struct view line, key, value;
	const char *why;
	size_t n;

	while (sendmail_line(s, &line)) {
		for (n = 0; n < line.n && !view_space(line.p[n]); n++)
			;
		key = view_head(line, n);
		value = view_trim(view_from(line, n));
		why = NULL;
		if (n == 0)
			why = "a line must not start with white space";
		else if (value.n == 0)
			why = "there is nothing behind the key";
		else if (check != NULL)
			why = check(value);
		if (why != NULL)
			table_complain(l, s->line, true, "%s", why);
		else
			sendmail_add(m, key, value, s->line, l);
	}
	return m;
}

/* -- values ---------------------------------------------------------------- */

static bool
is_code(struct view text)
{
	return text.n >= 3 && (text.p[0] == '4' || text.p[0] == '5') &&
	    isdigit((unsigned char)text.p[1]) &&
	    isdigit((unsigned char)text.p[2]) &&
	    (text.n == 3 || view_space(text.p[3]));
}

/* "5.7.1": the length of it at the start of text; 0: none. */
static size_t
status_length(struct view text)
{
	size_t n = 0, dots = 0, digits = 0;

	for (; n < text.n; n++) {
		if (isdigit((unsigned char)text.p[n])) {
			if (++digits > 3)
				return 0;
		} else if (text.p[n] == '.' && digits > 0 && dots < 2) {
			dots++;
			digits = 0;
		} else {
			break;
		}
	}
	return dots == 2 && digits > 0 && (text.p[0] == '4' ||
	    text.p[0] == '5') && text.p[1] == '.' ? n : 0;
}

static struct view
unquoted(struct view v)
{
	v = view_trim(v);
	if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
		v = view_trim(view_head(view_from(v, 1), v.n - 2));
	return v;
}

bool
sendmail_error(struct view text, const char *status, struct buf *out)
{
	struct view code = view_of("550"), dsn = view_of(status);
	size_t n;

	text = unquoted(text);
	n = status_length(text);
	if (n > 0 && n < text.n && text.p[n] == ':') {
		dsn = view_head(text, n);
		text = unquoted(view_from(text, n + 1));
	} else if (view_starts_nocase(text, "nouser") && text.n > 6 &&
	    view_space(text.p[6])) {
		dsn = view_of("5.1.1");
		text = unquoted(view_from(text, 6));
	}
	if (is_code(text)) {
		code = view_head(text, 3);
		text = view_trim(view_from(text, 3));
	}
	n = status_length(text);
	if (n > 0 && (n == text.n || view_space(text.p[n]))) {
		dsn = view_head(text, n);
		text = view_trim(view_from(text, n));
	}
	if (text.n == 0)
		text = view_of("Access denied");
	return buf_putv(out, code) && buf_putc(out, ' ') &&
	    (dsn.n == 0 || (buf_putc(out, code.p[0]) &&
	    buf_putv(out, view_from(dsn, 1)) && buf_putc(out, ' '))) &&
	    buf_putv(out, text);
}

bool
sendmail_fill(struct view value, const struct view *args, size_t n,
    struct buf *out)
{
	for (size_t i = 0; i < value.n; i++) {
		char next = i + 1 < value.n ? value.p[i + 1] : '\0';

		if (value.p[i] != '%' || (next != '%' &&
		    !isdigit((unsigned char)next))) {
			if (!buf_putc(out, value.p[i]))
				return false;
			continue;
		}
		i++;
		if (next == '%' ? !buf_putc(out, '%') :
		    ((size_t)(next - '0') < n &&
		    !buf_putv(out, args[next - '0'])))
			return false;
	}
	return true;
}

/* One key, in two or three parts. */
static bool
has3(const struct memory_table *m, struct view a, const char *b,
    struct view c, struct view *ret_value, unsigned *ret_line)
{
	struct view middle = view_of(b);
	char text[SENDMAIL_KEY_MAX];
	size_t n = middle.n;

	if (a.n + n + c.n > sizeof text || a.n > sizeof text ||
	    c.n > sizeof text)
		return false;
	if (a.n > 0)
		memcpy(text, a.p, a.n);
	memcpy(text + a.n, middle.p, n);
	if (c.n > 0)
		memcpy(text + a.n + n, c.p, c.n);
	return memory_has(m, view_make(text, a.n + n + c.n), ret_value,
	    ret_line);
}

/* -- mailertable ----------------------------------------------------------- */

static const char *
mailertable_check(struct view value)
{
	size_t colon = view_find(value, ':');

	if (colon == value.n || colon == 0)
		return "need mailer:host";
	return NULL;
}

static void *
mailertable_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	(void)type;
	(void)name;
	return sendmail_read(s, l, mailertable_check);
}

/* "a:b" are hosts to try one after the other; Postfix writes a list. */
static bool
put_hosts(struct view hosts, struct buf *out)
{
	bool inside = false;

	for (size_t i = 0; i < hosts.n; i++) {
		char c = hosts.p[i];

		inside = c == '[' || (inside && c != ']');
		if (c == ':' && !inside ? !buf_puts(out, ", ") :
		    !buf_putc(out, c))
			return false;
	}
	return true;
}

static bool
put_route(struct view value, struct buf *out)
{
	size_t colon = view_find(value, ':');
	struct view mailer = view_head(value, colon);
	struct view host = view_trim(view_from(value, colon + 1));
	char text[1000];
	struct buf error = { .p = text, .cap = sizeof text,
	    .max = sizeof text };
	struct view e;

	if (view_is_nocase(mailer, "error")) {
		if (!sendmail_error(host, "5.0.0", &error))
			return false;
		e = buf_view(&error);
		/* Without the code, which error: does not have. */
		return buf_puts(out, e.p[0] == '4' ? "retry:" : "error:") &&
		    buf_putv(out, view_from(e, 4));
	}
	if (view_is_nocase(mailer, "smtp") ||
	    view_is_nocase(mailer, "esmtp") ||
	    view_is_nocase(mailer, "smtp8") ||
	    view_is_nocase(mailer, "dsmtp"))
		return buf_puts(out, "smtp:") && put_hosts(host, out);
	if (view_is_nocase(mailer, "relay"))
		return buf_puts(out, "relay:") && put_hosts(host, out);
	return buf_putv(out, mailer) && buf_putc(out, ':') &&
	    buf_putv(out, host);
}

static enum table_answer
mailertable_answer(struct view value, struct view key, struct view wild,
    struct view label, unsigned line, struct buf *out, unsigned *ret_line)
{
	const struct view args[] = { key, wild, label };
	char text[2000];
	struct buf filled = { .p = text, .cap = sizeof text,
	    .max = sizeof text };

	if (!sendmail_fill(value, args, 3, &filled) ||
	    !put_route(buf_view(&filled), out)) {
		buf_clear(out);
		return TABLE_FAILED;
	}
	*ret_line = line;
	return TABLE_FOUND;
}

/* The domain; ".parent", most qualified first; ".". */
static enum table_answer
mailertable_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	const struct memory_table *m = data;
	struct view domain = key, none = { "", 0 }, rest, found, label;
	unsigned line;
	size_t dot;

	if ((*pos)++ > 0)
		return TABLE_NOT_FOUND;
	if (view_find(key, '@') < key.n)
		domain = address_domain(key);
	if (domain.n > 0 && domain.p[domain.n - 1] == '.')
		domain.n--;
	/* A part that somebody made of a domain is not one. */
	if (domain.n == 0 || domain.p[0] == '.' || view_is(domain, "*"))
		return TABLE_NOT_FOUND;
	if (memory_has(m, domain, &found, &line))
		return mailertable_answer(found, domain, none, none, line,
		    value, ret_line);
	for (rest = domain; domain.p[0] != '[' &&
	    (dot = view_find(rest, '.')) < rest.n;
	    rest = view_from(rest, dot + 1)) {
		label = view_head(rest, dot);
		if (memory_has(m, view_from(rest, dot), &found, &line))
			return mailertable_answer(found, domain,
			    view_head(domain, (size_t)(rest.p - domain.p) +
			    dot), label, line, value, ret_line);
	}
	if (memory_has(m, view_of("."), &found, &line))
		return mailertable_answer(found, domain, domain, rest, line,
		    value, ret_line);
	return TABLE_NOT_FOUND;
}

const struct table_kind sendmail_mailertable = {
	.type = "sendmail-mailertable", .source = true,
	.load = mailertable_load, .release = memory_release,
	.row_hash = memory_row_hash, .plain_lines = true,
	.find = mailertable_find, .each = memory_each
};

/* -- virtusertable --------------------------------------------------------- */

struct virtual_key {
	struct view local, at, user, detail, plus;
	bool split;		/* there is a '+' behind a user */
};

static struct virtual_key
virtual_split(struct view addr)
{
	struct virtual_key k = { .local = address_local(addr) };
	size_t i = view_find(view_from(k.local, 1), '+') + 1;

	k.at = view_from(addr, k.local.n);
	k.user = k.local;
	k.split = k.local.n > 1 && i < k.local.n;
	if (k.split) {
		k.user = view_head(k.local, i);
		k.plus = view_from(k.local, i);
		k.detail = view_from(k.plus, 1);
	}
	return k;
}

/* The entry for an address; args are %0 to %3. */
static bool
virtual_find(const struct memory_table *m, struct view addr,
    struct view *args, struct view *ret_value, unsigned *ret_line)
{
	struct virtual_key k = virtual_split(addr);
	const struct view none = { "", 0 };
	bool detail = k.split && k.detail.n > 0;

	if (k.local.n == 0 || k.at.n < 2)
		return false;
	args[0] = addr;
	args[1] = k.local;
	args[2] = args[3] = none;
	if (memory_has(m, addr, ret_value, ret_line))
		return true;
	if (!k.split)
		return memory_has(m, k.at, ret_value, ret_line);
	args[1] = k.user;
	args[2] = k.detail;
	args[3] = k.plus;
	return (detail && has3(m, k.user, "++", k.at, ret_value, ret_line)) ||
	    has3(m, k.user, "+*", k.at, ret_value, ret_line) ||
	    has3(m, k.user, "", k.at, ret_value, ret_line) ||
	    (detail && has3(m, none, "++", k.at, ret_value, ret_line)) ||
	    has3(m, none, "+*", k.at, ret_value, ret_line) ||
	    memory_has(m, k.at, ret_value, ret_line);
}

static void *
virtusertable_load(const char *type, struct view name,
    struct table_source *s, struct table_loader *l)
{
	(void)type;
	(void)name;
	return sendmail_read(s, l, NULL);
}

/* An "error:" entry is no address: who has one does not exist. */
static enum table_answer
virtusertable_find(void *data, size_t *pos, struct view key,
    struct buf *value, unsigned *ret_line)
{
	struct view args[SENDMAIL_ARGS], found;
	unsigned line;

	if ((*pos)++ > 0 || !virtual_find(data, key, args, &found, &line) ||
	    view_starts_nocase(found, "error:"))
		return TABLE_NOT_FOUND;
	if (!sendmail_fill(found, args, SENDMAIL_ARGS, value)) {
		buf_clear(value);
		return TABLE_FAILED;
	}
	*ret_line = line;
	return TABLE_FOUND;
}

static enum table_answer
virtusertable_access(void *data, enum access_key kind, struct view key,
    struct buf *value, unsigned *ret_line)
{
	struct view args[SENDMAIL_ARGS], found;
	char text[2000];
	struct buf filled = { .p = text, .cap = sizeof text,
	    .max = sizeof text };
	unsigned line;

	if (kind != ACCESS_RECIPIENT ||
	    !virtual_find(data, key, args, &found, &line) ||
	    !view_starts_nocase(found, "error:"))
		return TABLE_NOT_FOUND;
	if (!sendmail_fill(view_from(found, 6), args, SENDMAIL_ARGS,
	    &filled) || !sendmail_error(buf_view(&filled), "5.1.1", value)) {
		buf_clear(value);
		return TABLE_FAILED;
	}
	*ret_line = line;
	return TABLE_FOUND;
}

struct errors {
	void (*fn)(struct view result, unsigned line, void *arg);
	void *arg;
};

/* Addresses are for virtual_alias_maps.  An entry that makes no action is told
 * as it is. */
static void
virtusertable_error(struct view result, unsigned line, void *arg)
{
	const struct errors *e = arg;
	struct buf value;

	if (!view_starts_nocase(result, "error:"))
		return;
	buf_init(&value, 2000);
	e->fn(sendmail_error(view_from(result, 6), "5.1.1", &value) ?
	    buf_view(&value) : result, line, e->arg);
	buf_free(&value);
}

static void
virtusertable_errors(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	struct errors e = { fn, arg };

	memory_each(data, virtusertable_error, &e);
}

const struct table_kind sendmail_virtusertable = {
	.type = "sendmail-virtusertable", .pattern = true, .source = true,
	.load = virtusertable_load, .release = memory_release,
	.row_hash = memory_row_hash, .plain_lines = true,
	.find = virtusertable_find, .each = memory_each,
	.access = virtusertable_access, .access_each = virtusertable_errors
};

/* -- genericstable, domaintable -------------------------------------------- */

static enum table_answer
generics_answer(struct view value, struct view addr, struct view arg,
    unsigned line, struct buf *out, unsigned *ret_line)
{
	const struct view args[] = { addr, arg };

	if (!sendmail_fill(value, args, 2, out)) {
		buf_clear(out);
		return TABLE_FAILED;
	}
	*ret_line = line;
	return TABLE_FOUND;
}

/*
 * user+detail@domain, user+*@domain, user@domain, @domain; for a user of
 * this host, who is asked for without a domain: user+detail, user+*, user.
 */
static enum table_answer
genericstable_find(void *data, size_t *pos, struct view key,
    struct buf *value, unsigned *ret_line)
{
	const struct memory_table *m = data;
	struct virtual_key k = virtual_split(key);
	const struct view none = { "", 0 };
	struct view found, arg;
	unsigned line;

	if ((*pos)++ > 0 || k.local.n == 0)
		return TABLE_NOT_FOUND;
	arg = k.split ? k.detail : none;
	if (memory_has(m, key, &found, &line))
		return generics_answer(found, key, none, line, value,
		    ret_line);
	if (k.split && (has3(m, k.user, "+*", k.at, &found, &line) ||
	    has3(m, k.user, "", k.at, &found, &line)))
		return generics_answer(found, key, arg, line, value,
		    ret_line);
	if (k.at.n > 1 && memory_has(m, k.at, &found, &line))
		return generics_answer(found, key, k.local, line, value,
		    ret_line);
	return TABLE_NOT_FOUND;
}

const struct table_kind sendmail_genericstable = {
	.type = "sendmail-genericstable", .source = true,
	.load = virtusertable_load, .release = memory_release,
	.row_hash = memory_row_hash, .plain_lines = true,
	.find = genericstable_find, .each = memory_each
};

static enum table_answer
domaintable_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	const struct memory_table *m = data;
	struct view local = address_local(key), domain = key, found;
	bool address = local.n < key.n;
	unsigned line;

	if ((*pos)++ > 0)
		return TABLE_NOT_FOUND;
	if (address)
		domain = view_from(key, local.n + 1);
	if (domain.n == 0 || !memory_has(m, domain, &found, &line))
		return TABLE_NOT_FOUND;
	if ((address && (!buf_putv(value, local) || !buf_putc(value, '@'))) ||
	    !buf_putv(value, found)) {
		buf_clear(value);
		return TABLE_FAILED;
	}
	*ret_line = line;
	return TABLE_FOUND;
}

const struct table_kind sendmail_domaintable = {
	.type = "sendmail-domaintable", .pattern = true, .source = true,
	.load = virtusertable_load, .release = memory_release,
	.row_hash = memory_row_hash, .plain_lines = true,
	.find = domaintable_find, .each = memory_each
};

/* -- relay-domains, local-host-names --------------------------------------- */

/* Words up to a '#', any number on a line. */
static void *
class_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct memory_table *m = memory_new(false);
	struct view line, word;

	(void)type;
	(void)name;
	while (sendmail_line(s, &line)) {
		line = view_head(line, view_find(line, '#'));
		while ((word = view_word(&line, " \t\r\v\f")).n > 0) {
			if (word.n > SENDMAIL_KEY_MAX)
				table_complain(l, s->line, true,
				    "the name is too long");
			else if (memory_add(m, word, word, s->line,
			    false) == MEMORY_FULL)
				table_complain(l, s->line, true,
				    "the table is too large");
		}
	}
	return m;
}

/* A domain and what is below it; a network by its first numbers. */
static enum table_answer
relay_domains_find(void *data, size_t *pos, struct view key,
    struct buf *value, unsigned *ret_line)
{
	const struct memory_table *m = data;
	struct netaddr a;
	struct view found;
	bool address = netaddr_parse(key, &a) && key.p[0] != '[';
	unsigned line;
	size_t i;

	if ((*pos)++ > 0)
		return TABLE_NOT_FOUND;
	while (key.n > 0) {
		if (memory_has(m, key, &found, &line) ||
		    (a.family == AF_INET6 && address &&
		    has3(m, view_of("IPv6:"), "", key, &found, &line)))
			return table_found(value, found, line, ret_line);
		if (!address) {
			i = view_find(key, '.');
			key = view_from(key, i + 1);
			continue;
		}
		while (key.n > 0 && key.p[key.n - 1] != '.' &&
		    key.p[key.n - 1] != ':')
			key.n--;
		if (key.n > 0)
			key.n--;
	}
	return TABLE_NOT_FOUND;
}

const struct table_kind sendmail_relay_domains = {
	.type = "sendmail-relay-domains", .pattern = true, .source = true,
	.load = class_load, .release = memory_release,
	.row_hash = memory_row_hash, .plain_lines = true,
	.find = relay_domains_find, .each = memory_each
};

const struct table_kind sendmail_cw = {
	.type = "sendmail-cw", .pattern = true, .source = true,
	.load = class_load, .release = memory_release,
	.row_hash = memory_row_hash, .plain_lines = true,
	.find = memory_find, .each = memory_each
};
