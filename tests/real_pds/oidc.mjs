// Starts an authorization server that ATProto did not write: oidc-provider, with rotating refresh
// tokens and DPoP nonces, on 127.0.0.1. Beside it the least of a PDS that takes its tokens (protected
// resource metadata, getSession) and of a PLC directory. Prints one line of JSON:
//   {issuer, pds, plc, pid}
// It stops on SIGTERM, or when standard input closes.
//
// What it does NOT do: log anybody in. `POST {pds}/test/session {did, clientId, jkt}` makes a session
// bound to a DPoP key, as an exchanged code would, and answers with its tokens; `POST {pds}/test/revoke
// {refreshToken}` ends it.
//
// Environment:
//   ACCESS_LIFE   seconds that an access token lives (20)
//   ROTATE        0 = a refresh keeps its refresh token, which this server allows
import crypto from 'node:crypto'
import http from 'node:http'
import Provider from 'oidc-provider'

const accessLife = Number(process.env.ACCESS_LIFE ?? 20)
const dids = new Set()
const clients = new Map() // by client_id: whoever makes a session names its client

const listening = (server) =>
  new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)))
const body = async (request) => {
  let text = ''
  for await (const part of request) text += part
  return text ? JSON.parse(text) : {}
}
const json = (response, status, value, headers = {}) => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(value))
}

// The port must be known before the provider is made: its issuer names it.
const authorizationServer = http.createServer()
const issuer = `http://localhost:${await listening(authorizationServer)}`

const provider = new Provider(issuer, {
  findAccount: (_, id) => (dids.has(id) ? { accountId: id, claims: () => ({ sub: id }) } : undefined),
  scopes: ['atproto', 'offline_access'],
  features: {
    devInteractions: { enabled: false },
    dPoP: { enabled: true, nonceSecret: crypto.randomBytes(32), requireNonce: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
  },
  ttl: { AccessToken: accessLife, RefreshToken: 14 * 86400, Grant: 14 * 86400 },
  rotateRefreshToken: process.env.ROTATE !== '0',
  cookies: { keys: [crypto.randomBytes(16).toString('hex')] },
  enabledJWA: { idTokenSigningAlgValues: ['ES256'], dPoPSigningAlgValues: ['ES256'] },
  jwks: { keys: [crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' })] },
})
provider.Client.find = async (id) => clients.get(id)
authorizationServer.on('request', provider.callback())

async function makeSession({ did, clientId, jkt }) {
  dids.add(did)
  const client = new provider.Client({
    client_id: clientId,
    token_endpoint_auth_method: 'none',
    id_token_signed_response_alg: 'ES256',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['http://127.0.0.1/callback'],
    response_types: ['code'],
    application_type: 'native',
    scope: 'atproto offline_access',
    dpop_bound_access_tokens: true,
  })
  clients.set(clientId, client)
  const grant = new provider.Grant({ accountId: did, clientId })
  grant.addOIDCScope('atproto offline_access')
  const grantId = await grant.save()
  const common = { accountId: did, client, grantId, gty: 'authorization_code', scope: 'atproto offline_access', jkt }
  const refreshToken = await new provider.RefreshToken(common).save()
  const accessToken = await new provider.AccessToken(common).save()
  return { accessToken, refreshToken, expiresIn: accessLife }
}

const challenge = (error) => ({ 'www-authenticate': `DPoP error="${error}"` })
const resourceServer = http.createServer(async (request, response) => {
  const { pathname } = new URL(request.url, pds)
  if (pathname === '/.well-known/oauth-protected-resource')
    return json(response, 200, { resource: pds, authorization_servers: [issuer] })
  if (pathname === '/test/session') return json(response, 200, await makeSession(await body(request)))
  if (pathname === '/test/revoke') {
    const token = await provider.RefreshToken.find((await body(request)).refreshToken)
    await token?.destroy()
    return json(response, 200, {})
  }
  if (pathname === '/xrpc/com.atproto.server.getSession') {
    const [scheme, value] = (request.headers.authorization ?? '').split(' ')
    const token = scheme === 'DPoP' && (await provider.AccessToken.find(value))
    if (!token) return json(response, 401, { error: 'invalid_token' }, challenge('invalid_token'))
    return json(response, 200, { did: token.accountId, handle: 'handle.invalid' })
  }
  json(response, 404, { error: 'MethodNotImplemented' })
})
const pds = `http://localhost:${await listening(resourceServer)}`

const directory = http.createServer((request, response) => {
  const did = decodeURIComponent(request.url.slice(1))
  if (!dids.has(did)) return json(response, 404, {})
  const service = { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: pds }
  json(response, 200, { id: did, alsoKnownAs: [], service: [service] })
})
const plc = `http://localhost:${await listening(directory)}`

const stop = () => process.exit(0)
process.on('SIGTERM', stop)
process.stdin.on('end', stop)
process.stdin.resume()
console.log(JSON.stringify({ issuer, pds, plc, pid: process.pid }))
