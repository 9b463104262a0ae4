#include "lib/log.h"
#include "rules/policy_line.h"

void
policy_line_log(const struct policy_line *l)
{
	struct buf b;

	buf_init(&b, 8000);
	(void)buf_printf(&b, "%s: %s: %s from %s: %s;", l->id, l->action,
	    l->command, l->client, l->text);
	if (l->sender.p != NULL)
		(void)buf_printf(&b, " from=<%s>", log_safe(l->sender));
	if (l->rcpt.n > 0)
		(void)buf_printf(&b, " to=<%s>", log_safe(l->rcpt));
	(void)buf_printf(&b, " proto=%s", l->proto);
	if (l->helo != NULL)
		(void)buf_printf(&b, " helo=<%s>", l->helo);
	if (l->login != NULL)
		(void)buf_printf(&b, " sasl_username=<%s>",
		    log_safe(view_of(l->login)));
	if (l->rule.n > 0)
		(void)buf_printf(&b, " rule=%s", log_safe(l->rule));
	log_info("%s", buf_cstr(&b));
	buf_free(&b);
}
