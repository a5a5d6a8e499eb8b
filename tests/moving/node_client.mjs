// A Node program whose session store is one JSON file: restores each session with a refresh, which saves it again.
//
//     node node_client.mjs SESSIONS.json CLIENT_ID DIRECTORY
import { NodeOAuthClient } from '@atproto/oauth-client-node'
import fs from 'node:fs'

const [path, clientId, directory] = process.argv.slice(2)
const read = () => JSON.parse(fs.readFileSync(path, 'utf8'))
const write = (sessions) => fs.writeFileSync(path, JSON.stringify(sessions))
const states = new Map()

const client = new NodeOAuthClient({
  clientMetadata: {
    client_id: clientId,
    redirect_uris: ['http://127.0.0.1/callback'],
    scope: 'atproto transition:generic',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    dpop_bound_access_tokens: true,
  },
  stateStore: {
    get: async (key) => states.get(key),
    set: async (key, value) => void states.set(key, value),
    del: async (key) => void states.delete(key),
  },
  sessionStore: {
    get: async (did) => read()[did],
    set: async (did, session) => write({ ...read(), [did]: session }),
    del: async (did) => write({ ...read(), [did]: undefined }),
  },
  requestLock: async (_name, work) => work(),
  allowHttp: true,
  plcDirectoryUrl: directory,
  handleResolver: directory,
})

for (const did of Object.keys(read())) await client.restore(did, true)
console.log('restored')
