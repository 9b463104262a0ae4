#include <stdlib.h>

#include "lib/mem.h"
#include "queue/local_pipe.h"

/* As C writes them: \a \b \f \n \r \t \v \ooo; else the byte itself. */
static char *
pipe_unescape(struct view v)
{
	static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
	char *out = mem_alloc(v.n + 1), *p = out;
	const char *known;
	unsigned code, k;
	size_t i;

	for (i = 0; i < v.n; i++) {
		if (v.p[i] != '\\' || i + 1 == v.n) {
			*p++ = v.p[i];
			continue;
		}
		i++;
		code = 0;
		for (k = 0; k < 3 && i + k < v.n && v.p[i + k] >= '0' &&
		    v.p[i + k] <= '7'; k++)
			code = code * 8 + (unsigned)(v.p[i + k] - '0');
		known = strchr(from, v.p[i]);
		if (k > 0) {
			*p++ = (char)code;
			i += k - 1;
		} else {
			*p++ = known != NULL ? to[known - from] : v.p[i];
		}
	}
	*p = '\0';
	return out;
}

static bool
pipe_flags(struct view v, unsigned *ret)
{
	static const char letters[] = "BDFORXhqu.>";
	const char *p;
	size_t i;

	*ret = 0;
	for (i = 0; i < v.n; i++) {
		p = v.p[i] != '\0' ? strchr(letters, v.p[i]) : NULL;
		if (p == NULL)
			return false;
		*ret |= 1u << (p - letters);
	}
	return true;
}

static const char *
pipe_attribute(struct pipe_service *p, struct view name, struct view value)
{
	size_t colon = view_find(value, ':');

	if (view_is(name, "flags"))
		return pipe_flags(value, &p->flags) ? NULL : "bad flags=";
	if (view_is(name, "size"))
		return conf_parse_int(value, 0, INT64_MAX, &p->size) ? NULL :
		    "bad size=";
	if (view_is(name, "user")) {
		free(p->user);
		free(p->group);
		p->user = mem_copy(view_head(value, colon));
		p->group = colon < value.n ? mem_copy(view_from(value,
		    colon + 1)) : NULL;
	} else if (view_is(name, "directory")) {
		free(p->directory);
		p->directory = mem_copy(value);
	} else if (view_is(name, "eol")) {
		free(p->eol);
		p->eol = pipe_unescape(value);
	} else if (view_is(name, "null_sender")) {
		p->null_sender = value.p;	/* the argument's own end */
	} else if (view_is(name, "chroot")) {
		return "chroot= is not supported";
	} else {
		return "an unknown attribute";
	}
	return NULL;
}

const char *
pipe_service_read(const struct service *s, struct pipe_service *ret)
{
	struct pipe_service p = { .null_sender = "MAILER-DAEMON" };
	const char *wrong = NULL;
	struct view word;
	size_t i, eq;

	for (i = 0; i < s->argc && wrong == NULL; i++) {
		word = view_of(s->argv[i]);
		eq = view_find(word, '=');
		if (view_is(view_head(word, eq), "argv") && eq < word.n) {
			p.argv = s->argv + i;
			p.argc = s->argc - i;
			if (word.n == eq + 1)
				wrong = "argv= without a command";
			break;
		}
		wrong = eq == word.n ? "an attribute without =" :
		    pipe_attribute(&p, view_head(word, eq),
		    view_from(word, eq + 1));
	}
	if (wrong == NULL && p.argv == NULL)
		wrong = "no argv=";
	if (wrong == NULL && (p.user == NULL || p.user[0] == '\0'))
		wrong = "no user=";
	if (wrong != NULL)
		pipe_service_free(&p);
	else
		*ret = p;
	return wrong;
}

void
pipe_service_free(struct pipe_service *p)
{
	free(p->user);
	free(p->group);
	free(p->directory);
	free(p->eol);
	*p = (struct pipe_service){ 0 };
}
