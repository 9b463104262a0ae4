#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "lib/log.h"
#include "lib/tls_ticket.h"

/* SHA-256 of the state and a label. */
static void
ticket_hash(const uint8_t state[TLS_SEED_SIZE], const char *label,
    uint8_t ret[32])
{
	uint8_t in[TLS_SEED_SIZE + 16] = { 0 };

	memcpy(in, state, TLS_SEED_SIZE);
	(void)snprintf((char *)in + TLS_SEED_SIZE, 16, "%s", label);
	if (EVP_Digest(in, sizeof in, ret, NULL, EVP_sha256(), NULL) != 1)
		fatal("SHA-256 is not available");
	OPENSSL_cleanse(in, sizeof in);
}

static void
ticket_key(const struct tls_tickets *t, struct tls_ticket_key *ret)
{
	uint8_t name[32];

	ticket_hash(t->state, "name", name);
	memcpy(ret->name, name, sizeof ret->name);
	ticket_hash(t->state, "cipher", ret->cipher);
	ticket_hash(t->state, "mac", ret->mac);
}

static void
ticket_next(struct tls_tickets *t)
{
	uint8_t next[TLS_SEED_SIZE];

	ticket_hash(t->state, "next", next);
	memcpy(t->state, next, sizeof next);
	OPENSSL_cleanse(next, sizeof next);
	t->period++;
}

void
tls_tickets_start(struct tls_tickets *t, const uint8_t seed[TLS_SEED_SIZE],
    struct mono from, int64_t length_ms, struct mono now)
{
	ensure(length_ms > 0);
	*t = (struct tls_tickets){ .ready = true, .from = from,
		.length_ms = length_ms };
	memcpy(t->state, seed, TLS_SEED_SIZE);
	ticket_key(t, &t->now);
	tls_tickets_turn(t, now);
}

void
tls_tickets_turn(struct tls_tickets *t, struct mono now)
{
	int64_t ms = mono_since(t->from, now) / 1000;
	uint64_t period = ms > 0 ? (uint64_t)(ms / t->length_ms) : 0;

	if (period <= t->period)
		return;
	/* Those in between are of no use to anybody any more. */
	while (t->period + 1 < period)
		ticket_next(t);
	ticket_key(t, &t->before);
	t->has_before = true;
	ticket_next(t);
	ticket_key(t, &t->now);
}

const struct tls_ticket_key *
tls_tickets_find(const struct tls_tickets *t, const uint8_t name[16])
{
	if (!t->ready)
		return NULL;
	if (memcmp(name, t->now.name, sizeof t->now.name) == 0)
		return &t->now;
	if (t->has_before &&
	    memcmp(name, t->before.name, sizeof t->before.name) == 0)
		return &t->before;
	return NULL;
}

void
tls_tickets_end(struct tls_tickets *t)
{
	OPENSSL_cleanse(t, sizeof *t);
}
