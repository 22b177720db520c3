#!/bin/sh
# Plugins that must be refused before any of their code runs: the message names file, line and reason, --check and the
# daemon end with status 78. An older header's shorter rows are fine.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"
so=$DEPOT_BUILD/tests/plugins
conf=$work/conf.d
cc=$(sed -n 's/^CC = //p' "$DEPOT_BUILD/config.mk" 2> /dev/null)
[ -x "$DEPOT_BUILD/depotd" ] || { ok "depotd was built" false; finish; }

check() { "$DEPOT_BUILD/depotd" --config "$conf" --state "$work/state" --check; }

# load_these NAME...: a conf.d with these plugins alone, each in a file of its own
load_these() {
    rm -rf "$conf" && mkdir "$conf" || exit 1
    for name; do
        printf '; a plugin of the test\n[plugin %s]\nfile = %s/%s.so\n' "$name" "$so" "$name" > "$conf/50-$name.ini"
    done
}

refuses() { # NAME-OF-POINT PATTERN PLUGIN...: --check says so in the form FILE:LINE: error: PATTERN
    point=$1 pattern=$2
    shift 2
    load_these "$@"
    refused "$point" 78 check
    like "$out" "$pattern" "and it says why: $*"
}

abi="$(sed -n 's/^#define DEPOT_ABI_MAJOR \([0-9]*\)u/\1/p' "$DEPOT_SRC/core/include/depot/plugin.h").$(
    sed -n 's/^#define DEPOT_ABI_MINOR \([0-9]*\)u/\1/p' "$DEPOT_SRC/core/include/depot/plugin.h")"
major=${abi%.*} minor=${abi#*.}

refuses "a shared object without the entry symbol" "50-no_symbol.ini:2: error: .*no_symbol.so is not a depotd plugin: .*depot_plugin_abi$major" no_symbol
like "$out" '50-no_symbol.ini:2: hint: .*docs/plugins.md' "with a hint"
refuses "a later major" "next_major.so was built for plugin ABI $((major + 1)).3, this depotd has $abi" next_major
like "$out" 'hint: upgrade depotd' "with what to do"
refuses "a later minor" "next_minor.so was built for plugin ABI $major.$((minor + 1)), this depotd has $abi" next_minor
refuses "an entry without a descriptor" 'no_descriptor.so: its entry has no .* descriptor' no_descriptor
refuses "an option that stands twice" 'plugin double_option: options row "limit" stands twice' double_option
refuses "a row without documentation" 'plugin no_doc: tasks row "no_doc.run" has no .*doc' no_doc
refuses "a route without a function" 'plugin no_handler: routes row "/v1/nowhere" has no .*function' no_handler
refuses "a route that the core answers" 'plugins core and double_route both answer GET /v1/status' double_route
refuses "a metric of two kinds" 'plugin double_metric: .*depot_double_metric_total' double_metric
refuses "a call that this depotd does not have" 'undefined_symbol: .*depot_call_of_another_year' undefined_symbol
refuses "a service that two provide" 'plugins clock_(one|two) and clock_(one|two) both provide the service clock' clock_one clock_two
like "$out" 'hint: enable one of them' "with what to do"
refuses "a service that nobody provides" 'plugin wants_tide needs the service tide version 3, which no loaded plugin provides' wants_tide
like "$out" 'hint: depotctl enable tide' "with what to do"
refuses "a later version of a service than is there" 'wants_newer_clock needs the service clock version 2' clock_one wants_newer_clock
refuses "plugins that need each other" 'plugin (hen|egg) needs itself through' hen egg

printf '[plugin storge]\n' > "$work/50-x.ini" && load_these && mv "$work/50-x.ini" "$conf"
refused "a plugin that does not exist" 78 check
like "$out" '50-x.ini:1: error: cannot load plugin storge' "is named"
like "$out" '50-x.ini:1: hint: did you mean "storage"\?' "with the one that was meant"
load_these
printf '[plugin nicknamed]\nfile = %s/lifecycle.so\n' "$so" > "$conf/50-x.ini"
refused "a file that holds another plugin" 78 check
like "$out" 'lifecycle.so holds the plugin lifecycle, not nicknamed' "is named"
load_these && printf '[plugin text]\nfile = %s\n' "$DEPOT_SRC/README.md" > "$conf/50-x.ini"
refused "a file that is no shared object" 78 check
like "$out" 'cannot load plugin text: .*README.md' "is named"

# all of them at once: nobody has to correct one to see the next
load_these next_major no_doc undefined_symbol
printf '[queue default]\nleese = 10s\n' > "$conf/60-y.ini"
refused "several at once" 78 check
is "$(printf '%s\n' "$out" | grep -c '^[^ ]*50-[a-z_]*\.ini:2: error: ')" 3 "are all reported in one pass"
load_these lifecycle && printf 'number = 13\n' >> "$conf/50-lifecycle.ini"
refused "a value that the plugin's own check refuses" 78 check
like "$out" '50-lifecycle.ini:2: error: lifecycle cannot count to 13' "with its place"
like "$out" '50-lifecycle.ini:2: hint: take another number' "and hint"
load_these lifecycle
ok "and the good one passes" check
refused "the daemon itself ends with 78 too" 78 sh -c "printf '[plugin next_minor]\nfile = $so/next_minor.so\n' > '$conf/50-next.ini' &&
    exec '$DEPOT_BUILD/depotd' --config '$conf' --state '$work/state' --foreground"
like "$out" "50-next.ini:1: error: .*was built for plugin ABI $major.$((minor + 1)), this depotd has $abi" "and prints the same"

# ---- an older header: rows and descriptor end earlier; what they lack reads as zero
mkdir "$work/older" && cp -r "$DEPOT_SRC/core/include/depot" "$work/older/" || exit 1
sed -i '/^    const char               \*doc; .*one sentence/d; /^    const char \*name; .*depot_<plugin>_<what>_<unit>/!b' "$work/older/depot/table.h"
sed -i '/^    void (\*stop)(depot_ctx \*ctx);/d; /^    void (\*drain)(depot_ctx \*ctx);/d' "$work/older/depot/plugin.h"
cat > "$work/older.c" << 'END'
/* older.c - built with shorter rows than depotd's. */
#include "depot/plugin.h"

typedef struct place {
    int64_t     limit;
    const char *dir;
} place;
static const depot_field place_options[] = {
    DEPOT_OPT_INT(place, limit, "7", 1, 9, .flags = DEPOT_RELOADABLE),
    DEPOT_OPT_STRING(place, dir, NULL, .flags = DEPOT_REQUIRED, .env = "OLDER_DIR"),
};
static const depot_section sections[] = { { "pier", true, sizeof(place), DEPOT_TABLE(place_options), "a section of the older plugin" } };
static const depot_field   inner[] = { { .name = "depth", .type = DEPOT_T_INT, .min = 1, .max = 5 }, { .name = NULL } };
static const depot_field   outer[] = { { .name = "x", .type = DEPOT_T_STRING, .flags = DEPOT_REQUIRED },
                                       { .name = "y", .type = DEPOT_T_OBJECT, .fields = inner },
                                       { .name = "z", .type = DEPOT_T_BOOL },
                                       { .name = NULL } };
static bool run_task(depot_ctx *ctx, depot_task *task, depot_err *err)
{
    const char *dir = ((const place *)depot_section_get(ctx, "pier", "north"))->dir;
    (void)err;
    depot_task_result(task, depot_json_pack(depot_task_arena(task), "{s:s, s:I}", "dir", dir, "depth",
                                            depot_json_get_int(depot_json_get(depot_task_args(task), "y"), "depth", -1)));
    return true;
}
static const depot_task_row  tasks[] = { { .name = "older.run", .args = outer, .fn = run_task, .doc = "runs" } };
static const depot_event_row events[] = { { "older.ran", outer, "it ran" } };

DEPOT_PLUGIN(older) { .version = "0.9", .summary = "from an earlier year", .sections = DEPOT_TABLE(sections), .tasks = DEPOT_TABLE(tasks),
                      .events = DEPOT_TABLE(events) };
END
ok "a plugin builds against an older header" "${cc:-cc}" -std=gnu11 -Wall -Wextra -Werror -Wno-unused-function -fPIC \
    -fvisibility=hidden -shared "-I$work/older" -o "$work/older.so" "$work/older.c"
size() { # FOLDER TYPE
    printf '#include "depot/plugin.h"\n#include <stdio.h>\nint main(void) { printf("%%zu", sizeof(%s)); return 0; }\n' "$2" > "$work/size.c"
    "${cc:-cc}" -std=gnu11 "-I$1" -o "$work/size" "$work/size.c" && "$work/size"
}
for type in depot_field depot_plugin; do
    is "$(($(size "$DEPOT_SRC/core/include" $type) > $(size "$work/older" $type)))" 1 "$type was shorter then"
done
load_these && printf '[plugin older]\nfile = %s/older.so\n[pier north]\ndir = /a\nlimit = 8\n' "$work" > "$conf/50-older.ini"
ok "it loads" check
printf 'limits = 8\n' >> "$conf/50-older.ini"
refused "its options are known" 78 check
like "$out" '50-older.ini:6: error: unknown option "limits" in \[pier north\]' "by name"
printf '[plugin older]\nfile = %s/older.so\n[pier north]\nlimit = 10\n' "$work" > "$conf/50-older.ini"
refused "and by their rules" 78 check
like "$out" '50-older.ini:4: error: .*limit.*(out of range|1\.\.9|at most|between)' "range"
like "$out" '50-older.ini:3: error: .*dir' "required"
finish
