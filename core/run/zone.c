/* zone.c - zones by name, and the way from instants to clocks and back. */
#include "run/zone.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "run/zone_data.h"

enum { NAME_MAX_BYTES = 100, FILE_MAX_BYTES = 256 << 10, LIST_MAX_BYTES = 4 << 20, DAY_S = 86400, SECOND_US = 1000000 };

/* ---- calendar ---- */

int64_t zone_floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0 ? 1 : 0);
}

/* Years are counted from March, so that the day of leap years is the last one; 400 of them repeat exactly. Month 13
 * needs no care: it is the eleventh of the year that began in March. */
enum { ERA_DAYS = 146097, ERA_TO_1970_DAYS = 719468 };

int64_t zone_days(int64_t year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1;
    int64_t era = zone_floor_div(y, 400);
    int64_t in_era = y - era * 400;
    int64_t in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;

    return era * ERA_DAYS + in_era * 365 + in_era / 4 - in_era / 100 + in_year - ERA_TO_1970_DAYS;
}

void zone_date(int64_t days, int64_t *out_year, int *out_month, int *out_day)
{
    int64_t shifted = days + ERA_TO_1970_DAYS;
    int64_t era = zone_floor_div(shifted, ERA_DAYS);
    int64_t in_era = shifted - era * ERA_DAYS;
    int64_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int64_t in_year = in_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * in_year + 2) / 153;

    *out_day = (int)(in_year - (153 * month + 2) / 5 + 1);
    *out_month = (int)(month < 10 ? month + 3 : month - 9);
    *out_year = year + era * 400 + (month < 10 ? 0 : 1);
}

int zone_month_days(int64_t year, int month)
{
    static const uint8_t days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool                 leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

int zone_weekday(int64_t days)
{
    return (int)(((days + 4) % 7 + 7) % 7);
}

/* ---- instants and clocks ---- */

const zone *zone_utc(void)
{
    static const zone_type type = { 0, false, "UTC" };
    static const zone      utc = { .name = "UTC", .types = &type };

    return &utc;
}

const char *zone_name(const zone *z)
{
    return z->name;
}

/* How many of the listed changes have happened by then. */
static size_t changes_until(const zone *z, int64_t utc_s)
{
    size_t low = 0;
    size_t high = z->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (z->changes[middle] <= utc_s) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void zone_span_at(const zone *z, int64_t utc_s, zone_span *out)
{
    size_t  done = changes_until(z, utc_s);
    int64_t from_s = done == 0 ? INT64_MIN : z->changes[done - 1];

    if (done == z->count && z->has_rule) {
        zone_rule_span(&z->rule, utc_s, out);
        out->from_s = out->from_s > from_s ? out->from_s : from_s;
        return;
    }

    const zone_type *type = &z->types[done == 0 ? 0 : z->kinds[done - 1]];

    *out = (zone_span){ from_s, done == z->count ? INT64_MAX : z->changes[done], type->offset_s, type->is_summer,
                        type->abbrev };
}

void zone_local(const zone *z, int64_t utc_us, zone_civil *out)
{
    int64_t   utc_s = zone_floor_div(utc_us, SECOND_US);
    zone_span span;

    zone_span_at(z, utc_s, &span);

    int64_t local_s = utc_s + span.offset_s;
    int64_t days = zone_floor_div(local_s, DAY_S);
    int     of_day = (int)(local_s - days * DAY_S);

    *out = (zone_civil){ .hour = of_day / 3600,
                         .minute = of_day / 60 % 60,
                         .second = of_day % 60,
                         .micro = (int)((utc_us % SECOND_US + SECOND_US) % SECOND_US),
                         .weekday = zone_weekday(days),
                         .offset_s = span.offset_s,
                         .is_summer = span.is_summer,
                         .abbrev = span.abbrev };
    zone_date(days, &out->year, &out->month, &out->day);
    out->yearday = (int)(days - zone_days(out->year, 1, 1)) + 1;
}

int zone_to_utc(const zone *z, const zone_civil *civil, int64_t out_us[2])
{
    int64_t local_s = zone_days(civil->year, civil->month, civil->day) * DAY_S + civil->hour * 3600 +
                      civil->minute * 60 + civil->second;
    int       n = 0;
    zone_span span;

    /* Every instant that this clock can mean lies within the largest offset. Spans follow each other, so the instants
     * found come in order. */
    for (int64_t at = local_s - ZONE_OFFSET_MAX_S; n < 2 && at <= local_s + ZONE_OFFSET_MAX_S; at = span.until_s) {
        zone_span_at(z, at, &span);

        int64_t utc_s = local_s - span.offset_s;

        if (utc_s >= span.from_s && utc_s < span.until_s) {
            out_us[n++] = utc_s * SECOND_US + civil->micro;
        }
    }
    return n;
}

/* ---- names ---- */

static const char *zone_dir(void)
{
    const char *dir = getenv("TZDIR");

    return dir != NULL && dir[0] != '\0' ? dir : "/usr/share/zoneinfo";
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("_+-/", c) != NULL;
}

/* No dots at all: no zone's name has one, and so none leads out of the folder. */
static bool is_name(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n > NAME_MAX_BYTES || name[0] == '/' || name[n - 1] == '/' || strstr(name, "//") != NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_name_char(name[i])) {
            return false;
        }
    }
    return true;
}

/* "Z Europe/Berlin ..." and "L Europe/Berlin Europe/Busingen" of tzdata.zi; the line is cut up. */
static const char *name_in_source(char *line)
{
    char *field = NULL;
    char *save = NULL;
    int   wanted = line[0] == 'Z' ? 2 : 3;

    if ((line[0] != 'Z' && line[0] != 'L') || line[1] != ' ') {
        return NULL;
    }
    for (int i = 0; i < wanted; i++) {
        field = strtok_r(i == 0 ? line : NULL, " ", &save);
    }
    return field;
}

/* "DE<tab>+5230+01322<tab>Europe/Berlin<tab>..." of zone1970.tab. */
static const char *name_in_table(char *line)
{
    char *field = NULL;
    char *save = NULL;

    if (line[0] == '#') {
        return NULL;
    }
    for (int i = 0; i < 3; i++) {
        field = strtok_r(i == 0 ? line : NULL, "\t", &save);
    }
    return field;
}

/* The first list that can be read; a system without any has no suggestions. */
static const struct {
    const char *file;
    const char *(*name_in)(char *line);
} lists[] = { { "tzdata.zi", name_in_source }, { "zone1970.tab", name_in_table }, { "zone.tab", name_in_table } };

static size_t known_names(depot_arena *arena, const char ***out)
{
    char  *text = NULL;
    size_t size = 0;
    size_t which = 0;
    size_t n = 0;
    size_t lines = 1;
    char  *save = NULL;

    for (; which < DEPOT_N(lists) && text == NULL; which++) {
        depot_err none = { 0 };

        if (!depot_read_file(arena, depot_strf(arena, "%s/%s", zone_dir(), lists[which].file), LIST_MAX_BYTES, &text,
                             &size, &none)) {
            text = NULL;
        }
    }
    if (text == NULL) {
        return 0;
    }
    for (size_t i = 0; i < size; i++) {
        lines += text[i] == '\n' ? 1 : 0;
    }
    *out = depot_alloc(arena, lines * sizeof(**out));
    for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        const char *name = lists[which - 1].name_in(line);

        if (name != NULL && n < lines) {
            (*out)[n++] = name;
        }
    }
    return n;
}

/* "berlin" and "New York" for Europe/Berlin and America/New_York. */
static bool is_city_of(const char *word, const char *name)
{
    const char *city = strrchr(name, '/');

    for (city = city == NULL ? name : city + 1; *city != '\0' && *word != '\0'; city++, word++) {
        if (strncasecmp(city, *word == ' ' ? "_" : word, 1) != 0) {
            return false;
        }
    }
    return *city == *word;
}

/* NULL when nothing is near. */
static const char *suggestion(depot_arena *arena, const char *word)
{
    const char **names = NULL;
    size_t       n = known_names(arena, &names);
    const char  *found = NULL;
    struct stat  info;

    if (strlen(word) > NAME_MAX_BYTES) {
        return NULL;
    }
    for (size_t i = 0; i < n && found == NULL; i++) {
        found = strcasecmp(word, names[i]) == 0 || is_city_of(word, names[i]) ? names[i] : NULL;
    }
    if (found == NULL && n > 0) {
        found = depot_suggest(word, names, n);
    }
    /* The lists name more than some systems install. */
    if (found == NULL || !is_name(found) || stat(depot_strf(arena, "%s/%s", zone_dir(), found), &info) != 0) {
        return NULL;
    }
    return found;
}

static bool fail_name(const char *name, const char *problem, depot_err *err)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *scratch = depot_arena_new();
    const char                               *near = suggestion(scratch, name);
    struct stat                               info;

    DEPOT_FAIL(err, INVALID, "time zone \"%.100s\" %s", name, problem);
    if (near != NULL) {
        return depot_hint(err, "did you mean %s", near);
    }
    if (stat(zone_dir(), &info) != 0) {
        return depot_hint(err, "there is no %s: install the package tzdata, or use UTC", zone_dir());
    }
    return depot_hint(err, "names are those of the files below %s, such as Europe/Berlin, and UTC", zone_dir());
}

bool zone_load(depot_arena *arena, const char *name, const zone **out, depot_err *err)
{
    struct stat info;
    char       *bytes = NULL;
    size_t      n = 0;

    if (strcmp(name, "UTC") == 0) {
        *out = zone_utc();
        return true;
    }
    if (!is_name(name)) {
        return fail_name(name, "is not a zone's name", err);
    }

    DEPOT_AUTO(depot_arena_drop) depot_arena *scratch = depot_arena_new();
    const char                               *path = depot_strf(scratch, "%s/%s", zone_dir(), name);

    if (stat(path, &info) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return fail_name(name, "does not exist", err);
        }
        return DEPOT_FAIL_ERRNO(err, "cannot read time zone %s", path);
    }
    if (S_ISDIR(info.st_mode)) {
        return fail_name(name, "is a folder of zones", err);
    }
    if (!S_ISREG(info.st_mode)) {
        return fail_name(name, "is not a file", err);
    }
    return depot_read_file(scratch, path, FILE_MAX_BYTES, &bytes, &n, err) &&
           zone_parse(arena, name, bytes, n, out, err);
}
