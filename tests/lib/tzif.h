/* tzif.h - a zone file made up for a test: version 2, one type "STD" (UTC+1), no changes, a footer of its choice. */
#ifndef TZIF_H
#define TZIF_H

#include "depot/base.h"

enum { TZIF_HEADER = 44, TZIF_OLD_BLOCK = 54, TZIF_BLOCK = 98 }; /* sizes and places: header, then the block's data */

static inline void tzif_small(depot_buf *out, const void *footer, size_t n)
{
    static const char header[TZIF_HEADER] = { 'T', 'Z', 'i', 'f', '2', [39] = 1, [43] = 4 };
    static const char type[10] = { 0, 0, 0x0e, 0x10, 0, 0, 'S', 'T', 'D', '\0' };

    depot_buf_reset(out);
    for (int i = 0; i < 2; i++) {
        depot_buf_add(out, header, sizeof(header));
        depot_buf_add(out, type, sizeof(type));
    }
    depot_buf_adds(out, "\n");
    depot_buf_add(out, footer, n);
    depot_buf_adds(out, "\n");
}

#endif
