/* doctor.h - what the daemon sees of itself and its database, for `depotctl doctor`.
 *
 * GET /v1/doctor gives {version, node, checks: [{check, status, message, fix, command}]}; status is ok, warn or fail. A
 * plugin adds its own by a task named <plugin>.doctor whose result is {checks: [...]} of the same shape. */
#ifndef APP_DOCTOR_H
#define APP_DOCTOR_H

#include "depot/plugin.h"

extern const depot_route doctor_routes[];
extern const size_t      doctor_routes_n;

#endif
