#!/bin/sh
# test-plain: yes
# A few kills at random moments; `make check-faults` has fifty of them.
# test-timeout: 300
lib=$(cd "$(dirname "$0")/../lib" && pwd)
exec env KILLS="${KILLS:-5}" python3 "$lib/../faults/kill50.py"
