#!/bin/sh
# runtime.sh - start to ready, first start against initdb, memory at rest. `make bench-runtime`.
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/runtime.py" "${DEPOT_BUILD:-$here/../../build}" "${DEPOT_SRC:-$here/../..}"
