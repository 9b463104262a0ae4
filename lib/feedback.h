/*
 * Concurrency feedback, as default_destination_concurrency_positive_feedback
 * and its kin give it: how much one delivery changes the number of deliveries
 * that a destination may have at once.
 *
 *	number				always the same, from 0 to 1
 *	number/concurrency		less, the more there are
 *	number/sqrt_concurrency		in between
 */
#ifndef LIB_FEEDBACK_H
#define LIB_FEEDBACK_H

#include "lib/view.h"

enum feedback_form { FEEDBACK_CONSTANT = 0, FEEDBACK_SHARE, FEEDBACK_ROOT };

struct feedback {
	enum feedback_form form;
	double number;
};

/* False: not one of the three forms, or the number is not from 0 to 1. */
bool feedback_parse(struct view text, struct feedback *ret);
/* At that concurrency, which is at least 1. */
double feedback_value(const struct feedback *f, unsigned concurrency);

#endif
