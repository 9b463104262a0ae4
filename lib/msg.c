#include "lib/msg.h"

/* Sets of roles and phases, for the table only. */
#define R(k)		(1u << ROLE_##k)
#define R_MASTER	R(MASTER)
#define R_GATE		R(GATE)
#define R_SMTPD		R(SMTPD)
#define R_LOOKUP	R(LOOKUP)
#define R_FILTER	R(FILTER)
#define R_QMGR		R(QMGR)
#define R_RELAY		R(RELAY)
#define R_BOUNCE	R(BOUNCE)
#define R_PICKUP	R(PICKUP)
#define R_SHOWQ		R(SHOWQ)
#define R_TABLE		R(TABLE)
#define R_MILTER	R(MILTER)
#define R_PMILTER	R(PMILTER)
#define R_LOCAL		R(LOCAL)
#define R_POLICY	R(POLICY)
#define R_AUTH		R(AUTH)
#define R_STS		R(STS)
#define R_CREDENTIALS	R(CREDENTIALS)
#define R_TLSRPT	R(TLSRPT)
#define R_ASKERS	(R_SMTPD | R_FILTER | R_QMGR | R_RELAY | R_CREDENTIALS)
#define R_WRITERS	(R_SMTPD | R_BOUNCE | R_PICKUP | R_LOCAL | \
			R_TLSRPT)
#define R_ANY		(((1u << ROLE_KINDS) - 1) & ~1u)
#define P_STARTING	(1u << PHASE_STARTING)
#define P_RUNNING	(1u << PHASE_RUNNING)
#define P_ANY		(P_STARTING | P_RUNNING | 1u << PHASE_RETIRING)

const struct msg_rule msg_rules[MSG_TYPES] = {
#define MSG(m, f, t, w, n)						\
	[MSG_##m] = { .name = #m, .from = f, .to = t, .when = w, .fds = n },
#include "lib/msg.def"
#undef MSG
};

static const char *const role_names[ROLE_KINDS] = {
	[ROLE_NONE] = "none",
	[ROLE_MASTER] = "master",
	[ROLE_GATE] = "gate",
	[ROLE_SMTPD] = "smtpd",
	[ROLE_LOOKUP] = "lookup",
	[ROLE_FILTER] = "filter",
	[ROLE_QMGR] = "qmgr",
	[ROLE_RELAY] = "relay",
	[ROLE_BOUNCE] = "bounce",
	[ROLE_PICKUP] = "pickup",
	[ROLE_SHOWQ] = "showq",
	[ROLE_TABLE] = "lookup-table",
	[ROLE_MILTER] = "milter",
	[ROLE_PMILTER] = "pmilter",
	[ROLE_LOCAL] = "local",
	[ROLE_POLICY] = "policy",
	[ROLE_AUTH] = "auth",
	[ROLE_STS] = "sts",
	[ROLE_CREDENTIALS] = "credentials",
	[ROLE_TLSRPT] = "tlsrpt",
};

const char *
role_kind_name(enum role_kind k)
{
	return k < ROLE_KINDS ? role_names[k] : "unknown";
}
