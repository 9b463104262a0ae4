/*
 * The most that any client did since the last report, in the words of
 * Postfix's anvil(8), which log tools know.
 */
#ifndef PROXY_GATE_PEAKS_H
#define PROXY_GATE_PEAKS_H

#include "proxy/gate_count.h"

#define PEAK_SERVICE_MAX	64u

enum peak_kind {
	/* The rates are enum client_event. */
	PEAK_CONNECTIONS = CLIENT_EVENTS,
	PEAK_CLIENTS,			/* counted at once */
	PEAKS
};

struct gate_peaks {
	struct {
		uint32_t n;
		struct netaddr block;
		unsigned bits;
		char service[PEAK_SERVICE_MAX];
		struct wall when;
	} peak[PEAKS];
};

/* n of that kind were seen of a client of service; block is its address, of
 * bits (PEAK_CLIENTS: NULL). */
void gate_peaks_see(struct gate_peaks *p, unsigned kind, uint32_t n,
    const struct netaddr *block, unsigned bits, const char *service);
/* "statistics: max connection rate 3/60s for (smtp:192.0.2.1) at Nov 21
 * 10:00:00", a line for each kind that was seen; then begin anew. */
void gate_peaks_log(struct gate_peaks *p, int64_t unit_ms);

#endif
