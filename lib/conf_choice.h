/*
 * Parameters whose value is one word, or a list of words, of a few
 * (lib/conf_choice.def), and what the words are to those that read them.
 *
 * A struct conf has known words only: conf_load() and conf_parse() refuse
 * others, with their line.
 */
#ifndef LIB_CONF_CHOICE_H
#define LIB_CONF_CHOICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/envelope.h"
#include "lib/view.h"

enum late_action { LATE_TEMPFAIL = 1, LATE_HOLD, LATE_ACCEPT };
/* filter_policy_reject_action */
enum refused_action { REFUSED_HOLD = 1, REFUSED_DISCARD, REFUSED_BOUNCE,
	REFUSED_REJECT };
enum bare_lf { BARE_LF_NORMALIZE = 1, BARE_LF_REJECT, BARE_LF_NOTE };
enum proxied { PROXIED_HAPROXY = 1 };
enum header_end_action { HEADER_END_FIX = 1, HEADER_END_ADD,
	HEADER_END_REJECT };
enum condition_action { CONDITION_IGNORE = 0, CONDITION_WARN, CONDITION_HOLD,
	CONDITION_REJECT };
enum tempfail_action { TEMPFAIL_DEFER_IF_PERMIT = 1, TEMPFAIL_DEFER };
enum catchall_action { CATCHALL_ACCEPT = 1, CATCHALL_TEMPFAIL };
/* What happens when a filter outside cannot be used. */
enum milter_default {
	MILTER_DEFAULT_ACCEPT = 1, MILTER_DEFAULT_REJECT,
	MILTER_DEFAULT_TEMPFAIL, MILTER_DEFAULT_QUARANTINE,
	MILTER_DEFAULT_SHUTDOWN
};
enum networks_style { NETWORKS_HOST = 1, NETWORKS_SUBNET, NETWORKS_CLASS };

/* smtp_dns_support_level: enabled, unless disable_dns_lookups says no. */
enum dns_support { DNS_SUPPORT_BY_DEFAULT = 0, DNS_SUPPORT_DISABLED,
	DNS_SUPPORT_ENABLED, DNS_SUPPORT_DNSSEC };
enum trust_ad { TRUST_AD_NO = 0, TRUST_AD_AUTO };

/* These are sets. */
enum host_lookup { HOST_LOOKUP_DNS = 1 << 0, HOST_LOOKUP_NATIVE = 1 << 1 };
enum internal_mail { INTERNAL_BOUNCE = 1 << 0, INTERNAL_NOTIFY = 1 << 1 };
enum protocol {
	PROTOCOL_IPV4 = 1 << 0,
	PROTOCOL_IPV6 = 1 << 1,
	PROTOCOL_PRESENT = 1 << 2,	/* those that the kernel has */
	PROTOCOL_ALL = PROTOCOL_IPV4 | PROTOCOL_IPV6 | PROTOCOL_PRESENT
};
enum notify_class {
	TELL_BOUNCE = 1 << 0,
	TELL_2BOUNCE = 1 << 1,
	TELL_DELAY = 1 << 2,
	TELL_DATA = 1 << 3,
	TELL_POLICY = 1 << 4,
	TELL_PROTOCOL = 1 << 5,
	TELL_RESOURCE = 1 << 6,
	TELL_SOFTWARE = 1 << 7
};
enum rewrite_class {
	CLASS_ENVELOPE_SENDER = 1 << 0,
	CLASS_ENVELOPE_RECIPIENT = 1 << 1,
	CLASS_HEADER_SENDER = 1 << 2,
	CLASS_HEADER_RECIPIENT = 1 << 3
};
enum extension_table { EXTENSION_CANONICAL = 1 << 0,
	EXTENSION_VIRTUAL = 1 << 1, EXTENSION_GENERIC = 1 << 2,
	EXTENSION_ELSEWHERE = 1 << 3 };
/* hash_queue_names */
enum queue_name {
	HASH_INCOMING = 1 << 0,
	HASH_ACTIVE = 1 << 1,
	HASH_DEFERRED = 1 << 2,
	HASH_HOLD = 1 << 3,
	HASH_CORRUPT = 1 << 4,
	HASH_ELSEWHERE = 1 << 5
};
enum mailbox_lock { LOCK_DOT = 1 << 0, LOCK_FCNTL = 1 << 1,
	LOCK_FLOCK = 1 << 2 };
enum allow { ALLOW_ALIAS = 1 << 0, ALLOW_FORWARD = 1 << 1,
	ALLOW_INCLUDE = 1 << 2 };
enum delivered { DELIVERED_COMMAND = 1 << 0, DELIVERED_FILE = 1 << 1,
	DELIVERED_FORWARD = 1 << 2 };
/* receive_override_options: this, and flags of an envelope */
#define OVERRIDE_UNLISTED	(1u << 31)

/* What the value of a parameter means: that of its word, or of all its words
 * together.  For parameters of the list, and values that are good. */
uint32_t conf_choice(const char *parameter, struct view text);

/* The words of a set, each after a space: what conf_choice() gave of them. */
void conf_choice_put(const char *parameter, uint32_t set, struct buf *out);

/* Any word, if it is one of this parameter's. */
bool conf_choice_word(const char *parameter, struct view word, uint32_t *ret);
/* Is it in the list? */
bool conf_choice_known(const char *parameter);
/* False, and why: it is a parameter of the list, and this no value of it. */
bool conf_choice_good(const char *parameter, struct view text, char *why,
    size_t why_size);

#endif
