/*
 * Which outside filters there are: the words of smtpd_milters and
 * non_smtpd_milters (postconf(5), MILTER_README of Postfix).
 *
 *	inet:host:port  inet6:host:port  unix:/path  local:/path
 *	{ inet:host:port, connect_timeout = 10s, default_action = accept }
 *
 * Settings in braces come before the parameters milter_connect_timeout,
 * milter_command_timeout, milter_content_timeout, milter_default_action and
 * milter_protocol.  A path that does not begin with "/" is relative to
 * queue_directory.
 */
#ifndef RULES_MILTERS_H
#define RULES_MILTERS_H

#include "lib/conf.h"
#include "lib/conf_choice.h"
#include "lib/master_cf.h"
#include "rules/table.h"

#define MILTERS_MAX	16u	/* of one message */


struct milter_spec {
	char *name;		/* as written, without settings */
	int family;		/* AF_UNIX, AF_INET, AF_INET6; AF_UNSPEC: any */
	char *host, *port;	/* host: the path of AF_UNIX */
	int64_t connect_ms, command_ms, content_ms;
	enum milter_default fallback;
	uint32_t version;
	bool pipelining;	/* pieces of a message before answers */
};

struct milter_specs {
	struct milter_spec *list;
	size_t n;
};

/* False after at least one error was reported. */
bool milter_specs_open(const struct conf *cf, const char *parameter,
    const char *text, struct milter_specs *ret, table_report *report,
    void *arg);
void milter_specs_free(struct milter_specs *s);

/* What a default action tells the client, "4.7.1 text", and its code; 0: it
 * does not, the message is accepted, or held.  421 ends the session. */
uint16_t milter_default_reply(enum milter_default action,
    const char **ret_text);

/* Where the sockets are that the lists of main.cf and of services name. */
enum milter_sockets { MILTERS_NONE = 1,	/* there is no list */
	MILTERS_INET, MILTERS_BELOW_QUEUE, MILTERS_ELSEWHERE };
enum milter_sockets milters_sockets(const struct conf *cf,
    const struct service_table *t);

#endif
