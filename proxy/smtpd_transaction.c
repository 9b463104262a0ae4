#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd.h"

/* Addresses of one transaction; with its text fields the envelope must fit
 * into one message to qmgr. */
#define ADDRESSES_MAX	(2u << 20)
#define TEXT_OUT_MAX	(192u << 10)
#define SPARE_MAX	32u

/* Transactions to use again: most of the cost of a new one is its arena. */
static struct transaction *spare;
static unsigned n_spare;

struct transaction *
transaction_new(struct session *s)
{
	struct transaction *tx = spare;

	if (tx != NULL) {
		spare = tx->next;
		n_spare--;
		tx->next = NULL;
	} else {
		tx = mem_alloc(sizeof *tx);
		tx->arena = arena_new(ADDRESSES_MAX + 65536);
		buf_init(&tx->out, TEXT_OUT_MAX);
	}
	tx->session = s;
	return tx;
}

void
transaction_free(struct transaction **txp)
{
	struct transaction *tx = *txp, clean;

	if (tx == NULL)
		return;
	*txp = NULL;
	binary_free(&tx->binary);
	if (tx->has_slot) {
		if (tx->slot.fd >= 0)
			close(tx->slot.fd);
		queue_drop(tx);
	}
	arena_reset(tx->arena);
	if (n_spare == SPARE_MAX) {
		arena_free(&tx->arena);
		free(tx->rcpts);
		buf_free(&tx->out);
		free(tx);
		return;
	}
	/* All but the memory begins anew. */
	clean = (struct transaction){ .arena = tx->arena, .out = tx->out,
		.rcpts = tx->rcpts, .cap = tx->cap, .next = spare };
	if (clean.cap > 64) {
		free(clean.rcpts);
		clean.rcpts = NULL;
		clean.cap = 0;
	}
	buf_clear(&clean.out);
	*tx = clean;
	spare = tx;
	n_spare++;
}

bool
transaction_fits(const struct transaction *tx, size_t n)
{
	return arena_used(tx->arena) + n + 64 <= ADDRESSES_MAX;
}

void
transaction_add(struct transaction *tx, const struct recipient *rcpt)
{
	if (tx->nrcpts == tx->cap) {
		tx->cap = tx->cap * 2 + 4;
		tx->rcpts = mem_resize(tx->rcpts, tx->cap, sizeof *tx->rcpts);
	}
	tx->rcpts[tx->nrcpts++] = *rcpt;
}
