/*
 * A filter that is asked everything and changes nothing, on libmilter: what a
 * pass-through filter costs at least.
 *
 *	noop-milter SOCKET [quiet|end]	as libmilter writes it: inet:PORT@HOST
 *
 * quiet: it answers nothing before the end of the message, as filters do that
 * only look.  end: it is not told anything else than that end.
 */
#include <stdio.h>
#include <string.h>

#include <libmilter/mfapi.h>

static sfsistat
on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *addr)
{
	(void)ctx;
	(void)name;
	(void)addr;
	return SMFIS_CONTINUE;
}

static sfsistat
on_string(SMFICTX *ctx, char *text)
{
	(void)ctx;
	(void)text;
	return SMFIS_CONTINUE;
}

static sfsistat
on_unknown(SMFICTX *ctx, const char *text)
{
	(void)ctx;
	(void)text;
	return SMFIS_CONTINUE;
}

static sfsistat
on_address(SMFICTX *ctx, char **args)
{
	(void)ctx;
	(void)args;
	return SMFIS_CONTINUE;
}

static sfsistat
on_header(SMFICTX *ctx, char *name, char *value)
{
	(void)ctx;
	(void)name;
	(void)value;
	return SMFIS_CONTINUE;
}

static sfsistat
on_stage(SMFICTX *ctx)
{
	(void)ctx;
	return SMFIS_CONTINUE;
}

static sfsistat
on_body(SMFICTX *ctx, unsigned char *text, size_t n)
{
	(void)ctx;
	(void)text;
	(void)n;
	return SMFIS_CONTINUE;
}

static sfsistat
on_quiet(SMFICTX *ctx, unsigned long actions, unsigned long steps,
    unsigned long more, unsigned long reserved, unsigned long *ret_actions,
    unsigned long *ret_steps, unsigned long *ret_more,
    unsigned long *ret_reserved)
{
	(void)ctx;
	(void)actions;
	(void)more;
	(void)reserved;
	*ret_actions = 0;
	*ret_steps = steps & (SMFIP_NR_HDR | SMFIP_NR_CONN | SMFIP_NR_HELO |
	    SMFIP_NR_MAIL | SMFIP_NR_RCPT | SMFIP_NR_DATA | SMFIP_NR_UNKN |
	    SMFIP_NR_EOH | SMFIP_NR_BODY);
	*ret_more = *ret_reserved = 0;
	return SMFIS_CONTINUE;
}

int
main(int argc, char **argv)
{
	struct smfiDesc filter = {
		.xxfi_name = "noop", .xxfi_version = SMFI_VERSION,
		.xxfi_connect = on_connect, .xxfi_helo = on_string,
		.xxfi_envfrom = on_address, .xxfi_envrcpt = on_address,
		.xxfi_header = on_header, .xxfi_eoh = on_stage,
		.xxfi_body = on_body, .xxfi_eom = on_stage,
		.xxfi_abort = on_stage, .xxfi_close = on_stage,
		.xxfi_unknown = on_unknown, .xxfi_data = on_stage,
	};

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: noop-milter SOCKET [quiet|end]\n");
		return 1;
	}
	if (argc == 3 && strcmp(argv[2], "quiet") == 0)
		filter.xxfi_negotiate = on_quiet;
	else if (argc == 3 && strcmp(argv[2], "end") == 0)
		filter = (struct smfiDesc){ .xxfi_name = "noop",
			.xxfi_version = SMFI_VERSION, .xxfi_eom = on_stage };
	if (smfi_setconn(argv[1]) == MI_FAILURE ||
	    smfi_register(filter) == MI_FAILURE)
		return 1;
	return smfi_main() == MI_SUCCESS ? 0 : 1;
}
