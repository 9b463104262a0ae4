#include "proxy/relay_sasl.h"

/* The properties are those that Cyrus SASL gives them, so that security
 * options mean what they mean to Postfix; who shows a token shows what opens
 * the door, as with a password. */
#define OPEN	(SASL_ACTIVE | SASL_DICTIONARY)
const struct relay_mechanism_info relay_mechanisms[MECHANISMS] = {
	[MECHANISM_NONE] = { .name = "none" },
	[MECHANISM_SCRAM_SHA_256_PLUS] = { "SCRAM-SHA-256-PLUS",
	    SASL_DICTIONARY | SASL_MUTUAL, false, true },
	[MECHANISM_SCRAM_SHA_1_PLUS] = { "SCRAM-SHA-1-PLUS",
	    SASL_DICTIONARY | SASL_MUTUAL, false, true },
	[MECHANISM_SCRAM_SHA_256] = { "SCRAM-SHA-256",
	    SASL_DICTIONARY | SASL_MUTUAL, false, false },
	[MECHANISM_SCRAM_SHA_1] = { "SCRAM-SHA-1",
	    SASL_DICTIONARY | SASL_MUTUAL, false, false },
	[MECHANISM_CRAM_MD5] = { "CRAM-MD5", OPEN, false, false },
	[MECHANISM_PLAIN] = { "PLAIN", SASL_PLAINTEXT | OPEN, false, false },
	[MECHANISM_LOGIN] = { "LOGIN", SASL_PLAINTEXT | OPEN, false, false },
	[MECHANISM_OAUTHBEARER] = { "OAUTHBEARER", SASL_PLAINTEXT | OPEN,
	    true, false },
	[MECHANISM_XOAUTH2] = { "XOAUTH2", SASL_PLAINTEXT | OPEN,
	    true, false },
};

uint32_t
relay_sasl_offered(struct view names)
{
	struct view word;
	uint32_t set = 0;
	int i;

	while ((word = view_word(&names, " ")).n > 0)
		for (i = 1; i < MECHANISMS; i++)
			if (view_is_nocase(word, relay_mechanisms[i].name))
				set |= 1u << i;
	return set;
}
