/*
 * sendmail.cf into the model: options, macros, classes, maps, filters.  Its
 * rule sets, which cf.m4 made of features, are counted, not read.
 */
#include "lib/log.h"
#include "proxy/import_sm.h"

#define LOGICAL_MAX	16384u

/* The options whose name differs from that of their conf... by more than the
 * look of it. */
static const struct {
	const char *option, *define;
} options[] = {
	{ "MaxMessageSize", "confMAX_MESSAGE_SIZE" },
	{ "MinFreeBlocks", "confMIN_FREE_BLOCKS" },
	{ "SmtpGreetingMessage", "confSMTP_LOGIN_MSG" },
	{ "PrivacyOptions", "confPRIVACY_FLAGS" },
	{ "MaxRecipientsPerMessage", "confMAX_RCPTS_PER_MESSAGE" },
	{ "BadRcptThrottle", "confBAD_RCPT_THROTTLE" },
	{ "MaxHopCount", "confMAX_HOP" },
	{ "DoubleBounceAddress", "confDOUBLE_BOUNCE_ADDRESS" },
	{ "PostmasterCopy", "confCOPY_ERRORS_TO" },
	{ "DeliveryMode", "confDELIVERY_MODE" },
	{ "LogLevel", "confLOG_LEVEL" },
	{ "AliasFile", "ALIAS_FILE" },
	{ "ForwardPath", "confFORWARD_PATH" },
	{ "DefaultUser", "confDEF_USER_ID" },
	{ "TrustedUser", "confTRUSTED_USER" },
	{ "FallbackMXhost", "confFALLBACK_MX" },
	{ "CACertPath", "confCACERT_PATH" },
	{ "CACertFile", "confCACERT" },
	{ "ServerCertFile", "confSERVER_CERT" },
	{ "ServerKeyFile", "confSERVER_KEY" },
	{ "ClientCertFile", "confCLIENT_CERT" },
	{ "ClientKeyFile", "confCLIENT_KEY" },
	{ "AuthMechanisms", "confAUTH_MECHANISMS" },
	{ "AuthOptions", "confAUTH_OPTIONS" },
	{ "AuthRealm", "confAUTH_REALM" },
	{ "InputMailFilters", "confINPUT_MAIL_FILTERS" },
	{ "QueueLA", "confQUEUE_LA" },
	{ "RefuseLA", "confREFUSE_LA" },
	{ "DelayLA", "confDELAY_LA" },
	{ "MaxDaemonChildren", "confMAX_DAEMON_CHILDREN" },
	{ "ConnectionRateThrottle", "confCONNECTION_RATE_THROTTLE" },
	{ "MinQueueAge", "confMIN_QUEUE_AGE" },
	{ "MaxQueueAge", "confMAX_QUEUE_AGE" },
	{ "ConnectionCacheTimeout", "confMCI_CACHE_TIMEOUT" },
	{ "QueueDirectory", "QUEUE_DIR" },
	{ "StatusFile", "STATUS_FILE" },
	{ "HelpFile", "HELP_FILE" },
	{ "DontBlameSendmail", "confDONT_BLAME_SENDMAIL" },
	{ "RunAsUser", "confRUN_AS_USER" },
	{ "SoftBounce", "confSOFT_BOUNCE" },
	{ "SuperSafe", "confSUPER_SAFE" },
	{ "DontProbeInterfaces", "confDONT_PROBE_INTERFACES" },
	{ "ConnectOnlyTo", "confCONNECT_ONLY_TO" },
	{ "DHParameters", "confDH_PARAMETERS" },
	{ "CipherList", "confCIPHER_LIST" },
};

/* Timeout.datablock is confTO_DATABLOCK, Milter.macros.connect is
 * confMILTER_MACROS_CONNECT. */
static struct view
option_define(struct sm *s, struct view name)
{
	static const struct {
		const char *prefix, *define;
	} kinds[] = {
		{ "Timeout.", "confTO_" },
		{ "Milter.macros.", "confMILTER_MACROS_" },
		{ "Milter.", "confMILTER_" },
	};
	char text[100];
	struct buf b = { .p = text, .cap = sizeof text, .max = sizeof text };
	size_t i, j;

	for (i = 0; i < sizeof options / sizeof options[0]; i++)
		if (view_is_nocase(name, options[i].option))
			return view_of(options[i].define);
	for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		if (!view_starts_nocase(name, kinds[i].prefix))
			continue;
		if (!buf_puts(&b, kinds[i].define))
			break;
		name = view_from(name, strlen(kinds[i].prefix));
		for (j = 0; j < name.n; j++) {
			char c = name.p[j];

			if (c >= 'a' && c <= 'z')
				c -= 'a' - 'A';
			if (!buf_putc(&b, c == '.' ? '_' : c))
				return name;
		}
		return arena_copy(s->arena, buf_view(&b));
	}
	return name;
}

/* "{name}rest" or "xrest" */
static struct view
cf_name(struct view *rest)
{
	struct view name = view_head(*rest, 1);

	if (rest->n > 0 && rest->p[0] == '{') {
		name = view_from(*rest, 1);
		name = view_head(name, view_find(name, '}'));
		*rest = view_from(*rest, name.n + 2);
	} else
		*rest = view_from(*rest, 1);
	return name;
}

static void
cf_define(struct sm *s, struct import_place at, struct view name,
    struct view value, struct view line)
{
	struct sm_item *i = sm_add(s, &s->defines, at, name, line);

	if (i != NULL)
		i->arg[i->n_args++] = arena_copy(s->arena, view_trim(value));
}

static void
cf_macro(struct sm *s, struct import_place at, struct view line)
{
	static const struct {
		const char *macro, *define;
	} names[] = {
		{ "j", "confDOMAIN_NAME" }, { "S", "SMART_HOST" },
		{ "R", "LOCAL_RELAY" }, { "H", "MAIL_HUB" },
		{ "M", "MASQUERADE_AS" }, { "L", "LUSER_RELAY" },
		{ "Y", "UUCP_RELAY" }, { "B", "BITNET_RELAY" },
		{ "C", "DECNET_RELAY" }, { "F", "FAX_RELAY" },
	};
	struct view rest = view_from(line, 1), name = cf_name(&rest);
	size_t i;

	for (i = 0; i < sizeof names / sizeof names[0]; i++)
		if (view_is(name, names[i].macro)) {
			if (view_trim(rest).n == 0)
				import_note(s->report, at, line,
				    IMPORT_CARRIED, "nothing is set");
			else
				cf_define(s, at, view_of(names[i].define),
				    rest, line);
			return;
		}
	import_note(s->report, at, line, IMPORT_DROPPED,
	    "a macro of sendmail's rules, which are not used here");
}

/* Classes that only rules use. */
static bool
cf_class_known(struct view name)
{
	static const char *const known[] = { "w", "R", "M", "N", "E", "L",
		"VirtHost", "G", "t", "TrustAuthMech", "LDAPRoute",
		"LDAPRouteEquiv", "Canonify" };
	size_t i;

	for (i = 0; i < sizeof known / sizeof known[0]; i++)
		if (view_is(name, known[i]))
			return true;
	return false;
}

static void
cf_class(struct sm *s, struct import_place at, struct view line)
{
	struct view rest = view_from(line, 1), name = cf_name(&rest), word;
	struct sm_item *i;

	if (!cf_class_known(name)) {
		import_note(s->report, at, line, IMPORT_DROPPED,
		    "a class of sendmail's rules, which are not used here");
		return;
	}
	while ((word = view_word(&rest, " \t")).n > 0) {
		i = sm_add(s, &s->classes, at, name, line);
		if (i != NULL)
			i->arg[i->n_args++] = arena_copy(s->arena, word);
	}
}

static void
cf_class_file(struct sm *s, struct import_place at, struct view line)
{
	struct view rest = view_from(line, 1), name = cf_name(&rest);
	struct sm_item *i;

	if (!cf_class_known(name)) {
		import_note(s->report, at, line, IMPORT_DROPPED,
		    "a class of sendmail's rules, which are not used here");
		return;
	}
	i = sm_add(s, &s->class_files, at, name, line);
	if (i != NULL)
		i->arg[i->n_args++] = arena_copy(s->arena, view_trim(rest));
}

static void
cf_map(struct sm *s, struct import_place at, struct view line)
{
	static const struct {
		const char *map, *feature;
	} maps[] = {
		{ "access", "access_db" }, { "mailertable", "mailertable" },
		{ "virtuser", "virtusertable" },
		{ "generics", "genericstable" },
		{ "domaintable", "domaintable" },
		{ "authinfo", "authinfo" },
	};
	struct view rest = view_from(line, 1);
	struct view name = view_word(&rest, " \t");
	struct sm_item *i;
	size_t k;

	for (k = 0; k < sizeof maps / sizeof maps[0]; k++) {
		if (!view_is(name, maps[k].map))
			continue;
		i = sm_add(s, &s->features, at, view_of(maps[k].feature),
		    line);
		if (i != NULL)
			i->arg[i->n_args++] = arena_copy(s->arena,
			    view_trim(rest));
		return;
	}
	import_note(s->report, at, line, IMPORT_DROPPED,
	    "a map that only rules use");
}

static void
cf_option(struct sm *s, struct import_place at, struct view line)
{
	struct view rest = view_trim(view_from(line, 1));
	struct view name = view_head(rest, view_find(rest, '='));
	struct view value = view_trim(view_from(rest, name.n + 1));
	struct sm_item *i;

	name = view_trim(name);
	if (view_is_nocase(name, "DaemonPortOptions") ||
	    view_is_nocase(name, "ClientPortOptions")) {
		i = sm_add(s, &s->daemons, at, value, line);
		if (i != NULL)
			i->arg[i->n_args++] = arena_copy(s->arena, value);
		return;
	}
	cf_define(s, at, option_define(s, name), value, line);
}

/* Xname, S=..., F=... */
static void
cf_filter(struct sm *s, struct import_place at, struct view line)
{
	struct view rest = view_from(line, 1);
	struct view name = view_word(&rest, ", \t");
	struct sm_item *i = sm_add(s, &s->filters, at, name, line);

	if (i != NULL)
		i->arg[i->n_args++] = arena_copy(s->arena, view_trim(
		    view_from(rest, 1)));
}

static void
cf_mailer(struct sm *s, struct import_place at, struct view line)
{
	static const char *const known[] = { "local", "prog", "smtp", "esmtp",
		"smtp8", "dsmtp", "relay", "*file*", "*include*", "*disc*" };
	struct view rest = view_from(line, 1);
	struct view name = view_word(&rest, ", \t");
	size_t i;

	for (i = 0; i < sizeof known / sizeof known[0]; i++)
		if (view_is(name, known[i])) {
			import_note(s->report, at, line, IMPORT_CARRIED,
			    "a service of master.cf does this");
			return;
		}
	(void)sm_add(s, &s->mailers, at, name, line);
}

void
import_sm_cf_line(struct sm *s, struct import_place at, struct view line)
{
	if (line.n == 0 || line.p[0] == '#')
		return;
	switch (line.p[0]) {
	case 'O':
		cf_option(s, at, line);
		break;
	case 'D':
		cf_macro(s, at, line);
		break;
	case 'C':
		cf_class(s, at, line);
		break;
	case 'F':
		cf_class_file(s, at, line);
		break;
	case 'K':
		cf_map(s, at, line);
		break;
	case 'X':
		cf_filter(s, at, line);
		break;
	case 'M':
		cf_mailer(s, at, line);
		break;
	case 'H': case 'P': case 'V': case 'L': case 'E':
		import_note(s->report, at, line, IMPORT_DROPPED,
		    line.p[0] == 'H' ? "headers are added as they have to be" :
		    "it has no counterpart");
		break;
	case 'T': {
		struct view rest = view_from(line, 1), word;
		struct sm_item *i;

		while ((word = view_word(&rest, " \t")).n > 0) {
			i = sm_add(s, &s->classes, at, view_of("t"), line);
			if (i != NULL)
				i->arg[i->n_args++] = arena_copy(s->arena,
				    word);
		}
		break;
	}
	default:
		import_note(s->report, at, line, IMPORT_UNKNOWN,
		    "not a line of sendmail.cf that is known");
		break;
	}
}

/* -- the file -------------------------------------------------------------- */

struct rules {
	struct import_place at;
	unsigned n, last;
	struct view name;
};

static void
rules_end(struct sm *s, struct rules *r)
{
	if (r->at.line == 0)
		return;
	import_note(s->report, r->at, r->name, IMPORT_DROPPED,
	    "a rule set of %u rules, up to line %u: what features of cf.m4 "
	    "made is not read here (sendmail.mc would name them), rules of "
	    "your own have to be made anew", r->n, r->last);
	r->at.line = 0;
}

bool
import_sm_cf(struct sm *s, const char *file)
{
	struct rules rules = { .n = 0 };
	struct view rest, line;
	unsigned n = 0, at;
	struct buf b;

	if (!sm_file(s, file, false, sm_at(file, 0), &rest))
		return false;
	buf_init(&b, LOGICAL_MAX);
	while (rest.n > 0) {
		line = view_head(rest, view_find(rest, '\n'));
		rest = view_from(rest, line.n + 1);
		at = ++n;
		buf_clear(&b);
		(void)buf_putv(&b, line);
		/* white space continues a line */
		while (rest.n > 0 && (rest.p[0] == ' ' || rest.p[0] == '\t')) {
			line = view_head(rest, view_find(rest, '\n'));
			rest = view_from(rest, line.n + 1);
			n++;
			if (!buf_putv(&b, line)) {
				log_error("%s:%u: the line is too long",
				    file, n);
				s->failed = true;
			}
		}
		line = view_trim(buf_view(&b));
		if (line.n == 0 || line.p[0] == '#')
			continue;
		if (line.p[0] == 'S') {
			rules_end(s, &rules);
			rules = (struct rules){ .at = sm_at(file, at),
			    .last = at, .name = arena_copy(s->arena, line) };
		} else if (line.p[0] == 'R') {
			if (rules.at.line == 0)
				rules = (struct rules){ .at = sm_at(file,
				    at), .name = view_of("R") };
			rules.n++;
			rules.last = at;
		} else
			import_sm_cf_line(s, sm_at(file, at),
			    arena_copy(s->arena, line));
	}
	rules_end(s, &rules);
	buf_free(&b);
	return !s->failed;
}
