#include "lib/conf.h"
#include "lib/log.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_pix.h"
#include "proxy/relay_session.h"
#include "rules/table.h"

#define BANNER_MAX	512u

static const struct {
	const char *name;
	uint32_t bit;
} words[] = {
	{ "disable_esmtp", PIX_DISABLE_ESMTP },
	{ "delay_dotcrlf", PIX_DELAY_DOTCRLF },
};

bool
relay_pix_parse(struct view list, uint32_t *ret, struct view *ret_bad)
{
	struct view word;
	uint32_t set = 0, one;
	size_t i;

	while ((word = conf_word(&list)).n > 0) {
		one = 0;
		for (i = 0; i < sizeof words / sizeof words[0]; i++)
			if (view_is_nocase(word, words[i].name))
				one = words[i].bit;
		if (one == 0) {
			*ret_bad = word;
			return false;
		}
		set |= one;
	}
	*ret = set;
	return true;
}

bool
relay_pix_banner(struct view said)
{
	bool star = false;
	size_t i;

	for (i = 0; i < said.n; i++) {
		if (!view_has(view_of("20 *\t\r\n"), said.p[i]))
			return false;
		star = star || said.p[i] == '*';
	}
	return star;
}

/* Of this server, as text in b. */
static void
pix_list(const struct session *s, struct buf *b)
{
	const struct relay *r = s->relay;
	const struct table *t;
	char addr[NETADDR_TEXT];
	unsigned line;

	switch (table_list_find(&r->pix_maps, view_of(netaddr_text(&s->addr,
	    addr)), b, &t, &line)) {
	case TABLE_FOUND:
		return;
	case TABLE_FAILED:
		log_warn("%s lookup error for \"%s\"", table_name(t), addr);
		break;
	case TABLE_NOT_FOUND:
		break;
	}
	buf_clear(b);
	(void)buf_puts(b, r->conf->smtp_pix_workarounds);
}

void
relay_pix_greeted(struct session *s)
{
	struct view bad;
	struct buf list;
	uint32_t set = 0;

	if (s->relay->lmtp || s->delivery->proxy != NULL ||
	    !relay_pix_banner(relay_reply_said(&s->reply, BANNER_MAX)))
		return;
	buf_init(&list, 4096);
	pix_list(s, &list);
	if (!relay_pix_parse(buf_view(&list), &set, &bad))
		log_warn("smtp_pix_workarounds: unknown workaround: %s",
		    log_safe(view_head(bad, 100)));
	s->pix = set;
	if (set != 0)
		log_info("%s: enabling PIX workarounds:%s%s for %s",
		    s->delivery->id,
		    (set & PIX_DISABLE_ESMTP) != 0 ? " disable_esmtp" : "",
		    (set & PIX_DELAY_DOTCRLF) != 0 ? " delay_dotcrlf" : "",
		    s->peer);
	buf_free(&list);
}

bool
relay_pix_waits(const struct session *s)
{
	const struct conf *cf = s->relay->conf;

	return (s->pix & PIX_DELAY_DOTCRLF) != 0 &&
	    (clock_wall().us - s->delivery->times.arrival.us) / 1000 >=
	    cf->smtp_pix_workaround_threshold_time;
}
