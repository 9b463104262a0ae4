#include <stdlib.h>
#include <time.h>

#include "lib/mail_date.h"

bool
mail_date_put(struct buf *b, struct wall when)
{
	static const char day[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu",
		"Fri", "Sat" };
	static const char month[][4] = { "Jan", "Feb", "Mar", "Apr", "May",
		"Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t t = (time_t)(when.us / 1000000);
	struct tm tm;
	long off;

	if (localtime_r(&t, &tm) == NULL)
		return false;
	off = tm.tm_gmtoff / 60;
	/* Not strftime(): the names must not follow a locale. */
	return buf_printf(b, "%s, %d %s %d %02d:%02d:%02d %c%02ld%02ld (%.10s)",
	    day[tm.tm_wday], tm.tm_mday, month[tm.tm_mon], tm.tm_year + 1900,
	    tm.tm_hour, tm.tm_min, tm.tm_sec, off < 0 ? '-' : '+',
	    labs(off) / 60, labs(off) % 60, tm.tm_zone);
}
