#include <string.h>

#include "lib/conf.h"
#include "proxy/credentials_token.h"

#define DEPTH_MAX	8

bool
token_name_good(struct view name)
{
	size_t i;

	if (name.n == 0 || name.n > 255 || name.p[0] == '.')
		return false;
	for (i = 0; i < name.n; i++)
		if (name.p[i] == '/' || (unsigned char)name.p[i] < ' ')
			return false;
	return true;
}

bool
token_name_plain(struct view name)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-";
	size_t i;

	if (!token_name_good(name) || name.n > TOKEN_NAME_MAX ||
	    name.p[0] == '-')
		return false;
	for (i = 0; i < name.n; i++)
		if (memchr(plain, name.p[i], sizeof plain - 1) == NULL)
			return false;
	return true;
}

/* RFC 6750 section 2.1: b64token, and what else is sent as one; nothing that
 * could end it within a SASL message. */
static bool
token_good(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if (v.p[i] <= ' ' || v.p[i] >= 0x7f || v.p[i] == '"')
			return false;
	return v.n > 0 && v.n <= TOKEN_MAX;
}

static void
json_space(struct view *v)
{
	while (v->n > 0 && strchr(" \t\r\n", v->p[0]) != NULL)
		*v = view_from(*v, 1);
}

/* What stands between the quotes, as it is: with its escapes. */
static bool
json_string(struct view *v, struct view *ret)
{
	size_t i;

	if (v->n == 0 || v->p[0] != '"')
		return false;
	for (i = 1; i < v->n && v->p[i] != '"'; i++)
		if (v->p[i] == '\\')
			i++;
	if (i >= v->n)
		return false;
	*ret = view_make(v->p + 1, i - 1);
	*v = view_from(*v, i + 1);
	return true;
}

/* A value; of a string or a number, *ret is its text. */
static bool
json_value(struct view *v, struct view *ret)
{
	unsigned depth = 0;
	struct view text;
	size_t n = 0;

	json_space(v);
	*ret = view_make("", 0);
	if (v->n > 0 && v->p[0] == '"')
		return json_string(v, ret);
	if (v->n > 0 && (v->p[0] == '{' || v->p[0] == '[')) {
		/* What is in there is not for us. */
		do {
			if (v->p[0] == '"') {
				if (!json_string(v, &text))
					return false;
				continue;
			}
			if (v->p[0] == '{' || v->p[0] == '[')
				depth++;
			else if (v->p[0] == '}' || v->p[0] == ']')
				depth--;
			*v = view_from(*v, 1);
		} while (depth > 0 && depth <= DEPTH_MAX && v->n > 0);
		return depth == 0;
	}
	while (n < v->n && strchr(",}] \t\r\n", v->p[n]) == NULL)
		n++;
	*ret = view_head(*v, n);
	*v = view_from(*v, n);
	return n > 0;
}

/* Seconds; a fraction is cut off. */
static int64_t
json_seconds(struct view v)
{
	int64_t n;

	return conf_parse_int(view_head(v, view_find(v, '.')), 0,
	    INT64_MAX / 4, &n) ? n : -1;
}

static bool
json_member(struct view name, struct view value, int64_t written,
    struct token *t)
{
	int64_t n;

	if (view_is(name, "access_token")) {
		if (t->text.n > 0)
			return false;
		t->text = value;
		return true;
	}
	if (!view_is(name, "expires_in") && !view_is(name, "expires_at") &&
	    !view_is(name, "expires_on") && !view_is(name, "expiry"))
		return true;
	n = json_seconds(value);
	if (n < 0)
		return false;
	t->expires = view_is(name, "expires_in") ? written + n : n;
	return true;
}

static bool
json_token(struct view v, int64_t written, struct token *t)
{
	struct view name, value;

	v = view_from(v, 1);
	json_space(&v);
	while (v.n > 0 && v.p[0] != '}') {
		if (!json_string(&v, &name))
			return false;
		json_space(&v);
		if (v.n == 0 || v.p[0] != ':')
			return false;
		v = view_from(v, 1);
		if (!json_value(&v, &value) ||
		    !json_member(name, value, written, t))
			return false;
		json_space(&v);
		if (v.n > 0 && v.p[0] == ',') {
			v = view_from(v, 1);
			json_space(&v);
		} else if (v.n == 0 || v.p[0] != '}') {
			return false;
		}
	}
	return v.n > 0 && view_trim(view_from(v, 1)).n == 0;
}

const char *
token_read(struct view file, int64_t written, struct token *ret)
{
	struct token t = { .expires = 0 };

	if (file.n > TOKEN_TEXT_MAX)
		return "the file is too large";
	file = view_trim(file);
	while (file.n > 0 && strchr("\r\n", file.p[file.n - 1]) != NULL)
		file.n--;
	if (file.n == 0)
		return "the file is empty";
	if (file.p[0] != '{')
		t.text = file;
	else if (!json_token(file, written, &t))
		return "the JSON cannot be read";
	if (t.text.n == 0)
		return "there is no access_token";
	if (!token_good(t.text))
		return "the token is malformed or too long";
	*ret = t;
	return NULL;
}
