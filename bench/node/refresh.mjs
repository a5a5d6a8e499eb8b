// The peer from npm: @atproto/oauth-client-node, as its README sets it up, refreshes each session once.
//
//     node refresh.mjs SESSIONS.jsonl WORKERS DIRECTORY
//
// SESSIONS.jsonl has a record a line. Sessions are kept in memory, which is cheaper than any store.
// When it has finished it prints "finished" and waits until its standard input ends.
import { NodeOAuthClient } from '@atproto/oauth-client-node'
import fs from 'node:fs'

const [path, workers, directory] = process.argv.slice(2)

const inMemory = () => {
  const values = new Map()
  return {
    get: async (key) => values.get(key),
    set: async (key, value) => void values.set(key, value),
    del: async (key) => void values.delete(key),
  }
}

// One refresh of a session at a time, in this process: the library asks for such a lock.
const holders = new Map()
const requestLock = async (name, work) => {
  const before = holders.get(name) ?? Promise.resolve()
  const mine = before.then(work)
  holders.set(name, mine.catch(() => {}))
  return mine
}

const records = fs.readFileSync(path, 'utf8').trim().split('\n').map((line) => JSON.parse(line))
const scope = 'atproto transition:generic'
const redirect = 'http://127.0.0.1/callback'
const sessionStore = inMemory()
const client = new NodeOAuthClient({
  clientMetadata: {
    client_id: records[0].clientId,
    redirect_uris: [redirect],
    scope,
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    dpop_bound_access_tokens: true,
  },
  stateStore: inMemory(),
  sessionStore,
  requestLock,
  allowHttp: true,
  plcDirectoryUrl: directory,
  handleResolver: records[0].issuer,
})

for (const record of records) {
  await sessionStore.set(record.did, {
    dpopJwk: JSON.parse(record.dpopPrivateKeyJwk),
    authMethod: { method: 'none' },
    tokenSet: {
      iss: record.issuer,
      sub: record.did,
      aud: record.pdsUrl,
      scope: record.scope,
      access_token: record.accessJwt,
      refresh_token: record.refreshJwt,
      token_type: 'DPoP',
      expires_at: record.expiresAt,
    },
  })
}

let next = 0
const work = async () => {
  while (next < records.length) await client.restore(records[next++].did, true)
}
await Promise.all(Array.from({ length: Number(workers) }, work))
console.log('finished')
process.stdin.resume().on('end', () => process.exit(0))
