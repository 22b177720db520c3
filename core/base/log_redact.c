/* log_redact.c - the values that must not be seen: registered once, shown as *** from then on. Never forgotten,
 * as a line may still carry a password that a reload has replaced. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log_parts.h"
#include "base/text.h"

#define SECRET_LEAST_BYTES 6U /* shorter ones would blank half of every line */

typedef struct redacted {
    char *text;
    bool  is_given; /* not only the JSON-escaped form of another one */
} redacted;

/* Guards secrets and secret_count. Each secret stands here plain and, where it differs, JSON-escaped. */
static pthread_rwlock_t secret_lock = PTHREAD_RWLOCK_INITIALIZER;
static redacted        *secrets;
static size_t           secret_count;

static void secret_keep(const char *value, bool is_given)
{
    for (size_t i = 0; i < secret_count; i++) {
        if (strcmp(secrets[i].text, value) == 0) {
            secrets[i].is_given = secrets[i].is_given || is_given;
            return;
        }
    }
    secrets = depot_xrealloc(secrets, (secret_count + 1) * sizeof(*secrets));
    secrets[secret_count++] = (redacted){ depot_xstrdup(value), is_given };
}

void log_redact_add(const char *value)
{
    DEPOT_AUTO(depot_buf_free) depot_buf escaped = { 0 };

    if (strlen(value) < SECRET_LEAST_BYTES) {
        return;
    }
    (void)text_add_escaped(&escaped, value, strlen(value), SIZE_MAX); /* without a limit all of it is used */
    (void)pthread_rwlock_wrlock(&secret_lock);                        /* cannot fail: never held by the same thread */
    secret_keep(value, true);
    secret_keep(escaped.data, false);
    (void)pthread_rwlock_unlock(&secret_lock);
}

const char *const *log_redacted(depot_arena *arena, size_t *out_n)
{
    (void)pthread_rwlock_rdlock(&secret_lock); /* cannot fail: never held by the same thread */
    const char **copy = depot_alloc(arena, (secret_count + 1) * sizeof(*copy));
    *out_n = 0;
    for (size_t i = 0; i < secret_count; i++) {
        if (secrets[i].is_given) {
            copy[(*out_n)++] = depot_strdup(arena, secrets[i].text);
        }
    }
    (void)pthread_rwlock_unlock(&secret_lock);
    return copy;
}

/* Puts *** in place of n bytes at `at`; the text only gets shorter. */
static void blank(depot_buf *text, size_t at, size_t n)
{
    memcpy(text->data + at, "***", 3);
    memmove(text->data + at + 3, text->data + at + n, text->len - at - n + 1);
    text->len -= n - 3;
}

static void hide(depot_buf *text, const char *value)
{
    size_t n = strlen(value);
    size_t from = 0;

    for (;;) {
        const char *hit = from < text->len ? memmem(text->data + from, text->len - from, value, n) : NULL;
        if (hit == NULL) {
            break;
        }
        size_t at = (size_t)(hit - text->data);
        blank(text, at, n);
        from = at + 3;
    }
    /* A text of fixed size, such as the message of an error, may have been cut in the middle of a secret. */
    for (size_t part = n - 1; part >= SECRET_LEAST_BYTES; part--) {
        if (part <= text->len && memcmp(text->data + text->len - part, value, part) == 0) {
            blank(text, text->len - part, part);
            return;
        }
    }
}

void log_redact(depot_buf *text)
{
    if (text->len == 0) {
        return;
    }
    (void)pthread_rwlock_rdlock(&secret_lock); /* cannot fail: never held by the same thread */
    for (size_t i = 0; i < secret_count; i++) {
        hide(text, secrets[i].text);
    }
    (void)pthread_rwlock_unlock(&secret_lock);
}
