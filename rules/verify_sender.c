#include "lib/address.h"
#include "rules/verify_sender.h"

#define CODE_MAX	16u

/* No vowels: it shall not look like a word. */
static void
sender_code(uint64_t epoch, struct buf *out)
{
	static const char digits[] = "0123456789bcdfghjklmnpqrstvwxyz";
	char text[CODE_MAX];
	size_t n = CODE_MAX;

	do {
		text[--n] = digits[epoch % (sizeof digits - 1)];
		epoch /= sizeof digits - 1;
	} while (epoch > 0 && n > 0);
	(void)buf_putv(out, view_make(text + n, CODE_MAX - n));
}

/* ahead: -1, 0 or 1 steps of address_verify_sender_ttl from now. */
static void
sender_put(const struct conf *cf, struct wall now, int ahead, struct buf *out)
{
	struct view addr = view_trim(view_of(cf->address_verify_sender));
	size_t at = view_find(addr, '@');
	int64_t ttl = cf->address_verify_sender_ttl * 1000;

	buf_clear(out);
	if (addr.n == 0 || view_is(addr, "<>"))
		return;
	(void)buf_putv(out, view_head(addr, at));
	if (ttl > 0)
		sender_code((uint64_t)(now.us / ttl + ahead), out);
	(void)buf_putc(out, '@');
	if (at + 1 < addr.n)
		(void)buf_putv(out, view_from(addr, at + 1));
	else
		(void)buf_puts(out, cf->myorigin);
}

void
verify_sender_put(const struct conf *cf, struct wall now, struct buf *out)
{
	sender_put(cf, now, 0, out);
}

bool
verify_sender_is(const struct conf *cf, struct wall now, struct view addr)
{
	struct view local = view_of(cf->address_verify_sender);
	struct buf b;
	bool is = false;
	int ahead;

	local = view_trim(view_head(local, view_find(local, '@')));
	if (addr.n < local.n ||
	    !view_eq_nocase(view_head(addr, local.n), local))
		return false;
	buf_init(&b, 2 * ADDRESS_MAX);
	for (ahead = -1; ahead <= 1 && !is; ahead++) {
		sender_put(cf, now, ahead, &b);
		is = b.n > 0 && view_eq_nocase(buf_view(&b), addr);
	}
	buf_free(&b);
	return is;
}
