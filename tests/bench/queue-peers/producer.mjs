// producer.mjs - the producer of the latency figures of depotd: the same client library, clock and pace as for the peers.
//   producer.mjs QUEUE TYPE N GAP        PEER_URL: the database, or an http:// address for POST with BENCH_TOKEN; prints the ids
import { Agent, request } from 'node:http'
import pg from 'pg'
import { answer, steadily, wallUs } from './common.mjs'

const [, , queue, type, n, gap] = process.argv
const url = process.env.PEER_URL

function bySql() {
  const pool = new pg.Pool({ connectionString: url, max: 10 })
  return async () => {
    const { rows } = await pool.query('select depot.enqueue($1, $2, $3) as id', [queue, type, JSON.stringify({ at: wallUs() })])
    return rows[0].id
  }
}

function byPost() {
  const agent = new Agent({ keepAlive: true, maxSockets: 10 })
  const headers = { 'content-type': 'application/json', authorization: 'Bearer ' + process.env.BENCH_TOKEN }
  return () => new Promise((resolve, reject) => {
    const body = JSON.stringify({ queue, job_type: type, payload_json: { at: wallUs() } })
    const sent = request(url, { method: 'POST', agent, headers: { ...headers, 'content-length': Buffer.byteLength(body) } }, reply => {
      const parts = []
      reply.on('data', part => parts.push(part))
      reply.on('end', () => reply.statusCode === 200 ? resolve(JSON.parse(Buffer.concat(parts)).job_id)
        : reject(new Error(`POST: ${reply.statusCode} ${Buffer.concat(parts)}`)))
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

answer({ ids: await steadily(Number(n), Number(gap), url.startsWith('http') ? byPost() : bySql()) })
