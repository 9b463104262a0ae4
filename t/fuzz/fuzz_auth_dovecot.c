/* link: proxy/auth_dovecot_wire.c */
/* An authentication server that says anything: its lines, as they come. */
#include <stdint.h>

#include "lib/log.h"
#include "proxy/auth_dovecot_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check(const struct dovecot_line *l)
{
	ensure(l->login_n <= DOVECOT_VALUE_MAX &&
	    l->reason_n <= DOVECOT_VALUE_MAX);
	ensure((l->properties & ~(uint32_t)SASL_PROPERTIES) == 0);
	if (l->word == DOVECOT_MECH)
		ensure(sasl_mechanism_good(l->mechanism));
	if (l->word == DOVECOT_CONT)
		ensure(sasl_base64_good(l->challenge) &&
		    l->challenge.n <= SASL_TEXT_MAX);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct view rest = view_make(data, n), line;
	static struct dovecot_line l;
	size_t lf;

	while (rest.n > 0) {
		lf = view_find(rest, '\n');
		line = view_head(rest, lf);
		dovecot_read(line, &l);
		check(&l);
		(void)sasl_login_good(line);
		rest = view_from(rest, lf + 1);
	}
	return 0;
}
