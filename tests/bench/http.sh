#!/bin/sh
# http.sh - small JSON through a route with token check against nginx's static reply of equal size. `make bench-http`.
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/http_small.py"
