/* One exchange: for relay_sasl.c and relay_scram.c only. */
#ifndef PROXY_RELAY_SASL_IMPL_H
#define PROXY_RELAY_SASL_IMPL_H

#include <openssl/evp.h>

#include "proxy/relay_sasl.h"

/* A challenge, decoded; and all that is made of one. */
#define SASL_DECODED_MAX	(SASL_TEXT_MAX / 4 * 3)

struct scram {
	const EVP_MD *md;
	size_t size;			/* of a hash */
	char *nonce;			/* ours */
	struct buf gs2;			/* header, and behind it the binding */
	size_t gs2_header;		/* bytes of it */
	struct buf first;		/* ours, without the header */
	unsigned char server_key[EVP_MAX_MD_SIZE];
	unsigned char signature[EVP_MAX_MD_SIZE];	/* what it must show */
};

struct relay_sasl {
	enum relay_mechanism mechanism;
	unsigned step;			/* words said */
	bool complete, broken;
	char *user, *secret, *host;
	uint16_t port;
	char detail[200];
	struct scram scram;
};

void relay_scram_init(struct relay_sasl *x,
    const struct relay_sasl_about *about, const char *nonce);
void relay_scram_free(struct scram *s);
/* NULL: *out is what is said; else what is wrong with the challenge. */
const char *relay_scram_first(struct relay_sasl *x, struct buf *out);
const char *relay_scram_final(struct relay_sasl *x, struct view challenge,
    struct buf *out);
const char *relay_scram_verify(struct relay_sasl *x, struct view challenge);

/* BASE64; false: it is not, or too long. */
bool relay_base64_decode(struct view in, struct buf *out);
void relay_base64_encode(struct view in, struct buf *out);
void relay_wipe(struct buf *b);
/* The string and the pointer. */
void relay_wipe_text(char **text);

#endif
