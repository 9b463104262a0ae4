/*
 * Mail for virtual_mailbox_maps: mailboxes of people who have no account
 * here, below virtual_mailbox_base, owned by who virtual_uid_maps says.
 */
#include <stdlib.h>

#include "lib/conf_choice.h"
#include "lib/log.h"
#include "queue/local.h"
#include "queue/maildir.h"
#include "queue/mbox.h"

#define HEADER_MAX	16384u
#define RESULT_MAX	4096u

/* False: *f says why. */
static bool
virtual_find(const struct job *j, const char *what,
    const struct table_list *maps, struct buf *value, struct fate *f)
{
	struct addr_found found;

	switch (addr_find(&local.keys, maps, j->rcpt->addr, value, &found)) {
	case TABLE_FOUND:
		return true;
	case TABLE_FAILED:
		fate_set(f, RCPT_DEFERRED, "4.3.5", "%s lookup failure",
		    what);
		return false;
	case TABLE_NOT_FOUND:
	default:
		fate_set(f, RCPT_DEFERRED, "4.3.5", "recipient %s: not found "
		    "in %s", log_safe(j->rcpt->addr), what);
		return false;
	}
}

static bool
virtual_number(const struct job *j, const char *what,
    const struct table_list *maps, int64_t least, uint32_t *ret,
    struct fate *f)
{
	struct buf value;
	int64_t n = 0;
	bool ok;

	buf_init(&value, RESULT_MAX);
	ok = virtual_find(j, what, maps, &value, f);
	/* The last two numbers mean "none" and "unchanged". */
	if (ok && !conf_parse_int(buf_view(&value), least, 4294967293, &n)) {
		fate_set(f, RCPT_DEFERRED, "4.3.5", "recipient %s: bad value "
		    "in %s", log_safe(j->rcpt->addr), what);
		ok = false;
	}
	buf_free(&value);
	*ret = (uint32_t)n;
	return ok;
}

/* Nothing leads out of virtual_mailbox_base. */
static bool
virtual_path_ok(struct view path)
{
	struct view part;

	if (path.n == 0 || path.p[0] == '\0' || view_find(path, '\0') <
	    path.n)
		return false;
	while ((part = view_word(&path, "/")).n > 0)
		if (view_is(part, ".."))
			return false;
	return true;
}

static void
virtual_to_mailbox(const struct job *j, const char *path, uid_t uid,
    struct view header, struct fate *f)
{
	const struct conf *cf = local.cf;
	const struct maildir dir = { .path = path,
		.hostname = cf->myhostname,
		.limit = cf->virtual_mailbox_limit, .header = header };
	const struct mbox box = { .path = path, .owner = uid,
		.any_owner = !cf->strict_mailbox_ownership,
		.locks = conf_choice("virtual_mailbox_lock",
		    view_of(cf->virtual_mailbox_lock)),
		.attempts = (unsigned)cf->deliver_lock_attempts,
		.delay = cf->deliver_lock_delay,
		.stale = cf->stale_lock_time,
		.limit = cf->virtual_mailbox_limit,
		.from = j->order->env.sender, .header = header };

	if (path[strlen(path) - 1] == '/')
		maildir_deliver(&dir, &j->order->text, f);
	else
		mbox_deliver(&box, &j->order->text, f);
}

static void
virtual_as(const struct job *j, const char *path, uint32_t uid, uint32_t gid,
    struct fate *f)
{
	const uint32_t to = conf_choice("prepend_delivered_header",
	    view_of(local.cf->prepend_delivered_header));
	struct buf header;

	if (!account_become(uid, gid, f))
		return;
	buf_init(&header, HEADER_MAX);
	job_header(j, (to & DELIVERED_FILE) != 0, &header);
	virtual_to_mailbox(j, path, uid, buf_view(&header), f);
	buf_free(&header);
}

/* The mailbox that a recipient has, if he has one. */
static bool
virtual_mailbox(const struct job *j, struct buf *value, struct fate *f)
{
	struct addr_found found;

	switch (addr_find(&local.keys, &local.mailboxes, j->rcpt->addr,
	    value, &found)) {
	case TABLE_FOUND:
		if (virtual_path_ok(buf_view(value)))
			return true;
		fate_set(f, RCPT_DEFERRED, "4.3.5", "bad mailbox in %s: %s",
		    "virtual_mailbox_maps", log_safe(buf_view(value)));
		return false;
	case TABLE_FAILED:
		fate_set(f, RCPT_DEFERRED, "4.3.5", "virtual_mailbox_maps "
		    "lookup failure");
		return false;
	case TABLE_NOT_FOUND:
	default:
		fate_set(f, RCPT_BOUNCED, "5.1.1", "unknown user: \"%s\"",
		    log_safe(j->rcpt->addr));
		return false;
	}
}

void
virtual_deliver(const struct job *j, struct fate *ret)
{
	const char *base = local.cf->virtual_mailbox_base;
	uint32_t uid, gid;
	struct buf value;
	char *path;

	if (local.virtual_failed || base[0] != '/') {
		fate_set(ret, RCPT_DEFERRED, "4.3.5", "mail system "
		    "configuration error");
		return;
	}
	buf_init(&value, RESULT_MAX);
	if (virtual_mailbox(j, &value, ret) &&
	    virtual_number(j, "virtual_uid_maps", &local.uids,
	    local.cf->virtual_minimum_uid, &uid, ret) &&
	    virtual_number(j, "virtual_gid_maps", &local.gids, 1, &gid,
	    ret)) {
		path = mem_printf("%s/%s", base, buf_cstr(&value));
		virtual_as(j, path, uid, gid, ret);
		free(path);
	}
	buf_free(&value);
}
