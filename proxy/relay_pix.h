/*
 * Servers behind a Cisco PIX firewall with "fixup protocol smtp": it masks the
 * greeting, does not know ESMTP, and loses mail whose last bytes come in an
 * unlucky packet.
 */
#ifndef PROXY_RELAY_PIX_H
#define PROXY_RELAY_PIX_H

#include "lib/view.h"

enum pix_workaround {
	PIX_DISABLE_ESMTP = 1 << 0,	/* HELO, never EHLO */
	PIX_DELAY_DOTCRLF = 1 << 1,	/* the dot in a packet of its own */
};

struct session;
struct conf;

/* A list as in smtp_pix_workarounds; false: *ret_bad is none of them. */
bool relay_pix_parse(struct view list, uint32_t *ret, struct view *ret_bad);
/* A greeting of nothing but "220", blanks and asterisks, one at least. */
bool relay_pix_banner(struct view said);

/* After the greeting: which are used in this session is kept there. */
void relay_pix_greeted(struct session *s);
/* The dot of this message has to wait.  A message that is new goes at once:
 * most get through. */
bool relay_pix_waits(const struct session *s);

#endif
