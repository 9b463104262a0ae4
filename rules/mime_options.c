#include "rules/mime.h"

struct mime_options
mime_options_of(const struct conf *cf)
{
	return (struct mime_options){
		.header_size_limit = (size_t)cf->header_size_limit,
		.line_length_limit = (size_t)cf->line_length_limit,
		.nesting_limit = (uint32_t)cf->mime_nesting_limit,
		.part_limit = (uint32_t)cf->mime_part_limit,
		.boundary_length_limit =
		    (size_t)cf->mime_boundary_length_limit,
	};
}
