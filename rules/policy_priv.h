/*
 * Inside the policy: shared by the reader of restrictions (policy.c) and
 * their evaluation (policy_eval.c).  Nobody else includes this.
 */
#ifndef RULES_POLICY_PRIV_H
#define RULES_POLICY_PRIV_H

#include "rules/policy.h"

enum restriction {
	RESTRICTION_NONE = 0,
	PERMIT, REJECT, DEFER, DEFER_IF_PERMIT, DEFER_IF_REJECT,
	WARN_IF_REJECT,
	PERMIT_MYNETWORKS, PERMIT_SASL_AUTHENTICATED, PERMIT_AUTH_DESTINATION,
	REJECT_UNAUTH_DESTINATION, DEFER_UNAUTH_DESTINATION,
	REJECT_UNAUTH_PIPELINING, REJECT_UNLISTED_RECIPIENT,
	REJECT_NON_FQDN_RECIPIENT, REJECT_NON_FQDN_SENDER,
	REJECT_NON_FQDN_HELO, REJECT_INVALID_HELO,
	RESTRICTIONS
};

struct restriction_list {
	uint8_t *list;		/* enum restriction */
	size_t n;
};

struct policy {
	struct restriction_list relay, recipient;
	struct addr_list *mynetworks;
	struct classes *classes;
	struct table_list relay_recipients;
	bool reject_unlisted, show_table;
	/* "error:TEXT" in local_transport: nobody is listed; else NULL. */
	char *local_error;
	uint16_t code_reject, code_defer, code_relay, code_local, code_rcpt;
	uint16_t code_non_fqdn, code_invalid_helo;
};

#endif
