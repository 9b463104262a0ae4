/*
 * All of v to a file, or a blocking descriptor; interrupted calls go on.
 * False: errno says why not; a part of it may have been written.
 */
#ifndef LIB_WRITE_ALL_H
#define LIB_WRITE_ALL_H

#include "lib/view.h"

bool write_all(int fd, struct view v);

#endif
