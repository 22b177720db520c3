---@meta
-- Everything that scripts of depotd can call. Made by depotd from its tables: changes are lost.

---@class depot.Error
---@field code string
---@field message string
---@field hint? string
---@field where? string file:line
---@field retry "no"|"safe"|"uncertain"
---@field sqlstate? string

---@class depot.Arg
---@field type string any, array, boolean, duration, integer, number, object, sha256, size, string, time, url, uuid
---@field optional? boolean
---@field default? any
---@field min? integer of a value, of the bytes of a string, of the items of an array
---@field max? integer
---@field choices? string[]
---@field of? string|depot.Arg what an array holds
---@field fields? table<string, string|depot.Arg> what an object holds
---@field doc? string

---@class depot.Job
---@field id string
---@field queue string
---@field attempt integer from 1
---@field args table
local Job = {}

---Writes to the log.
---@param level "debug"|"info"|"warn"|"error"
---@param message any
---@param fields? table
function Job:log(level, message, fields) end

---Runs f once for the job: what it returned is recorded under this name, and returned without running f in later
---attempts. As JSON at most 64 KiB.
---@param name string
---@param f fun(): any
---@return any
function Job:checkpoint(name, f) end

---Runs f in a transaction that commits only if the job's lease is still held: what a late worker did is undone, and
---LEASE_LOST raised.
---@param f fun(tx: table): ...
---@param opts? {serializable?: boolean}
---@return ...
function Job:tx(f, opts) end

---Ends this attempt; the job runs again after that time and is not charged for it.
---@param duration string|number
---@param reason? string
function Job:snooze(duration, reason) end

---Ends this attempt with an error of the script's own code; with retry = "no" there is no other attempt.
---@param code string
---@param message string
---@param opts? {retry?: string, hint?: string}
function Job:fail(code, message, opts) end

depot = {}

---What JSON null and SQL null are in tables.
---@type userdata
depot.null = nil

---Marks a table as an array, so that it is [] in JSON even when empty.
---@param t? table
---@return table
function depot.array(t) end

---Runs a program by its whole path, without a shell; needs the capability exec:/PATH. It is killed with all that it has started at the deadline. A status other than 0 is no error.
---@param spec {[integer]: string, stdin?: string, timeout?: string|number, max_output?: integer, cwd?: string, env?: table<string, string>}
---@return {status: integer, signal?: integer, out: string, err: string, truncated: boolean}
function depot.exec(spec) end

---Raises an error of the script's own code; retry is "no", "safe" (tried again, the default) or "uncertain".
---@param err {code: string, message: string, hint?: string, retry?: string}
function depot.fail(err) end

---The HMAC-SHA-256 of a text, in hex: what receivers of webhooks check.
---@param key string
---@param text string
---@return string
function depot.hmac_sha256(key, text) end

---Declares, at the top of a handler's file, what runs jobs of this type.
---@param name string
---@return fun(def: {run: fun(job: depot.Job): any, args?: table<string, string|depot.Arg>, args_extra?: boolean, needs?: string[], timeout?: string|number, max_attempts?: integer})
function depot.job(name) end

depot.json = {}

---The value of a JSON text; null becomes depot.null.
---@param text string
---@return any
function depot.json.decode(text) end

---Compact JSON with sorted keys.
---@param value any
---@return string
function depot.json.encode(value) end

depot.log = {}

---Writes to the log, at level debug.
---@param message any
---@param fields? table
function depot.log.debug(message, fields) end

---Writes to the log: a human must act.
---@param message any
---@param fields? table
function depot.log.error(message, fields) end

---Writes to the log: a change of state.
---@param message any
---@param fields? table
function depot.log.info(message, fields) end

---Writes to the log: healed itself, or degraded.
---@param message any
---@param fields? table
function depot.log.warn(message, fields) end

---States, at the top of a hook's or schedule's file, what it reaches outside: "http:api.example.org", "exec:/usr/bin/convert"; conf.d must grant it.
---@param capabilities string[]
function depot.needs(capabilities) end

---Seconds since 1970, with microseconds.
---@return number
function depot.now() end

---Waits: "500ms", "10s", or a number of seconds.
---@param duration string|number
function depot.sleep(duration) end

---Calls f; its results, or nil and the error as a table.
---@param f fun(...): ...
---@param ... any
---@return ...
function depot.try(f, ...) end

---A new random UUID.
---@return string
function depot.uuid() end

depot.db = {}

---Runs one statement with $1, $2 … and returns how many rows it changed.
---@param sql string
---@param ... any
---@return integer
function depot.db:exec(sql, ...) end

---The first row as {column = value}, with depot.null for null; nil if there is none.
---@param sql string
---@param ... any
---@return table?
function depot.db:row(sql, ...) end

---All rows.
---@param sql string
---@param ... any
---@return table[]
function depot.db:rows(sql, ...) end

---Runs f in a transaction: committed when f returns, rolled back when it raises.
---@param f fun(tx: table): ...
---@param opts? {read_only?: boolean, serializable?: boolean}
---@return ...
function depot.db:tx(f, opts) end

---The first column of the first row; nil for null or no row.
---@param sql string
---@param ... any
---@return any
function depot.db:value(sql, ...) end

depot.http = {}

---A request with the method GET.
---@param url string
---@param opts? {headers?: table<string, string>, body?: string, json?: any, timeout?: string|number, max_body?: integer, redirects?: integer}
---@return {status: integer, headers: table<string, string>, body: string, json: fun(): any}
function depot.http.get(url, opts) end

---A request with the method POST.
---@param url string
---@param opts? {headers?: table<string, string>, body?: string, json?: any, timeout?: string|number, max_body?: integer, redirects?: integer}
---@return {status: integer, headers: table<string, string>, body: string, json: fun(): any}
function depot.http.post(url, opts) end

---Sends a request and waits for the whole reply; needs the capability http:HOST. A status such as 404 is no error; redirects are followed only as often as redirects says.
---@param spec {url: string, method?: string, headers?: table<string, string>, body?: string, json?: any, timeout?: string|number, max_body?: integer, redirects?: integer}
---@return {status: integer, headers: table<string, string>, body: string, json: fun(): any}
function depot.http.request(spec) end

depot.event = {}

---Emits an event; when it returns, the durable hooks of the event are recorded.
---@param name string
---@param payload? table
function depot.event.emit(name, payload) end

depot.demo = {}

---files found by this process
---@return integer
function depot.demo.found() end

depot.queue = {}

---make a job; opts: {delay = "10s", run_at, priority, max_attempts, key, unique = {key, scope = "queued|active|period|forever", period_ms, on_conflict = "existing|reject"}, after = {ids}, on_dependency_failure = "cancel|run|wait", concurrency_key, timeout_ms, backoff = {base_ms, max_ms, jitter}}; returns its id, or the id of the job that has this key already
---@param queue string
---@param type string
---@param args? any
---@param opts? table
---@return string
function depot.queue.enqueue(queue, type, args, opts) end

---make jobs {{queue, type, args, run_at, priority, max_attempts, key, options = {as in enqueue}}, …} of which it is known when all have ended: then the callback {queue, type, args} becomes a job, once, with {batch = {id, total, succeeded, dlq, canceled}, args}; returns {batch_id, job_ids}
---@param jobs table
---@param callback? table
---@return table
function depot.queue.batch(jobs, callback) end

---make a job, like depot.queue.enqueue, but refused once the lease is lost; inside job:tx or depot.db:tx it is made when the transaction commits
---@param queue string
---@param type string
---@param args? any
---@param opts? table
---@return string
function Job:enqueue(queue, type, args, opts) end

---raise LEASE_LOST when the lease has passed to somebody else; the daemon extends it by itself
---@return boolean
function Job:heartbeat() end

---the same, and keep it from passing on until the end of the open transaction
---@return boolean
function Job:hold() end

---tell how far the job is: a number from 0 to 1, a text, or both
---@param at any
---@param text? string
---@return boolean
function Job:progress(at, text) end

---keep a value for the job's later attempts
---@param name string
---@param value any
---@return boolean
function Job:record(name, value) end

---what this or an earlier attempt has kept, as an array of one value; nil: nothing
---@param name string
---@return any
function Job:recorded(name) end

depot.storage = {}

---store bytes; returns {sha, bytes, stored_bytes, existed}; durable when it returns
---@param data string
---@return table
function depot.storage.put(data) end

---store a file that lies below a folder of [plugin storage] import; returns {sha, bytes, stored_bytes, existed}
---@param path string
---@return table
function depot.storage.put_file(path) end

---content of an object, verified; opts: {max_bytes = n} for its beginning only
---@param sha string
---@param opts? table
---@return string
function depot.storage.get(sha, opts) end

---write the manifest that ties an object to an asset; returns its depot:// pointer
---@param project string
---@param asset string
---@param filename string
---@param sha string
---@return string
function depot.storage.ref(project, asset, filename, sha) end

