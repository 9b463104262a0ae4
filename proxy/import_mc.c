#include "lib/log.h"
#include "proxy/import_mc.h"

struct reader {
	struct view text;
	size_t at;
	unsigned line;
	struct arena *arena;
	struct view block;
	bool diverted;
	const char *why;	/* what went wrong */
	unsigned why_line;
};

static bool
word_start(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static size_t
word_length(struct view v)
{
	size_t n = 0;

	if (v.n == 0 || !word_start(v.p[0]))
		return 0;
	while (n < v.n && (word_start(v.p[n]) ||
	    (v.p[n] >= '0' && v.p[n] <= '9')))
		n++;
	return n;
}

static struct view
reader_rest(const struct reader *r)
{
	return view_from(r->text, r->at);
}

static void
reader_skip(struct reader *r, size_t n)
{
	for (; n > 0 && r->at < r->text.n; n--)
		if (r->text.p[r->at++] == '\n')
			r->line++;
}

static struct view
reader_line(struct reader *r)
{
	struct view rest = reader_rest(r);
	struct view line = view_head(rest, view_find(rest, '\n'));

	reader_skip(r, line.n + 1);
	return line;
}

static bool
reader_fail(struct reader *r, unsigned line, const char *why)
{
	if (r->why == NULL) {
		r->why = why;
		r->why_line = line;
	}
	return false;
}

/* A quoted string, the reader being on its `; the outer quotes go. */
static bool
read_quoted(struct reader *r, struct buf *out)
{
	unsigned depth = 0, line = r->line;
	char c;

	while (r->at < r->text.n) {
		c = r->text.p[r->at];
		reader_skip(r, 1);
		if (c == '`' && depth++ == 0)
			continue;
		if (c == '\'' && --depth == 0)
			return true;
		if (!buf_putc(out, c))
			return reader_fail(r, line, "a string is too long");
	}
	return reader_fail(r, line, "a ` has no '");
}

/* One argument, up to its comma or parenthesis, which stays. */
static bool
read_arg(struct reader *r, struct buf *out)
{
	unsigned depth = 0, line = r->line;
	struct view rest;
	size_t n;
	char c;

	while (r->at < r->text.n && view_space(r->text.p[r->at]))
		reader_skip(r, 1);
	while (r->at < r->text.n) {
		rest = reader_rest(r);
		c = rest.p[0];
		n = word_length(rest);
		if (view_is(view_head(rest, n), "dnl")) {
			(void)reader_line(r);
			while (r->at < r->text.n &&
			    view_space(r->text.p[r->at]))
				reader_skip(r, 1);
			continue;
		}
		if (c == '`') {
			if (!read_quoted(r, out))
				return false;
			continue;
		}
		if (depth == 0 && (c == ',' || c == ')'))
			return true;
		depth += c == '(';
		depth -= c == ')';
		n = n > 0 ? n : 1;
		if (!buf_put(out, rest.p, n))
			return reader_fail(r, line, "an argument is too long");
		reader_skip(r, n);
	}
	return reader_fail(r, line, "a ( has no )");
}

/* "(...)", the reader being on the parenthesis. */
static bool
read_args(struct reader *r, struct mc_call *call)
{
	struct buf b;
	bool ok = true;
	char c = '(';

	buf_init(&b, MC_ARG_MAX);
	while (ok && c != ')') {
		reader_skip(r, 1);
		buf_clear(&b);
		ok = read_arg(r, &b);
		if (!ok)
			break;
		c = r->text.p[r->at];
		if (call->n_args < MC_ARGS_MAX)
			call->arg[call->n_args++] = arena_copy(r->arena,
			    buf_view(&b));
		else
			ok = reader_fail(r, r->line, "too many arguments");
	}
	if (ok)
		reader_skip(r, 1);
	buf_free(&b);
	return ok;
}

/* -- calls ----------------------------------------------------------------- */

/* Words that begin a block of sendmail.cf's lines. */
static bool
block_word(struct view word)
{
	static const char *const others[] = { "MAILER_DEFINITIONS" };

	return (word.n > 6 && memcmp(word.p, "LOCAL_", 6) == 0 &&
	    !view_is(word, "LOCAL_DOMAIN") && !view_is(word, "LOCAL_USER") &&
	    !view_is(word, "LOCAL_RELAY")) || view_is(word, others[0]);
}

/* In a block a line of sendmail.cf may look like words; a call is in capital
 * letters or one of m4's own. */
static bool
block_call(struct view word)
{
	static const char *const own[] = { "define", "undefine", "divert",
		"include", "sinclude", "ifdef", "ifelse" };
	size_t i;

	for (i = 0; i < sizeof own / sizeof own[0]; i++)
		if (view_is(word, own[i]))
			return true;
	for (i = 0; i < word.n; i++)
		if (word.p[i] >= 'a' && word.p[i] <= 'z')
			return false;
	return word.n > 3;
}

static void
reader_divert(struct reader *r, const struct mc_call *call)
{
	struct view n = call->n_args > 0 ? view_trim(call->arg[0]) :
	    view_of("0");

	r->diverted = n.n > 0 && n.p[0] == '-';
}

/* A word: a call or the start of a block.  False: it is text. */
static bool
read_word(struct reader *r, size_t n, mc_each *each, void *arg)
{
	struct mc_call call = { .name = view_head(reader_rest(r), n),
		.line = r->line, .diverted = r->diverted,
		.block = r->block };
	size_t start = r->at;
	bool open = r->at + n < r->text.n && r->text.p[r->at + n] == '(';

	if (!open && !block_word(call.name))
		return false;
	if (open && r->block.n > 0 && !block_call(call.name))
		return false;
	reader_skip(r, n);
	if (open && !read_args(r, &call))
		return true;
	call.text = view_make(r->text.p + start, r->at - start);
	if (view_is(call.name, "divert"))
		reader_divert(r, &call);
	if (block_word(call.name))
		r->block = view_is(call.name, "MAILER_DEFINITIONS") ?
		    view_of("") : call.name;
	else if (open && r->block.n > 0)
		call.block = r->block = view_of("");
	each(&call, arg);
	return true;
}

static void
read_text(struct reader *r, mc_each *each, void *arg)
{
	struct mc_call call = { .line = r->line, .block = r->block,
		.diverted = r->diverted };

	call.text = view_trim(reader_line(r));
	/* "dnl" may end it */
	if (view_ends_nocase(call.text, view_of("dnl")) && (call.text.n == 3 ||
	    !word_start(call.text.p[call.text.n - 4])))
		call.text = view_trim(view_head(call.text, call.text.n - 3));
	if (call.text.n > 0 && !r->diverted)
		each(&call, arg);
}

bool
mc_read(struct view text, unsigned first_line, struct arena *a, mc_each *each,
    void *arg, unsigned *ret_line, const char **ret_why)
{
	struct reader r = { .text = text, .line = first_line, .arena = a,
		.block = view_of("") };
	struct view rest;
	size_t n;

	if (text.n > MC_TEXT_MAX)
		(void)reader_fail(&r, first_line, "the file is too large");
	while (r.why == NULL && r.at < r.text.n) {
		rest = reader_rest(&r);
		n = word_length(rest);
		if (view_space(rest.p[0]) && r.block.n == 0)
			reader_skip(&r, 1);
		else if (rest.p[0] == '#' ||
		    view_is(view_head(rest, n), "dnl"))
			(void)reader_line(&r);
		else if (n == 0 || !read_word(&r, n, each, arg)) {
			/* prose behind divert(-1), word by word */
			if (r.diverted && rest.p[0] == '`') {
				struct buf b;

				buf_init(&b, MC_TEXT_MAX);
				(void)read_quoted(&r, &b);
				buf_free(&b);
			} else if (r.diverted)
				reader_skip(&r, n > 0 ? n : 1);
			else
				read_text(&r, each, arg);
		}
	}
	if (r.why == NULL)
		return true;
	*ret_line = r.why_line;
	*ret_why = r.why;
	return false;
}

/* -- expansion ------------------------------------------------------------- */

struct view
mc_expand(struct view text, struct arena *a, mc_lookup *lookup, void *arg)
{
	unsigned depth = 0;
	struct view word, value, rest = text, done;
	struct buf b;
	size_t n;
	bool ok = true;

	buf_init(&b, MC_ARG_MAX);
	while (rest.n > 0 && ok) {
		n = word_length(rest);
		word = view_head(rest, n > 0 ? n : 1);
		if (n == 0 && rest.p[0] == '`' && depth++ == 0)
			word.n = 0;
		else if (n == 0 && rest.p[0] == '\'' && depth > 0 &&
		    --depth == 0)
			word.n = 0;
		if (n > 0 && depth == 0 && lookup(word, &value, arg))
			ok = buf_putv(&b, value);
		else
			ok = buf_putv(&b, word);
		rest = view_from(rest, n > 0 ? n : 1);
	}
	/* too long: as it was */
	done = ok ? arena_copy(a, buf_view(&b)) : text;
	buf_free(&b);
	return done;
}
