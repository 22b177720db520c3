/* globals.h - variables that no script has, and functions of depot that nobody offers, found without running anything. */
#ifndef LUA_GLOBALS_H
#define LUA_GLOBALS_H

#include "conf/conf.h"
#include "lua/engine.h"

/* Looks through the compiled form of every file of the engine; each fault becomes a problem with file and line. */
void globals_check(engine *e, conf_problems *problems);

#endif
