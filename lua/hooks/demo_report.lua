-- Report of the demonstration: run by [schedule demo-report], and by hand with `depotctl schedule run demo-report`.
local row = depot.db:row([[select count(*) as files, coalesce(sum(bytes), 0)::bigint as bytes,
                                  count(*) filter (where duplicate) as duplicates,
                                  count(*) filter (where attempt > 1) as retried from demo.file]])
depot.db:exec("insert into demo.report (files, bytes) values ($1, $2)", row.files, row.bytes)
depot.log.info("demo report", { files = row.files, bytes = row.bytes, duplicates = row.duplicates })
return row
