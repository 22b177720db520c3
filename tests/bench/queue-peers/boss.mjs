// boss.mjs - pg-boss: two loops that fetch and complete a thousand jobs at a time; with notifications where a start is waited for.
//   boss.mjs schema | fill N | work LIMIT | latency N GAP | http        PEER_URL: the database
import { PgBoss } from 'pg-boss'
import { answer, filled, seconds, serveHttp, steadily, sleep, wallUs } from './common.mjs'

const [, , mode, ...words] = process.argv
const QUEUE = 'bench', BATCH = 1000, LOOPS = 2
const boss = new PgBoss({ connectionString: process.env.PEER_URL, supervise: false, schedule: false, max: 25, useListenNotify: mode === 'latency' })
boss.on('error', error => { throw error })
await boss.start()

const loops = body => Promise.all(Array.from({ length: LOOPS }, body))

async function fill(n) {
  let made = 0
  await loops(async () => {
    while (made < n) {
      const from = made, some = Math.min(BATCH, n - made)
      made += some
      await boss.insert(QUEUE, Array.from({ length: some }, (_, i) => ({ data: { id: from + i } })))
    }
  })
  answer({ n: made })
}

async function work(limit) {
  const first = seconds()
  let done = 0
  await loops(async () => {
    while (done < limit) {
      const jobs = await boss.fetch(QUEUE, { batchSize: BATCH })
      if (jobs.length === 0) break
      await boss.complete(QUEUE, jobs.map(job => job.id))
      done += jobs.length
    }
  })
  answer({ n: done, seconds: seconds() - first })
}

async function latency(n, gap) {
  const delays = []
  await boss.work(QUEUE, { batchSize: 100, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 }, async jobs => {
    const now = wallUs()
    for (const job of jobs) delays.push(now - job.data.at)
  })
  await sleep(2000)
  await steadily(n, gap, () => boss.send(QUEUE, { at: wallUs() }))
  answer({ delays: await filled(delays, n) })
}

if (mode === 'schema') {
  await boss.createQueue(QUEUE, { notify: words[0] === 'notify' })
  answer({})
} else if (mode === 'fill') {
  await fill(Number(words[0]))
} else if (mode === 'work') {
  await work(Number(words[0]))
} else if (mode === 'latency') {
  await latency(Number(words[0]), Number(words[1]))
} else {
  await serveHttp(payload => boss.send(QUEUE, payload))
}
