/*
 * Logins that a server has refused: not tried again for
 * smtp_sasl_auth_cache_time, so that a wrong password does not lock an account,
 * nor have the server lock us out.  Of this instance, in memory: a new one, as
 * after a change of a table of logins, knows of none.
 *
 * Passwords are kept as the tables are, and overwritten.  The oldest go when
 * there are REFUSED_MAX.
 */
#ifndef PROXY_CREDENTIALS_REFUSED_H
#define PROXY_CREDENTIALS_REFUSED_H

#include "lib/clock.h"
#include "lib/view.h"

#define REFUSED_MAX	1000u

struct refused_login {
	struct view host, user, secret;	/* host: in any case of letters */
	uint16_t port;
};

/* said: what the server had to say. */
void refused_put(const struct refused_login *l, struct view said,
    struct mono now);
/* What was said of it no longer than limit_ms ago, valid until the next call;
 * NULL: nothing. */
const char *refused_find(const struct refused_login *l, int64_t limit_ms,
    struct mono now);
/* At the end. */
void refused_clear(void);

#endif
