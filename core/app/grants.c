/* grants.c - [lua] grant and the [handler NAME] sections as one object, job types and files to what they may reach. */
#include "app/app.h"

static void add(depot_arena *arena, depot_json *all, const char *glob, const char *const *grant)
{
    const depot_json *before = depot_json_get(all, glob);
    depot_json       *list = depot_json_array(arena);

    for (size_t i = 0; before != NULL && i < depot_json_len(before); i++) {
        depot_json_add(list, depot_json_str(arena, depot_json_string(depot_json_at(before, i), NULL)));
    }
    for (; grant != NULL && *grant != NULL; grant++) {
        depot_json_add(list, depot_json_str(arena, *grant));
    }
    depot_json_set(all, glob, list);
}

const char *app_grants(depot_arena *arena, const conf *c)
{
    const app_lua_options     *lua = conf_get(c, "lua", NULL);
    const app_handler_options *h;
    depot_json                *all = depot_json_object(arena);
    const char                *name;

    if (lua != NULL) {
        add(arena, all, "*", lua->grant);
    }
    for (size_t it = 0; (h = conf_next(c, "handler", &it, &name)) != NULL;) {
        const char *const alone[] = { name, NULL };

        for (const char *const *type = h->types == NULL ? alone : h->types; *type != NULL; type++) {
            add(arena, all, *type, h->grant);
        }
    }
    return depot_json_text(arena, all);
}
