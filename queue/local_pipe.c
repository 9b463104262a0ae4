/*
 * The transport pipe: a command of the administrator's, without a shell.  What
 * a message says of itself becomes whole arguments, or parts of them, and
 * none of them an option.
 */
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/log.h"
#include "queue/local.h"
#include "queue/local_command.h"
#include "queue/local_pipe.h"
#include "queue/mbox.h"

#define ARGUMENT_MAX	65536u
#define ARGUMENTS_MAX	20000u
#define HEADER_MAX	16384u

struct pipe {
	const struct order *order;
	struct pipe_service service;
	char **argv;
	size_t argc;
	uint64_t size;		/* of what is given */
};

/* -- macros ----------------------------------------------------------------- */

/* An address as the flags want it. */
static struct view
pipe_address(const struct pipe *p, struct view addr, bool fold,
    struct buf *out)
{
	struct view at = address_domain(addr);
	size_t n = addr.n - at.n, i;
	struct buf plain;
	char c;

	buf_init(&plain, ADDRESS_MAX + 1);
	for (i = 0; i < addr.n; i++) {
		c = addr.p[i];
		if (fold && (p->service.flags & (i < n ?
		    PIPE_LOWER_LOCAL : PIPE_LOWER_DOMAIN)) != 0)
			c = (char)tolower((unsigned char)c);
		(void)buf_putc(&plain, c);
	}
	buf_clear(out);
	if ((p->service.flags & PIPE_QUOTE) != 0)
		(void)address_quote(buf_view(&plain), out);
	else
		(void)buf_putv(out, buf_view(&plain));
	buf_free(&plain);
	return buf_view(out);
}

static const char *const per_recipient[] = { "recipient", "user",
	"extension", "mailbox", "domain", "original_recipient" };

static bool
pipe_is_per_recipient(struct view name)
{
	size_t i;

	for (i = 0; i < sizeof per_recipient / sizeof per_recipient[0]; i++)
		if (view_is(name, per_recipient[i]))
			return true;
	return false;
}

/* False: there is no such name. */
static bool
pipe_value(const struct pipe *p, const struct recipient *r, struct view name,
    struct buf *room, struct view *ret)
{
	const struct envelope *e = &p->order->env;
	struct view addr = pipe_address(p, r->addr, true, room), ext;

	ext = addr_extension(&local.keys, addr);
	if (view_is(name, "recipient"))
		*ret = addr;
	else if (view_is(name, "mailbox"))
		*ret = address_local(addr);
	else if (view_is(name, "user"))
		*ret = view_head(address_local(addr),
		    address_local(addr).n - ext.n);
	else if (view_is(name, "extension"))
		*ret = view_from(ext, 1);
	else if (view_is(name, "domain"))
		*ret = address_domain(addr);
	else if (view_is(name, "original_recipient"))
		*ret = pipe_address(p, r->orig.n > 0 ? r->orig : r->addr,
		    true, room);
	else if (view_is(name, "sender"))
		*ret = e->sender.n > 0 ? pipe_address(p, e->sender, false,
		    room) : view_of(p->service.null_sender);
	else if (view_is(name, "nexthop"))
		*ret = p->order->nexthop;
	else if (view_is(name, "queue_id"))
		*ret = view_of(p->order->id);
	else if (view_is(name, "envid"))
		*ret = e->envid;
	else if (view_is(name, "client_address"))
		*ret = e->client_addr;
	else if (view_is(name, "client_hostname"))
		*ret = e->client_name;
	else if (view_is(name, "client_helo"))
		*ret = e->helo;
	else if (view_is(name, "client_protocol"))
		*ret = e->proto;
	else if (view_is(name, "sasl_username"))
		*ret = e->login;
	else if (view_is(name, "sasl_method") || view_is(name, "sasl_sender"))
		*ret = view_make("", 0);
	else if (view_is(name, "size") || view_is(name, "client_port")) {
		buf_clear(room);
		(void)buf_printf(room, "%llu", view_is(name, "size") ?
		    (unsigned long long)p->size :
		    (unsigned long long)e->client_port);
		*ret = buf_view(room);
	} else {
		return false;
	}
	return true;
}

/* The name behind a $, and what is behind that. */
static struct view
macro_name(struct view *rest)
{
	struct view v = *rest, name;
	size_t n = 0;

	if (v.n > 0 && (v.p[0] == '{' || v.p[0] == '(')) {
		n = view_find(v, v.p[0] == '{' ? '}' : ')');
		name = view_head(view_from(v, 1), n > 0 ? n - 1 : 0);
		*rest = view_from(v, n + 1);
		return name;
	}
	while (n < v.n && (v.p[n] == '_' || isalnum((unsigned char)v.p[n])))
		n++;
	*rest = view_from(v, n);
	return view_head(v, n);
}

static bool
pipe_macro(const struct pipe *p, struct view name, const struct recipient *r,
    struct buf *out, struct fate *f)
{
	struct view value;
	struct buf room;
	bool ok = false;

	buf_init(&room, 4 * ADDRESS_MAX);
	if (!pipe_value(p, r, name, &room, &value))
		fate_set(f, RCPT_DEFERRED, "4.3.5", "mail system "
		    "configuration error: argv= has an unknown name: %.*s",
		    VIEW_ARGS(view_head(name, 50)));
	else
		ok = view_find(value, '\0') == value.n &&
		    buf_putv(out, value);
	buf_free(&room);
	return ok;
}

/* One argument for one recipient.  *ret_per: it differs between them. */
static bool
pipe_argument(const struct pipe *p, struct view template,
    const struct recipient *r, struct buf *out, bool *ret_per,
    struct fate *f)
{
	const bool option = template.n > 0 && template.p[0] == '-';
	struct view name;
	bool ok = true;
	size_t n;

	buf_clear(out);
	while (ok && template.n > 0) {
		n = view_find(template, '$');
		ok = buf_putv(out, view_head(template, n));
		template = view_from(template, n + 1);
		if (template.n == 0)
			break;
		if (template.p[0] == '$') {
			ok = ok && buf_putc(out, '$');
			template = view_from(template, 1);
			continue;
		}
		name = macro_name(&template);
		*ret_per = *ret_per || pipe_is_per_recipient(name);
		ok = ok && pipe_macro(p, name, r, out, f);
	}
	if (!ok && f->status == 0)
		fate_set(f, RCPT_BOUNCED, "5.3.0", "an argument of a command "
		    "that cannot be made");
	if (!ok || option || out->n == 0 || out->p[0] != '-')
		return ok;
	fate_set(f, RCPT_BOUNCED, "5.1.0", "a command would take this for an "
	    "option: %s", log_safe(buf_view(out)));
	return false;
}

static bool
pipe_put(struct pipe *p, const struct buf *arg, struct fate *f)
{
	if (p->argc == ARGUMENTS_MAX) {
		fate_set(f, RCPT_BOUNCED, "5.3.0", "a command line that is "
		    "too long");
		return false;
	}
	p->argv = mem_resize(p->argv, p->argc + 2, sizeof *p->argv);
	p->argv[p->argc++] = mem_copy(buf_view(arg));
	p->argv[p->argc] = NULL;
	return true;
}

/* An argument that names recipients comes once for each of them. */
static bool
pipe_command_line(struct pipe *p, struct fate *f)
{
	const struct order *o = p->order;
	struct view template;
	bool ok = true, per;
	struct buf arg;
	uint32_t k;
	size_t i;

	buf_init(&arg, ARGUMENT_MAX);
	for (i = 0; ok && i < p->service.argc; i++) {
		template = view_of(p->service.argv[i]);
		if (i == 0)
			template = view_from(template, strlen("argv="));
		for (k = 0, per = true; ok && per && k < o->n; k++) {
			per = false;
			ok = pipe_argument(p, template,
			    &o->env.rcpts[o->rcpts[k]], &arg, &per, f) &&
			    pipe_put(p, &arg, f);
		}
	}
	buf_free(&arg);
	return ok;
}

/* -- the command ------------------------------------------------------------ */

static void
pipe_head(const struct pipe *p, struct buf *out)
{
	const struct order *o = p->order;
	const struct recipient *r = &o->env.rcpts[o->rcpts[0]];
	const char *end = p->service.eol != NULL ? p->service.eol : "\n";
	struct view sender = o->env.sender.n > 0 ? o->env.sender :
	    view_of(p->service.null_sender);
	struct buf b;

	buf_init(&b, 4 * ADDRESS_MAX);
	if ((p->service.flags & PIPE_FROM) != 0) {
		mbox_from_line(pipe_address(p, sender, false, &b), out);
		out->n--;
		(void)buf_puts(out, end);
	}
	buf_clear(&b);
	if ((p->service.flags & PIPE_RETURN_PATH) != 0) {
		(void)address_quote(sender, &b);
		(void)buf_printf(out, "Return-Path: <%.*s>%s", VIEW_ARGS(
		    buf_view(&b)), end);
	}
	buf_clear(&b);
	if ((p->service.flags & PIPE_ORIGINAL_TO) != 0) {
		(void)address_quote(r->orig.n > 0 ? r->orig : r->addr, &b);
		(void)buf_printf(out, "X-Original-To: %.*s%s", VIEW_ARGS(
		    buf_view(&b)), end);
	}
	buf_clear(&b);
	if ((p->service.flags & PIPE_DELIVERED_TO) != 0) {
		(void)address_quote(r->addr, &b);
		(void)buf_printf(out, "Delivered-To: %.*s%s", VIEW_ARGS(
		    buf_view(&b)), end);
	}
	buf_free(&b);
}

static int64_t
pipe_time_limit(const struct order *o)
{
	char *name = mem_printf("%.*s_time_limit", VIEW_ARGS(o->transport));
	int64_t ms = conf_time(local.cf, view_of(name), 's',
	    local.cf->command_time_limit);

	free(name);
	return ms;
}

static void
pipe_run(const struct pipe *p, struct fate *f)
{
	const unsigned flags = p->service.flags;
	const char *zone = getenv("TZ");
	struct environment e = { 0 };
	struct buf head;
	struct command c = { .name = p->argv[0], .argv = p->argv,
		.directory = p->service.directory,
		.must_be_there = p->service.directory != NULL,
		.time_limit = pipe_time_limit(p->order),
		.eol = p->service.eol,
		.flags = ((flags & PIPE_DOT) != 0 ? TEXT_DOT : 0) |
		    ((flags & PIPE_BLANK) != 0 ? TEXT_BLANK : 0) |
		    ((flags & PIPE_QUOTE_FROM) != 0 ? TEXT_QUOTE_FROM : 0) };

	environment_add(&e, "PATH", view_of("/usr/bin:/bin"), NULL);
	environment_add(&e, "LANG", view_of("C"), NULL);
	environment_add(&e, "MAIL_CONFIG", view_of(
	    local.cf->config_directory), NULL);
	if (zone != NULL)
		environment_add(&e, "TZ", view_of(zone), NULL);
	c.env = e.list;
	buf_init(&head, HEADER_MAX);
	pipe_head(p, &head);
	c.head = buf_view(&head);
	command_run(&c, &p->order->text, f);
	buf_free(&head);
	environment_free(&e);
	if (f->status != RCPT_DELIVERED)
		return;
	/* What is behind it is not known, unless it says so. */
	fate_set(f, (flags & PIPE_FINAL) != 0 ? RCPT_DELIVERED :
	    RCPT_RELAYED, "2.0.0", "delivered via %.*s service",
	    VIEW_ARGS(view_head(p->order->transport, 100)));
}

/* As user=, which is neither root nor us. */
static bool
pipe_become(const struct pipe *p, struct fate *f)
{
	struct account a = { 0 }, owner = { 0 };
	struct group *gr = NULL;
	bool ok = account_find(view_of(p->service.user), &a) ==
	    ACCOUNT_FOUND;
	gid_t gid = a.gid;

	if (p->service.group != NULL) {
		gr = getgrnam(p->service.group);
		ok = ok && gr != NULL;
		gid = gr != NULL ? gr->gr_gid : 0;
	}
	if (ok && local.root)
		ok = a.uid != 0 && gid != 0 && account_find(view_of(
		    local.cf->mail_owner), &owner) == ACCOUNT_FOUND &&
		    owner.uid != a.uid;
	if (!ok)
		fate_set(f, RCPT_DEFERRED, "4.3.5", "mail system "
		    "configuration error: user= of the service is not an "
		    "account that may be used");
	else
		ok = account_become(a.uid, gid, f);
	account_free(&a);
	account_free(&owner);
	return ok;
}

void
pipe_deliver(const struct order *o, const struct service *s, struct fate *ret)
{
	struct pipe p = { .order = o,
		.size = edits_size(&o->text.edits, o->text.size) };
	const char *wrong = pipe_service_read(s, &p.service);
	size_t i;

	if (wrong == NULL && o->n > 1 && (p.service.flags &
	    (PIPE_DELIVERED_TO | PIPE_ORIGINAL_TO)) != 0)
		wrong = "flags D and O are for one recipient at a time: see "
		    "destination_recipient_limit";
	if (wrong != NULL) {
		log_error("master.cf:%u: %s: %s", s->line, s->name, wrong);
		fate_set(ret, RCPT_DEFERRED, "4.3.5", "mail system "
		    "configuration error");
	} else if (p.service.size > 0 &&
	    p.size > (uint64_t)p.service.size) {
		fate_set(ret, RCPT_BOUNCED, "5.3.4", "message size %llu "
		    "exceeds size limit %lld of service %s",
		    (unsigned long long)p.size, (long long)p.service.size,
		    s->name);
	} else if (pipe_command_line(&p, ret) && pipe_become(&p, ret)) {
		pipe_run(&p, ret);
	}
	for (i = 0; i < p.argc; i++)
		free(p.argv[i]);
	free(p.argv);
	pipe_service_free(&p.service);
}
