#include "lib/header.h"

bool
header_split(struct view line, struct view *ret_name, struct view *ret_rest)
{
	size_t n = 0, colon;

	/* '!' to '~' without ':'. */
	while (n < line.n && line.p[n] > ' ' && line.p[n] < 127 &&
	    line.p[n] != ':')
		n++;
	for (colon = n; colon < line.n; colon++)
		if (line.p[colon] != ' ' && line.p[colon] != '\t')
			break;
	if (n == 0 || colon == line.n || line.p[colon] != ':')
		return false;
	*ret_name = view_head(line, n);
	*ret_rest = view_from(line, colon);
	return true;
}
