/* What postern-milter was started with, on its way to pmilter. */
#include <stdio.h>

#include "filters/pmilter.h"

static const struct {
	const char *word;
	enum pmilter_mode mode;
} modes[] = {
	{ "reject", MODE_REJECT },
	{ "tag", MODE_TAG },
	{ "quarantine", MODE_QUARANTINE },
};

bool
pmilter_mode_parse(const char *word, enum pmilter_mode *ret)
{
	size_t i;

	for (i = 0; i < sizeof modes / sizeof modes[0]; i++)
		if (strcmp(word, modes[i].word) == 0) {
			*ret = modes[i].mode;
			return true;
		}
	return false;
}

bool
pmilter_start_put(struct buf *b, const struct pmilter_start *s)
{
	return buf_printf(b, "%d %lld %s %s", (int)s->mode,
	    (long long)s->socket_mode, s->group[0] != '\0' ? s->group : "-",
	    s->socket);
}

static bool
start_word(struct view *rest, char *to, size_t size)
{
	struct view w = view_word(rest, " ");

	if (w.n == 0 || w.n >= size)
		return false;
	(void)snprintf(to, size, "%.*s", VIEW_ARGS(w));
	return true;
}

bool
pmilter_start_get(struct view text, struct pmilter_start *ret)
{
	struct pmilter_start s = { 0 };
	struct view mode = view_word(&text, " ");
	struct view bits = view_word(&text, " ");
	int64_t n;

	if (!conf_parse_int(mode, MODE_REJECT, MODE_QUARANTINE, &n) ||
	    !conf_parse_int(bits, -1, 0777, &s.socket_mode) ||
	    !start_word(&text, s.group, sizeof s.group) ||
	    !start_word(&text, s.socket, sizeof s.socket) || text.n > 0)
		return false;
	s.mode = (enum pmilter_mode)n;
	if (strcmp(s.group, "-") == 0)
		s.group[0] = '\0';
	*ret = s;
	return true;
}

const char *
pmilter_socket_path(const char *socket)
{
	if (strncmp(socket, "unix:", 5) == 0)
		return socket + 5;
	if (strncmp(socket, "local:", 6) == 0)
		return socket + 6;
	return socket[0] == '/' ? socket : NULL;
}
