/* log_fold.c - counts repeats, so that a fault that happens a thousand times a second does not hide all others. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/log_parts.h"

#define FOLD_SLOTS  256U
#define FOLD_PROBES 4U

typedef struct fold_slot {
    log_fold held;
    int64_t  begun_ms;
    uint32_t seen; /* 0: the slot is free */
} fold_slot;

/* Guards fold_slots. */
static pthread_mutex_t fold_lock = PTHREAD_MUTEX_INITIALIZER;
static fold_slot       fold_slots[FOLD_SLOTS];
/* No held line is due before this time: spares each log line the walk over the table. */
static _Atomic int64_t fold_due_ms = INT64_MAX;

static uint32_t fold_hash(const char *plugin, const char *event)
{
    uint32_t h = 2166136261U; /* FNV-1a */

    for (const char *p = plugin; *p != '\0'; p++) {
        h = (h ^ (unsigned char)*p) * 16777619U;
    }
    for (const char *p = event; *p != '\0'; p++) {
        h = (h ^ (unsigned char)*p) * 16777619U;
    }
    return h;
}

static bool fold_is(const fold_slot *slot, const char *plugin, const char *event)
{
    return slot->seen > 0 && strncmp(slot->held.plugin, plugin, sizeof(slot->held.plugin) - 1) == 0 &&
           strncmp(slot->held.event, event, sizeof(slot->held.event) - 1) == 0;
}

static bool fold_is_over(const fold_slot *slot, int64_t now_ms)
{
    return now_ms - slot->begun_ms >= LOG_FOLD_MS;
}

/* The slot of the event, or the least used one near its place; NULL when all of these hold lines back. */
static fold_slot *fold_find(const char *plugin, const char *event, int64_t now_ms)
{
    uint32_t   h = fold_hash(plugin, event);
    fold_slot *spare = NULL;
    uint32_t   spare_seen = UINT32_MAX;

    for (uint32_t i = 0; i < FOLD_PROBES; i++) {
        fold_slot *slot = &fold_slots[(h + i) % FOLD_SLOTS];
        if (fold_is(slot, plugin, event)) {
            return slot;
        }
        uint32_t seen = fold_is_over(slot, now_ms) ? 0 : slot->seen;
        if (slot->held.count == 0 && seen < spare_seen) {
            spare = slot;
            spare_seen = seen;
        }
    }
    if (spare != NULL) {
        *spare = (fold_slot){ .begun_ms = now_ms };
        (void)snprintf(spare->held.plugin, sizeof(spare->held.plugin), "%s", plugin); /* ids are compared as cut here */
        (void)snprintf(spare->held.event, sizeof(spare->held.event), "%s", event);
    }
    return spare;
}

bool log_fold_admit(const char *plugin, const char *event, depot_level level, int64_t now_ms)
{
    bool admit = true;

    (void)pthread_mutex_lock(&fold_lock); /* cannot fail: not recursive, no owner check */
    fold_slot *slot = fold_find(plugin, event, now_ms);
    if (slot != NULL) {
        if (slot->held.count == 0 && fold_is_over(slot, now_ms)) {
            slot->seen = 0;
            slot->begun_ms = now_ms;
        }
        admit = slot->seen < LOG_FOLD_FREE;
        slot->seen += admit ? 1 : 0;
        slot->held.level = level;
        slot->held.count += admit ? 0 : 1;
        if (slot->held.count == 1 && slot->begun_ms + LOG_FOLD_MS < atomic_load(&fold_due_ms)) {
            atomic_store(&fold_due_ms, slot->begun_ms + LOG_FOLD_MS);
        }
    }
    (void)pthread_mutex_unlock(&fold_lock);
    return admit;
}

bool log_fold_take(int64_t now_ms, log_fold *out)
{
    bool found = false;

    if (now_ms < atomic_load(&fold_due_ms)) {
        return false;
    }
    (void)pthread_mutex_lock(&fold_lock);
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < FOLD_SLOTS; i++) {
        fold_slot *slot = &fold_slots[i];
        if (slot->held.count == 0) {
            continue;
        }
        if (!found && fold_is_over(slot, now_ms)) {
            *out = slot->held;
            *slot = (fold_slot){ 0 };
            found = true;
        } else if (slot->begun_ms + LOG_FOLD_MS < next) {
            next = slot->begun_ms + LOG_FOLD_MS;
        }
    }
    atomic_store(&fold_due_ms, next);
    (void)pthread_mutex_unlock(&fold_lock);
    return found;
}
