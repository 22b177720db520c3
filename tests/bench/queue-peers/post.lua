-- post.lua - wrk: one job a request. BENCH_TOKEN: the bearer token.
-- luacheck: globals wrk
wrk.method = "POST"
wrk.body = '{"queue":"bench-http","job_type":"unserved","payload_json":{"id":1}}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_TOKEN")
