#include "lib/address.h"
#include "lib/netaddr.h"
#include "rules/tlsrpt_record.h"

/* Visible ASCII, as URIs are. */
static bool
uri_clean(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if (v.p[i] <= ' ' || v.p[i] > '~' || v.p[i] == '"' ||
		    v.p[i] == '<' || v.p[i] == '>')
			return false;
	return v.n > 0 && v.n <= TLSRPT_URI_MAX;
}

static bool
record_uris(struct view list, struct tlsrpt_uris *ret)
{
	struct view uri;
	size_t n;

	for (;;) {
		n = view_find(list, ',');
		uri = view_trim_blank(view_head(list, n));
		if (!uri_clean(uri))
			return false;
		if (ret->n < TLSRPT_URIS_MAX)
			ret->uri[ret->n++] = uri;
		if (n == list.n)
			return true;
		list = view_from(list, n + 1);
	}
}

/* tlsrpt-ext-name */
static bool
field_name_good(struct view name)
{
	size_t i;

	for (i = 0; i < name.n; i++)
		if (!isalnum((unsigned char)name.p[i]) && (i == 0 ||
		    (name.p[i] != '_' && name.p[i] != '-' &&
		    name.p[i] != '.')))
			return false;
	return name.n > 0 && name.n <= 32;
}

static enum tlsrpt_record
record_read(struct view text, struct tlsrpt_uris *ret)
{
	const char version[] = "v=TLSRPTv1";
	struct view rest = view_from(text, sizeof version - 1), field;
	bool rua = false;
	size_t n;

	if (!view_is(view_head(text, sizeof version - 1), version))
		return TLSRPT_RECORD_OTHER;
	rest = view_trim_blank(rest);
	/* "v=TLSRPTv10" is of another time. */
	if (rest.n == 0 || rest.p[0] != ';')
		return TLSRPT_RECORD_OTHER;
	while (rest.n > 0) {
		rest = view_from(rest, 1);
		field = view_trim_blank(view_head(rest, view_find(rest, ';')));
		rest = view_from(rest, view_find(rest, ';'));
		if (field.n == 0 && rest.n == 0)
			break;		/* the last ';' */
		n = view_find(field, '=');
		if (n == field.n || !field_name_good(view_head(field, n)))
			return TLSRPT_RECORD_BAD;
		if (!view_is(view_head(field, n), "rua"))
			continue;
		if (rua || !record_uris(view_from(field, n + 1), ret))
			return TLSRPT_RECORD_BAD;
		rua = true;
	}
	return rua ? TLSRPT_RECORD_GOOD : TLSRPT_RECORD_BAD;
}

enum tlsrpt_record
tlsrpt_record_read(struct view text, struct tlsrpt_uris *ret)
{
	enum tlsrpt_record r;

	ret->n = 0;
	r = record_read(text, ret);
	if (r != TLSRPT_RECORD_GOOD)
		ret->n = 0;
	return r;
}

static int
hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ?
	    c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* False: a bad "%xx". */
static bool
uri_decode(struct view v, struct buf *out)
{
	size_t i;

	for (i = 0; i < v.n; i++) {
		if (v.p[i] != '%') {
			(void)buf_putc(out, v.p[i]);
			continue;
		}
		if (i + 2 >= v.n || hex_value(v.p[i + 1]) < 0 ||
		    hex_value(v.p[i + 2]) < 0)
			return false;
		(void)buf_putc(out, (char)(hex_value(v.p[i + 1]) * 16 +
		    hex_value(v.p[i + 2])));
		i += 2;
	}
	return true;
}

/* Local part: a dot-atom of RFC 5321, so that it needs no quotes anywhere. */
static bool
local_good(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++) {
		if (v.p[i] == '.' && i > 0 && i + 1 < v.n &&
		    v.p[i - 1] != '.')
			continue;
		if (v.p[i] == '\0' || (!isalnum((unsigned char)v.p[i]) &&
		    strchr("!#$%&'*+-/=?^_`{|}~", v.p[i]) == NULL) ||
		    (unsigned char)v.p[i] > '~')
			return false;
	}
	return v.n > 0 && v.n <= ADDRESS_LOCAL_MAX;
}

bool
tlsrpt_uri_mail(struct view uri, struct buf *address)
{
	const char scheme[] = "mailto:";
	struct view v = view_from(uri, sizeof scheme - 1), domain;
	size_t before = address->n;
	bool good;

	if (!view_starts_nocase(uri, scheme) || !uri_clean(uri))
		return false;
	/* "?subject=..." is not for us. */
	v = view_head(v, view_find(v, '?'));
	good = uri_decode(v, address);
	v = buf_part(address, before, address->n - before);
	domain = address_domain(v);
	good = good && domain.n > 0 && domain.n <= 253 && !view_8bit(domain) &&
	    address_valid_hostname(domain) && local_good(address_local(v));
	if (!good)
		address->n = before;
	return good;
}

bool
tlsrpt_uri_https(struct view uri, struct buf *host, struct buf *path)
{
	const char scheme[] = "https://";
	struct view v = view_from(uri, sizeof scheme - 1), name;
	struct netaddr a;
	size_t n = 0, i, last;

	if (!view_starts_nocase(uri, scheme) || !uri_clean(uri) ||
	    view_has(v, '#') || view_has(v, '\\'))
		return false;
	while (n < v.n && v.p[n] != '/' && v.p[n] != '?')
		n++;
	name = view_head(v, n);
	v = view_from(v, n);
	if (view_ends_nocase(name, view_of(":443")))
		name.n -= 4;
	for (i = last = 0; i < name.n; i++)
		if (name.p[i] == '.')
			last = i + 1;
	/* A letter begins its last label: it is no number of any form. */
	if (name.n > 253 || view_8bit(name) || !address_valid_hostname(name) ||
	    netaddr_parse(name, &a) || last == 0 ||
	    !isalpha((unsigned char)name.p[last]))
		return false;
	for (i = 0; i < name.n; i++)
		(void)buf_putc(host, (char)tolower((unsigned char)name.p[i]));
	if (v.n == 0 || v.p[0] != '/')
		(void)buf_putc(path, '/');
	(void)buf_putv(path, v);
	return true;
}
