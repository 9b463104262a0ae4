#include "lib/address.h"
#include "rules/sts_policy.h"

#define NAME_MAX_BYTES	32u	/* of a field */

static bool
byte_is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9');
}

/* The name of a field, known or not: sts-ext-name of RFC 8461. */
static bool
field_name_good(struct view name)
{
	size_t i;

	if (name.n == 0 || name.n > NAME_MAX_BYTES ||
	    !byte_is_alnum(name.p[0]))
		return false;
	for (i = 1; i < name.n; i++)
		if (!byte_is_alnum(name.p[i]) && name.p[i] != '_' &&
		    name.p[i] != '-' && name.p[i] != '.')
			return false;
	return true;
}

/* -- the record in the DNS ------------------------------------------------- */

static bool
record_id_good(struct view id)
{
	size_t i;

	for (i = 0; i < id.n; i++)
		if (!byte_is_alnum(id.p[i]))
			return false;
	return id.n > 0 && id.n <= STS_ID_MAX;
}

/* %x21-3A / %x3C / %x3E-7E: no space, no ';', no '=' */
static bool
record_value_good(struct view value)
{
	size_t i;

	for (i = 0; i < value.n; i++)
		if (value.p[i] < 0x21 || value.p[i] > 0x7e ||
		    value.p[i] == ';' || value.p[i] == '=')
			return false;
	return value.n > 0;
}

enum sts_record
sts_record_read(struct view text, struct view *ret_id)
{
	const char version[] = "v=STSv1";
	struct view rest, field, id = { NULL, 0 };
	size_t n;

	rest = view_from(text, sizeof version - 1);
	if (!view_is(view_head(text, sizeof version - 1), version))
		return STS_RECORD_OTHER;
	/* "v=STSv10" is of another time. */
	if (rest.n > 0 && rest.p[0] != ';' && rest.p[0] != ' ' &&
	    rest.p[0] != '\t')
		return STS_RECORD_OTHER;
	rest = view_trim_blank(rest);
	while (rest.n > 0) {
		if (rest.p[0] != ';')
			return STS_RECORD_BAD;
		rest = view_from(rest, 1);
		field = view_trim_blank(view_head(rest, view_find(rest, ';')));
		rest = view_from(rest, view_find(rest, ';'));
		if (field.n == 0 && rest.n == 0)
			break;		/* the last ';' */
		n = view_find(field, '=');
		if (n == field.n || !field_name_good(view_head(field, n)))
			return STS_RECORD_BAD;
		if (!view_is(view_head(field, n), "id")) {
			if (!record_value_good(view_from(field, n + 1)))
				return STS_RECORD_BAD;
			continue;
		}
		if (id.n > 0 || !record_id_good(view_from(field, n + 1)))
			return STS_RECORD_BAD;
		id = view_from(field, n + 1);
	}
	if (id.n == 0)
		return STS_RECORD_BAD;
	*ret_id = id;
	return STS_RECORD_GOOD;
}

/* -- the policy ------------------------------------------------------------ */

static const char *const mode_names[] = {
	[STS_MODE_NONE] = "none",
	[STS_MODE_TESTING] = "testing",
	[STS_MODE_ENFORCE] = "enforce",
};

const char *
sts_mode_name(enum sts_mode m)
{
	return mode_names[m];
}

/* What the lines have said. */
struct reading {
	struct sts_policy *p;
	bool version, mode, age;
};

static const char *
line_mode(struct reading *r, struct view value)
{
	size_t i;

	if (r->mode)
		return NULL;	/* the first one counts */
	for (i = STS_MODE_NONE; i <= STS_MODE_ENFORCE; i++)
		if (view_is(value, mode_names[i])) {
			r->p->mode = (enum sts_mode)i;
			r->mode = true;
			return NULL;
		}
	return "unknown mode";
}

static const char *
line_age(struct reading *r, struct view value)
{
	size_t i;

	if (r->age)
		return NULL;
	for (i = 0; i < value.n; i++)
		if (value.p[i] < '0' || value.p[i] > '9')
			return "max_age is not a number";
	if (value.n == 0 || value.n > 10)
		return "max_age is not a number of ten digits at most";
	for (i = 0; i < value.n; i++)
		r->p->max_age = 10 * r->p->max_age + (value.p[i] - '0');
	if (r->p->max_age > STS_AGE_MAX)
		r->p->max_age = STS_AGE_MAX;
	r->age = true;
	return NULL;
}

static bool
pattern_good(struct view v)
{
	struct view host = v;

	if (v.n > 2 && v.p[0] == '*' && v.p[1] == '.')
		host = view_from(v, 2);
	return !view_8bit(v) && v.n < STS_DOMAIN_MAX &&
	    address_valid_hostname(host);
}

static const char *
line_read(struct reading *r, struct view line)
{
	size_t n = view_find(line, ':'), i;
	struct view name = view_head(line, n);
	struct view value = view_trim_blank(view_from(line, n + 1));

	if (n == line.n || !field_name_good(name))
		return "a line is not of the form name: value";
	for (i = 0; i < value.n; i++)
		if ((unsigned char)value.p[i] < ' ' || value.p[i] == 0x7f)
			return "control characters";
	if (view_is(name, "version")) {
		if (!r->version && !view_is(value, "STSv1"))
			return "unknown version";
		r->version = true;
	} else if (view_is(name, "mode")) {
		return line_mode(r, value);
	} else if (view_is(name, "max_age")) {
		return line_age(r, value);
	} else if (view_is(name, "mx")) {
		if (!pattern_good(value))
			return "an mx is no name of a host";
		if (r->p->n_mx == STS_MX_MAX)
			return "too many mx";
		r->p->mx[r->p->n_mx++] = value;
	} else if (value.n == 0) {
		return "a field is empty";
	}
	return NULL;
}

bool
sts_policy_read(struct view text, struct sts_policy *ret,
    const char **ret_why)
{
	struct sts_policy p = { .n_mx = 0 };
	struct reading r = { .p = &p };
	const char *why = NULL;
	struct view line;
	bool blank = false;

	if (text.n > STS_TEXT_MAX)
		why = "too long";
	while (why == NULL && text.n > 0) {
		line = view_head(text, view_find(text, '\n'));
		text = view_from(text, line.n + 1);
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if (view_trim_blank(line).n == 0)
			blank = true;
		else if (blank)
			why = "a blank line";
		else
			why = line_read(&r, line);
	}
	if (why == NULL)
		why = !r.version ? "no version" : !r.mode ? "no mode" :
		    !r.age ? "no max_age" :
		    p.n_mx == 0 && p.mode != STS_MODE_NONE ? "no mx" : NULL;
	if (why != NULL) {
		*ret_why = why;
		return false;
	}
	*ret = p;
	return true;
}

void
sts_policy_put(const struct sts_policy *p, struct buf *out)
{
	size_t from;
	uint32_t i;

	(void)buf_printf(out, "version: STSv1\nmode: %s\n",
	    sts_mode_name(p->mode));
	from = out->n;
	for (i = 0; i < p->n_mx; i++)
		(void)buf_printf(out, "mx: %.*s\n", VIEW_ARGS(p->mx[i]));
	for (; from < out->n; from++)
		if (out->p[from] >= 'A' && out->p[from] <= 'Z')
			out->p[from] += 'a' - 'A';
	(void)buf_printf(out, "max_age: %lld\n", (long long)p->max_age);
}

bool
sts_mx_match(struct view pattern, struct view host)
{
	size_t n;

	if (host.n > 0 && host.p[host.n - 1] == '.')
		host.n--;
	if (pattern.n < 2 || pattern.p[0] != '*')
		return pattern.n > 0 && view_eq_nocase(pattern, host);
	n = view_find(host, '.');
	return n > 0 && n < host.n &&
	    view_eq_nocase(view_from(pattern, 2), view_from(host, n + 1));
}

bool
sts_policy_allows(const struct sts_policy *p, struct view host)
{
	uint32_t i;

	for (i = 0; i < p->n_mx; i++)
		if (sts_mx_match(p->mx[i], host))
			return true;
	return false;
}
