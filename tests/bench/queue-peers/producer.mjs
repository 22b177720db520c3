// producer.mjs - the producer of the latency figures of depotd: the same client library, clock and pace as for the peers.
//   producer.mjs QUEUE TYPE N GAP        PEER_URL: the database; prints the ids
import pg from 'pg'
import { answer, steadily, wallUs } from './common.mjs'

const [, , queue, type, n, gap] = process.argv
const pool = new pg.Pool({ connectionString: process.env.PEER_URL, max: 10 })
const ids = await steadily(Number(n), Number(gap), async () => {
  const { rows } = await pool.query('select depot.enqueue($1, $2, $3) as id', [queue, type, JSON.stringify({ at: wallUs() })])
  return rows[0].id
})
answer({ ids })
