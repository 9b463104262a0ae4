#include "lib/conf.h"
#include "proxy/auth_dovecot_wire.h"

/* A word up to the next TAB; false: there is none. */
static bool
word_next(struct view *rest, struct view *ret)
{
	size_t n;

	if (rest->p == NULL)
		return false;
	n = view_find(*rest, '\t');
	*ret = view_head(*rest, n);
	*rest = n < rest->n ? view_from(*rest, n + 1) :
	    (struct view){ NULL, 0 };
	return true;
}

static bool
word_number(struct view *rest, uint32_t *ret)
{
	struct view word;
	int64_t n;

	if (!word_next(rest, &word) ||
	    !conf_parse_int(word, 0, UINT32_MAX, &n))
		return false;
	*ret = (uint32_t)n;
	return true;
}

/* \001 stands before what has a meaning in a line.  The length, 0 if it does
 * not fit or is not written so. */
static size_t
value_read(struct view v, char out[DOVECOT_VALUE_MAX])
{
	static const char codes[] = "01tnr", bytes[] = "\0\001\t\n\r";
	const char *code;
	size_t i, n = 0;

	for (i = 0; i < v.n; i++) {
		if (n == DOVECOT_VALUE_MAX)
			return 0;
		if (v.p[i] != '\001') {
			out[n++] = v.p[i];
			continue;
		}
		if (++i == v.n || v.p[i] == '\0' ||
		    (code = strchr(codes, v.p[i])) == NULL)
			return 0;
		out[n++] = bytes[code - codes];
	}
	return n;
}

static void
read_outcome(struct view rest, struct dovecot_line *l)
{
	struct view word;

	while (word_next(&rest, &word)) {
		if (view_starts_nocase(word, "user="))
			l->login_n = value_read(view_from(word, 5), l->login);
		else if (view_starts_nocase(word, "reason="))
			l->reason_n = value_read(view_from(word, 7),
			    l->reason);
		else if (view_is(word, "temp") ||
		    view_is(word, "code=temp_fail"))
			l->temporary = true;
	}
}

static void
read_mechanism(struct view rest, struct dovecot_line *l)
{
	static const struct {
		const char *word;
		uint32_t property;
	} known[] = {
		{ "plaintext", SASL_PLAINTEXT },
		{ "active", SASL_ACTIVE },
		{ "dictionary", SASL_DICTIONARY },
		{ "anonymous", SASL_ANONYMOUS },
		{ "forward-secrecy", SASL_FORWARD_SECRECY },
		{ "mutual-auth", SASL_MUTUAL },
		{ "private", SASL_PRIVATE },
	};
	struct view word;
	size_t i;

	if (!word_next(&rest, &l->mechanism) ||
	    !sasl_mechanism_good(l->mechanism)) {
		l->word = DOVECOT_BAD;
		return;
	}
	while (word_next(&rest, &word))
		for (i = 0; i < sizeof known / sizeof known[0]; i++)
			if (view_is(word, known[i].word))
				l->properties |= known[i].property;
}

void
dovecot_read(struct view line, struct dovecot_line *l)
{
	static const struct {
		const char *text;
		enum dovecot_word word;
	} words[] = {
		{ "VERSION", DOVECOT_VERSION }, { "MECH", DOVECOT_MECH },
		{ "DONE", DOVECOT_DONE }, { "OK", DOVECOT_OK },
		{ "CONT", DOVECOT_CONT }, { "FAIL", DOVECOT_FAIL },
	};
	struct view rest = line, word;
	bool good = true;
	size_t i;

	l->word = DOVECOT_OTHER;
	l->properties = 0;
	l->temporary = false;
	l->login_n = l->reason_n = 0;
	l->challenge = view_of("");
	if (line.n == 0 || view_find(line, '\0') < line.n ||
	    !word_next(&rest, &word)) {
		l->word = DOVECOT_BAD;
		return;
	}
	for (i = 0; i < sizeof words / sizeof words[0]; i++)
		if (view_is(word, words[i].text))
			l->word = words[i].word;
	switch (l->word) {
	case DOVECOT_VERSION:
		good = word_number(&rest, &l->major) &&
		    word_number(&rest, &l->minor);
		break;
	case DOVECOT_MECH:
		read_mechanism(rest, l);
		break;
	case DOVECOT_OK:
	case DOVECOT_FAIL:
		good = word_number(&rest, &l->id);
		if (good)
			read_outcome(rest, l);
		break;
	case DOVECOT_CONT:
		good = word_number(&rest, &l->id);
		/* Nothing is a challenge too. */
		if (good && word_next(&rest, &word))
			l->challenge = word;
		good = good && rest.p == NULL &&
		    l->challenge.n <= SASL_TEXT_MAX &&
		    sasl_base64_good(l->challenge);
		break;
	case DOVECOT_BAD:
	case DOVECOT_OTHER:
	case DOVECOT_DONE:
		break;
	}
	if (!good)
		l->word = DOVECOT_BAD;
}

static void
put_value(struct buf *b, const char *name, struct view v)
{
	static const char codes[] = "01tnr", bytes[] = "\0\001\t\n\r";
	const char *byte;
	size_t i;

	(void)buf_printf(b, "\t%s=", name);
	for (i = 0; i < v.n; i++) {
		byte = memchr(bytes, v.p[i], sizeof bytes - 1);
		if (byte != NULL) {
			(void)buf_putc(b, '\001');
			(void)buf_putc(b, codes[byte - bytes]);
		} else
			(void)buf_putc(b, v.p[i]);
	}
}

bool
dovecot_put_begin(struct buf *b, uint32_t id, const struct auth_begin *a)
{
	(void)buf_printf(b, "AUTH\t%u\t%.*s", id, VIEW_ARGS(a->mechanism));
	put_value(b, "service", a->service);
	/* Nobody will ask Dovecot for more about this user. */
	(void)buf_puts(b, "\tnologin");
	put_value(b, "lip", a->server_addr);
	(void)buf_printf(b, "\tlport=%u", a->server_port);
	put_value(b, "rip", a->client_addr);
	(void)buf_printf(b, "\trport=%u", a->client_port);
	if (a->tls)
		(void)buf_puts(b, "\tsecured");
	if (a->tls_name.n > 0)
		put_value(b, "local_name", a->tls_name);
	/* It is the last one. */
	if (a->has_response && (!buf_puts(b, "\tresp=") ||
	    !buf_putv(b, a->response)))
		return false;
	return buf_putc(b, '\n');
}
