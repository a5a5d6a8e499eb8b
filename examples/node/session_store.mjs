// The session store of NodeOAuthClient (@atproto/oauth-client-node) on the clients' view:
//
//     const client = new NodeOAuthClient({ ..., sessionStore: sessionStore('/run/idiolectd/clients') })
//     const session = await client.restore(did)
//
// and that of OAuthClient (@atcute/oauth-node-client): stores: { sessions: sessionStore(view, 'dpopKey'), ... }.
//
// Neither finds a refresh token or an expiry here, so neither refreshes. What they answer to a refused token is the
// refusal: call again when the record has another token (`untilNewer`).
import { setTimeout as sleep } from 'node:timers/promises'
import { readRecord } from './session_fetch.mjs'

export const sessionStore = (view, keyName = 'dpopJwk') => ({
  async get(did) {
    const record = await readRecord(view, did)
    const { issuer, pdsUrl, scope, accessJwt } = record
    const tokenSet = { iss: issuer, sub: did, aud: pdsUrl, scope, access_token: accessJwt, token_type: 'DPoP' }
    return { [keyName]: record.key, authMethod: { method: 'none' }, tokenSet }
  },
  async set() {},
  async delete() {},
  async del() {},
})

// Sends a request; if its token is refused, once more when the view has a newer one, ten seconds long at most.
export async function untilNewer(view, did, send) {
  const before = (await readRecord(view, did)).accessJwt
  const answer = await send()
  for (const end = Date.now() + 10_000; answer.status === 401 && Date.now() < end; await sleep(20))
    if ((await readRecord(view, did)).accessJwt !== before) return send()
  return answer
}
