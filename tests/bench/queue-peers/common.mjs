// common.mjs - what the drivers of the peers share: the clock, answers as one JSON line, a worker process that counts for its parent.

/** Microseconds since 1970 as CLOCK_REALTIME says, finer than Date: the monotonic clock, set by a tick of the other. */
const anchor = (() => {
  const began = Date.now()
  let tick = began
  while (tick === began) tick = Date.now()
  return BigInt(tick) * 1000n - process.hrtime.bigint() / 1000n
})()
export const wallUs = () => Number(anchor + process.hrtime.bigint() / 1000n)

export const seconds = () => Number(process.hrtime.bigint()) / 1e9
export const sleep = ms => new Promise(done => setTimeout(done, ms))

export function answer(value) {
  process.stdout.write(JSON.stringify(value) + '\n', () => process.exit(0))
}

/** So many jobs come before those that count: connections are opened and plans made by then. */
export const WARM = 50

/** Calls send() for WARM + n jobs, one every `gap` ms whatever became of the others; what the last n gave. */
export async function steadily(n, gap, send) {
  const began = seconds(), sent = []
  for (let i = 0; i < WARM + n; i++) {
    const wait = began + i * gap / 1e3 - seconds()
    if (wait > 0) await sleep(wait * 1e3)
    sent.push(send())
  }
  return (await Promise.all(sent)).slice(WARM)
}

/** Waits until the list has WARM + n entries; the last n. Gives up after half a minute, as a job that never starts is a fault. */
export async function filled(list, n) {
  const until = seconds() + 30
  while (list.length < WARM + n) {
    if (seconds() > until) throw new Error(`only ${list.length} of ${WARM + n} jobs have started`)
    await sleep(5)
  }
  return list.slice(WARM)
}

/** A server that makes one job of each POST and answers when it is durable: what a producer's service around the peer is. */
export async function serveHttp(enqueue) {
  const { createServer } = await import('node:http')
  const token = 'Bearer ' + process.env.BENCH_TOKEN
  const server = createServer((request, response) => {
    const parts = []
    request.on('data', part => parts.push(part))
    request.on('end', async () => {
      try {
        if (request.headers.authorization !== token) throw new Error('no token')
        const body = JSON.parse(Buffer.concat(parts))
        const text = JSON.stringify({ job_id: await enqueue(body.payload_json) })
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }).end(text)
      } catch (error) {
        response.writeHead(500).end(String(error))
      }
    })
  })
  server.listen(0, '127.0.0.1', () => process.stdout.write(JSON.stringify({ port: server.address().port }) + '\n'))
}
