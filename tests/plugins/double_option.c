/* double_option.c - two rows of the same name. */
#include "depot/plugin.h"

typedef struct options_t {
    int64_t limit;
} options_t;

static const depot_field options[] = {
    DEPOT_OPT_INT(options_t, limit, "1", 0, 10, .doc = "the first"),
    DEPOT_OPT_INT(options_t, limit, "2", 0, 10, .doc = "the second"),
};

DEPOT_PLUGIN(double_option) {
    .version = "1.0", .summary = "says one thing twice", .options_size = sizeof(options_t), .options = DEPOT_TABLE(options),
};
