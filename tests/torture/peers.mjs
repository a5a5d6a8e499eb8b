// A program on Node that calls the PDS without pause, by an OAuth client library, while a daemon rotates its session:
//
//     node peers.mjs LIBRARY KIND FOLDER DID DIRECTORY
//
// LIBRARY: atproto (@atproto/oauth-client-node) or atcute (@atcute/oauth-node-client), set up as its manual says.
// KIND: view (the clients' view, as examples/node/session_store.mjs maps it) or raw (the store, with the refresh token,
// written back; without the expiry, for which the library would refresh all the time). It ends when its standard input does, or after a failed call, and prints a line of JSON.
import { LocalActorResolver } from '@atcute/identity-resolver'
import { MemoryStore, OAuthClient } from '@atcute/oauth-node-client'
import { NodeOAuthClient } from '@atproto/oauth-client-node'
import { rename, writeFile } from 'node:fs/promises'
import { fileName, readRecord } from './session_fetch.mjs'
import { sessionStore, untilNewer } from './session_store.mjs'

const [library, kind, folder, did, directory] = process.argv.slice(2)
const keyName = library === 'atproto' ? 'dpopJwk' : 'dpopKey'
const { clientId, issuer } = await readRecord(folder, did)

function rawStore() {
  const view = sessionStore(folder, keyName)
  return {
    ...view,
    async get(did) {
      const stored = await view.get(did)
      const { refreshJwt } = await readRecord(folder, did)
      const key = { ...stored[keyName], alg: 'ES256' } // which the view adds
      return { ...stored, [keyName]: key, tokenSet: { ...stored.tokenSet, refresh_token: refreshJwt } }
    },
    async set(did, { tokenSet }) {
      const { key, ...record } = await readRecord(folder, did)
      Object.assign(record, { accessJwt: tokenSet.access_token, refreshJwt: tokenSet.refresh_token, expiresAt: tokenSet.expires_at })
      const path = `${folder}/${fileName(did)}`
      await writeFile(`${path}.new`, JSON.stringify(record), { mode: 0o600 })
      await rename(`${path}.new`, path)
    },
  }
}

const sessions = kind === 'view' ? sessionStore(folder, keyName) : rawStore()
const metadata = { redirect_uris: ['http://127.0.0.1/callback'], scope: 'atproto transition:generic' }
const client =
  library === 'atproto'
    ? new NodeOAuthClient({
        clientMetadata: {
          ...metadata,
          client_id: clientId,
          grant_types: ['authorization_code', 'refresh_token'],
          response_types: ['code'],
          application_type: 'native',
          token_endpoint_auth_method: 'none',
          dpop_bound_access_tokens: true,
        },
        stateStore: { get: async () => undefined, set: async () => {}, del: async () => {} },
        requestLock: async (_name, work) => work(), // one call at a time
        sessionStore: sessions,
        allowHttp: true,
        plcDirectoryUrl: directory,
        handleResolver: issuer,
      })
    : new OAuthClient({
        metadata, // of a client on loopback: it makes the client_id of it
        stores: { sessions, states: new MemoryStore() },
        actorResolver: new LocalActorResolver({}),
      })
// The server is on loopback; only the parts of this library know of such.
if (library === 'atcute') client.resolver.authorizationServerResolver.allowHttp = true

let calls = 0, failed = null, isOver = false
process.stdin.resume().on('end', () => (isOver = true))
while (!isOver && failed === null) {
  try {
    const answer = await untilNewer(folder, did, async () => {
      const session = await client.restore(did)
      return (session.fetchHandler ?? session.handle).call(session, '/xrpc/com.atproto.server.getSession', {})
    })
    if (answer.ok) calls += 1
    else failed = `${answer.status} ${await answer.text()}`
  } catch (error) {
    failed = String(error?.cause ?? error)
  }
}
console.log(JSON.stringify({ library, kind, calls, failed }))
process.exit(0)
