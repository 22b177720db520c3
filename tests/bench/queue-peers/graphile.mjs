// graphile.mjs - graphile-worker as its manual sets it up for throughput (GW_MODE=batch) or by default (GW_MODE=default).
//   graphile.mjs schema | work LIMIT PROCESSES | latency N GAP | http        PEER_URL: the database
import { fork } from 'node:child_process'
import { Logger, makeWorkerUtils, run, runMigrations } from 'graphile-worker'
import pg from 'pg'
import { answer, filled, seconds, serveHttp, steadily, sleep, wallUs } from './common.mjs'

const [, self, mode, ...words] = process.argv
const connectionString = process.env.PEER_URL
const logger = new Logger(() => () => {})
const tuned = process.env.GW_MODE === 'batch'
  ? { localQueue: { size: 500, refetchDelay: { durationMs: 10 } }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
  : {}
const options = taskList => ({
  logger, taskList, noHandleSignals: true,
  preset: { worker: { connectionString, concurrentJobs: 24, maxPoolSize: 25, pollInterval: 200, ...tuned } },
})

/** One process that works until its parent ends it, and says how far it is. */
async function worker() {
  let done = 0, told = 0
  await run(options({ noop() { done++ } }))
  setInterval(() => {
    if (done > told) process.send(done - told)
    told = done
  }, 2)
}

/** From the first job to the LIMITth; when there are no more than that, until they are completed, which comes after they have run. */
async function work(limit, processes) {
  const client = new pg.Client({ connectionString })
  await client.connect()
  const left = async () => Number((await client.query('select count(*) as n from graphile_worker._private_jobs')).rows[0].n)
  const isAll = await left() <= limit
  const children = []
  let done = 0, first = 0
  await new Promise(enough => {
    for (let i = 0; i < processes; i++) {
      const child = fork(self, ['worker'], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
      child.on('message', n => {
        first ||= seconds()
        done += n
        if (done >= limit) enough()
      })
      children.push(child)
    }
  })
  while (isAll && await left() > 0) await sleep(5)
  const end = seconds()
  for (const child of children) child.kill('SIGKILL')
  answer({ n: done, seconds: end - first })
}

async function latency(n, gap) {
  const delays = []
  await run(options({ start(payload) { delays.push(wallUs() - payload.at) } }))
  const utils = await makeWorkerUtils({ connectionString, logger })
  await sleep(1500)
  await steadily(n, gap, () => utils.addJob('start', { at: wallUs() }))
  answer({ delays: await filled(delays, n) })
}

if (mode === 'schema') {
  await runMigrations({ connectionString, logger })
  answer({})
} else if (mode === 'worker') {
  await worker()
} else if (mode === 'work') {
  await work(Number(words[0]), Number(words[1]))
} else if (mode === 'latency') {
  await latency(Number(words[0]), Number(words[1]))
} else {
  const utils = await makeWorkerUtils({ connectionString, logger, maxPoolSize: 25 })
  await serveHttp(async payload => (await utils.addJob('unserved', payload)).id)
}
