/* Probes of addresses in the windows of destinations: see queue/sched.h. */
#include "queue/sched_priv.h"

unsigned
dest_probes(const struct dest *d)
{
	return d->probes;
}

void
dest_probe_hold(struct dest *d)
{
	d->probes++;
	dest_place(d);
}

void
dest_probe_release(struct dest *d)
{
	ensure(d->probes > d->busy_probes);
	d->probes--;
	dest_place(d);
}

static bool
probe_may_begin(const struct dest *d)
{
	const struct transport *t = d->transport;

	if (d->dead_why != NULL || t->dead_why != NULL ||
	    d->busy >= dest_window(d) ||
	    (t->limits.at_once > 0 && t->busy >= t->limits.at_once))
		return false;
	return d->waiting == 0 || (d->busy_probes == 0 && !d->probed_last);
}

bool
dest_probe_begin(struct dest *d)
{
	ensure(d->probes > d->busy_probes);
	if (!probe_may_begin(d))
		return false;
	d->probed_last = d->waiting > 0;
	d->busy++;
	d->busy_probes++;
	d->transport->busy++;
	d->transport->sched->busy_unproven += !d->proven;
	dest_requeue(d);
	return true;
}

bool
dest_probe_ended(struct dest *d, enum sched_result result, struct view why)
{
	const struct sched_limits *l = &d->transport->limits;
	bool died = false;

	ensure(d->busy_probes > 0 && d->busy > 0);
	if (result == RESULT_OK)
		d->failed_cohorts = 0;
	if (result == RESULT_FAILED && d->dead_why == NULL) {
		d->failed_cohorts += 1.0 / dest_window(d);
		died = l->failed_cohorts > 0 &&
		    d->failed_cohorts >= l->failed_cohorts - 1e-6;
		dest_failure(d);
	}
	d->busy--;
	d->busy_probes--;
	d->transport->sched->busy_unproven -= !d->proven;
	ensure(d->transport->busy > 0);
	d->transport->busy--;
	if (died)
		dest_die(d, view_head(why, DEST_WHY_MAX));
	transport_refill(d->transport);
	dest_requeue(d);
	return died;
}
