/* options.h - the plugin's own options, [plugin http]. */
#ifndef HTTP_OPTIONS_H
#define HTTP_OPTIONS_H

#include <stdint.h>

typedef struct http_options {
    int64_t threads; /* of each listener; 0: by the number of processors */
} http_options;

#endif
