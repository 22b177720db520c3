/* expand.c - ${env:NAME}, ${file:/path}, ${secret:NAME} and ${option} inside values; $${ stands for a plain ${.
 * What cannot be found is an error: an empty password or path is worse than no start. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "conf/data.h"

/* What was put in is somebody's text: it must be whole text, and must not be nothing. */
static bool accept_text(const char *what, const char *text, size_t n, depot_err *err)
{
    if (n == 0) {
        return DEPOT_FAIL(err, CONFIG, "%s is empty", what);
    }
    if (strlen(text) != n || !depot_utf8_valid(text, n)) {
        return DEPOT_FAIL(err, CONFIG, "%s is not UTF-8 text", what);
    }
    return true;
}

static bool from_env(conf_scope *scope, const char *name, const char **out, depot_err *err)
{
    const char *text = getenv(name);
    const char *what = depot_strf(scope->arena, "environment variable %s", name);

    if (text == NULL) {
        (void)DEPOT_FAIL(err, CONFIG, "%s is not set", what);
        return depot_hint(err, "set it where depotd is started, or write the value here");
    }
    *out = text;
    return accept_text(what, text, strlen(text), err);
}

/* The text without the newlines at its end, which editors and echo put there. */
static bool read_text(conf_scope *scope, const char *path, const char **out, depot_err *err)
{
    char  *text;
    size_t n;

    if (!depot_read_file(scope->arena, path, CONF_VALUE_MAX, &text, &n, err)) {
        return false;
    }
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r')) {
        text[--n] = '\0';
    }
    *out = text;
    return accept_text(path, text, n, err);
}

static bool is_private(const char *path, depot_err *err)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot read %s", path);
    }
    if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        (void)DEPOT_FAIL(err, CONFIG, "others may access %s (mode %04o)", path, (unsigned)(st.st_mode & 07777));
        return depot_hint(err, "chmod 600 %s", path);
    }
    return true;
}

static bool from_file(conf_scope *scope, const char *name, const char **out, depot_err *err)
{
    const char *path = name[0] == '/' ? name : depot_strf(scope->arena, "%s/%s", scope->state_dir, name);

    return (!scope->for_secret || is_private(path, err)) && read_text(scope, path, out, err);
}

static bool from_secret(conf_scope *scope, const char *name, const char **out, depot_err *err)
{
    const char *path = depot_strf(scope->arena, "%s/secrets/%s", scope->state_dir, name);
    const char *credentials = getenv("CREDENTIALS_DIRECTORY"); /* systemd's LoadCredential=, private by its own means */

    if (!conf_is_word(name, strlen(name), CONF_NAME_MAX) || name[0] == '.') {
        return DEPOT_FAIL(err, CONFIG, "\"%.60s\" cannot be the name of a secret", name);
    }
    if (is_private(path, err)) {
        return read_text(scope, path, out, err);
    }
    if (err->sys_errno != ENOENT) {
        return false;
    }
    *err = (depot_err){ 0 };
    if (credentials != NULL && read_text(scope, depot_strf(scope->arena, "%s/%s", credentials, name), out, err)) {
        return true;
    }
    if (err->code != DEPOT_OK && err->sys_errno != ENOENT) {
        return false;
    }
    (void)DEPOT_FAIL(err, CONFIG, "there is no secret \"%s\"", name);
    return depot_hint(err, "write it to %s with mode 0600, or pass it by systemd's LoadCredential=%s:...", path, name);
}

static bool from_option(conf_scope *scope, const char *name, const char **out, depot_err *err)
{
    bool is_secret = false;

    if (!scope->option(scope->arg, name, out, &is_secret, err)) {
        return false;
    }
    scope->holds_secret = scope->holds_secret || is_secret;
    return true;
}

static const struct source {
    const char *prefix;
    bool        is_secret;
    bool (*get)(conf_scope *scope, const char *name, const char **out, depot_err *err);
} sources[] = {
    { "env:", false, from_env },
    { "file:", false, from_file },
    { "secret:", true, from_secret },
};

static bool get_from(const struct source *source, conf_scope *scope, const char *name, const char **out, depot_err *err)
{
    if (name[0] == '\0') {
        return DEPOT_FAIL(err, CONFIG, "${%s} lacks a name", source->prefix);
    }
    scope->holds_secret = scope->holds_secret || source->is_secret;
    if (!source->get(scope, name, out, err)) {
        return false;
    }
    if (scope->for_secret || source->is_secret) {
        log_redact_add(*out);
    }
    return true;
}

/* The text for what stands between ${ and }. */
static bool look_up(conf_scope *scope, const char *what, const char **out, depot_err *err)
{
    for (size_t i = 0; i < DEPOT_N(sources); i++) {
        size_t n = strlen(sources[i].prefix);
        if (strncmp(what, sources[i].prefix, n) == 0) {
            return get_from(&sources[i], scope, what + n, out, err);
        }
    }
    if (what[0] == '\0' || strchr(what, ':') != NULL) {
        (void)DEPOT_FAIL(err, CONFIG, "${%.60s} is not known", what);
        return depot_hint(err, "there are ${env:NAME}, ${file:PATH}, ${secret:NAME} and ${option}; $${ is a plain ${");
    }
    return from_option(scope, what, out, err);
}

bool conf_expand(conf_scope *scope, const char *text, const char **out, depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf all = { 0 };

    for (const char *dollar; (dollar = strstr(text, "${")) != NULL;) {
        const char *close = strchr(dollar, '}');
        const char *value;

        if (dollar > text && dollar[-1] == '$') {
            depot_buf_add(&all, text, (size_t)(dollar - text) - 1);
            depot_buf_adds(&all, "${");
            text = dollar + 2;
            continue;
        }
        depot_buf_add(&all, text, (size_t)(dollar - text));
        if (close == NULL) {
            (void)DEPOT_FAIL(err, CONFIG, "${ is not closed: } is missing");
            return depot_hint(err, "write $${ where a plain ${ is meant");
        }
        if (!look_up(scope, depot_strndup(scope->arena, dollar + 2, (size_t)(close - dollar) - 2), &value, err)) {
            return false;
        }
        depot_buf_adds(&all, value);
        text = close + 1;
        if (all.len > CONF_VALUE_MAX) {
            return DEPOT_FAIL(err, CONFIG, "the value is longer than 1 MiB once ${...} is replaced");
        }
    }
    depot_buf_adds(&all, text);
    *out = depot_strndup(scope->arena, all.data == NULL ? "" : all.data, all.len);
    return true;
}
