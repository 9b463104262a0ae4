#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/log.h"
#include "proxy/gate_peaks.h"

void
gate_peaks_see(struct gate_peaks *p, unsigned kind, uint32_t n,
    const struct netaddr *block, unsigned bits, const char *service)
{
	ensure(kind < PEAKS);
	if (n <= p->peak[kind].n)
		return;
	p->peak[kind].n = n;
	p->peak[kind].when = clock_wall();
	p->peak[kind].bits = bits;
	if (block != NULL)
		p->peak[kind].block = *block;
	(void)snprintf(p->peak[kind].service, PEAK_SERVICE_MAX, "%s",
	    service);
}

static void
peak_time(struct wall when, char *ret, size_t size)
{
	time_t t = (time_t)(when.us / 1000000);
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL ||
	    strftime(ret, size, "%b %e %H:%M:%S", &tm) == 0)
		(void)snprintf(ret, size, "?");
}

void
gate_peaks_log(struct gate_peaks *p, int64_t unit_ms)
{
	static const struct {
		unsigned kind;
		const char *name;
	} lines[] = {
		{ EVENT_CONNECTION, "connection rate" },
		{ PEAK_CONNECTIONS, "connection count" },
		{ EVENT_MESSAGE, "message rate" },
		{ EVENT_RECIPIENT, "recipient rate" },
		{ EVENT_TLS, "newtls rate" },
		{ EVENT_AUTH, "auth rate" },
		{ PEAK_CLIENTS, "cache size" },
	};
	char addr[NETADDR_TEXT], when[32], unit[32], bits[16];
	unsigned kind, i;

	for (i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		kind = lines[i].kind;
		if (p->peak[kind].n == 0)
			continue;
		peak_time(p->peak[kind].when, when, sizeof when);
		if (kind == PEAK_CLIENTS) {
			log_info("statistics: max %s %u at %s", lines[i].name,
			    p->peak[kind].n, when);
			continue;
		}
		unit[0] = bits[0] = '\0';
		if (kind < CLIENT_EVENTS)
			(void)snprintf(unit, sizeof unit, "/%llds",
			    (long long)unit_ms / 1000);
		if (p->peak[kind].bits <
		    netaddr_bytes(&p->peak[kind].block).n * 8)
			(void)snprintf(bits, sizeof bits, "/%u",
			    p->peak[kind].bits);
		log_info("statistics: max %s %u%s for (%s:%s%s) at %s",
		    lines[i].name, p->peak[kind].n, unit,
		    p->peak[kind].service, netaddr_text(&p->peak[kind].block,
		    addr), bits, when);
	}
	memset(p, 0, sizeof *p);
}
