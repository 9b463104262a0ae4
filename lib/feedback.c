#include "lib/feedback.h"

#define DIGITS_MAX	9

/* "1", "0.5", ".5": no sign, no exponent. */
static bool
parse_number(struct view text, double *ret)
{
	double n = 0, unit = 1;
	size_t i, digits = 0;
	bool point = false;

	for (i = 0; i < text.n; i++) {
		if (text.p[i] == '.' && !point) {
			point = true;
			continue;
		}
		if (text.p[i] < '0' || text.p[i] > '9' ||
		    ++digits > DIGITS_MAX)
			return false;
		n = n * 10 + (text.p[i] - '0');
		if (point)
			unit *= 10;
	}
	*ret = n / unit;
	return digits > 0;
}

bool
feedback_parse(struct view text, struct feedback *ret)
{
	size_t slash = view_find(text, '/');
	struct view word = view_trim(view_from(text, slash + 1));
	struct feedback f = { FEEDBACK_CONSTANT, 0 };

	if (!parse_number(view_trim(view_head(text, slash)), &f.number) ||
	    f.number > 1)
		return false;
	if (slash < text.n) {
		if (view_is(word, "concurrency"))
			f.form = FEEDBACK_SHARE;
		else if (view_is(word, "sqrt_concurrency"))
			f.form = FEEDBACK_ROOT;
		else
			return false;
	}
	*ret = f;
	return true;
}

/* Newton's method; good to the last digits for what a window can be. */
static double
root(double n)
{
	double r = n;
	int i;

	for (i = 0; i < 40; i++)
		r = (r + n / r) / 2;
	return r;
}

double
feedback_value(const struct feedback *f, unsigned concurrency)
{
	double n = concurrency > 0 ? concurrency : 1;

	switch (f->form) {
	case FEEDBACK_SHARE:
		return f->number / n;
	case FEEDBACK_ROOT:
		return f->number / root(n);
	case FEEDBACK_CONSTANT:
	default:
		return f->number;
	}
}
