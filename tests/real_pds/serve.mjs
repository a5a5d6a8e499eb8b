// Starts a real ATProto PDS (with its own OAuth authorization server) and a PLC
// directory on 127.0.0.1, creates accounts, and prints one line of JSON:
//   {pds, port, plc, plcPort, pid, version, adminPassword, accounts: [{did, handle, password, email}]}
// It stops on SIGTERM, on SIGINT, or when standard input closes (STDIN_GUARD=1).
//
// The data folder holds everything that must survive a restart: accounts, sessions,
// and the PLC operations. A second start on the same folder and ports finds them again.
//
// What it does NOT do: talk to any host but this one. A fetch of another host's URL
// fails like a name that doesn't resolve, unless CLIENT_DOCS has the answer.
//
// Environment:
//   DATA_DIR                 the data folder (required)
//   ACCOUNTS                 how many accounts to have (1)
//   PORT, PLC_PORT           0 = any free port
//   PUBLIC_PORT              the port in the PDS's own URL, for a proxy in front of it (PORT)
//   OAUTH_TOKEN_MAX_AGE_MS   life of an OAuth access token (the server's own: 3600000)
//   DPOP_ROTATION_MS         how often the DPoP nonce changes (60000; 1000 to 60000)
//   SESSION_LIFETIME_MS      total life of an OAuth session (the server's own: by kind of client)
//   REFRESH_LIFETIME_MS      how long an OAuth session may be idle (likewise)
//   LEGACY_ACCESS_EXP        life of an accessJwt of createSession, such as "20s" (120mins)
//   LEGACY_REFRESH_EXP       the same for its refreshJwt (90days)
//   RATE_LIMITS              1 = on
//   CLIENT_DOCS              a JSON file {url: client metadata}, read anew at each fetch
//   LOG_FILE                 the PDS's own log, as JSON lines
//   PDS_PACKAGE              which release runs: its package's name (@atproto/pds: the newest)
import crypto from 'node:crypto'
import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import net from 'node:net'
import path from 'node:path'

const env = process.env
const data = env.DATA_DIR
if (!data) throw new Error('DATA_DIR is not set')
fs.mkdirSync(data, { recursive: true })
const inData = (name) => path.join(data, name)

// Read by the PDS's logger when it is imported.
env.LOG_ENABLED = env.LOG_FILE ? 'true' : 'false'
if (env.LOG_FILE) env.LOG_DESTINATION = env.LOG_FILE

// Both servers listen(port) on every interface. Pin them to loopback.
const listen = net.Server.prototype.listen
http.Server.prototype.listen = function (port, ...rest) {
  return typeof port === 'number' && typeof rest[0] !== 'string'
    ? listen.call(this, port, '127.0.0.1', ...rest.filter((x) => typeof x === 'function'))
    : listen.call(this, port, ...rest)
}

// Keep the server's own requests on this host, too; answer for the https client_ids.
const realFetch = globalThis.fetch
globalThis.fetch = async function (input, init) {
  const url = input instanceof Request ? input.url : String(input)
  if (env.CLIENT_DOCS && fs.existsSync(env.CLIENT_DOCS)) {
    const docs = JSON.parse(fs.readFileSync(env.CLIENT_DOCS, 'utf8'))
    if (Object.hasOwn(docs, url)) return Response.json(docs[url])
  }
  const { hostname } = new URL(url)
  if (hostname !== 'localhost' && hostname !== '127.0.0.1') {
    const cause = Object.assign(new Error(`getaddrinfo ENOTFOUND ${hostname}`), { code: 'ENOTFOUND' })
    throw new TypeError('fetch failed', { cause })
  }
  return realFetch.call(this, input, init)
}

const freePort = () =>
  new Promise((resolve, reject) => {
    const probe = net.createServer().once('error', reject)
    listen.call(probe, 0, '127.0.0.1', () => {
      const { port } = probe.address()
      probe.close(() => resolve(port))
    })
  })

const plcServer = await import('@did-plc/server')
const { Database, PlcServer } = plcServer.default?.Database ? plcServer.default : plcServer
const { PDS, envToCfg, envToSecrets } = await import(env.PDS_PACKAGE ?? '@atproto/pds')

// The lives of legacy tokens are constants in the PDS. Older releases load the library as CommonJS.
for (const { SignJWT } of [await import('jose'), createRequire(import.meta.url)('jose')]) {
  const setExpirationTime = SignJWT.prototype.setExpirationTime
  SignJWT.prototype.setExpirationTime = function (value) {
    const own = { '120mins': env.LEGACY_ACCESS_EXP, '90days': env.LEGACY_REFRESH_EXP }
    return setExpirationTime.call(this, own[value] || value)
  }
}

// The PLC directory keeps its operations in memory only: note them, and replay them.
const plcOps = inData('plc-ops.jsonl')
const plcDb = Database.mock()
if (fs.existsSync(plcOps)) {
  for (const line of fs.readFileSync(plcOps, 'utf8').split('\n').filter(Boolean)) {
    const { did, operation } = JSON.parse(line)
    await plcDb.validateAndAddOp(did, operation)
  }
}
const addOp = plcDb.validateAndAddOp.bind(plcDb)
plcDb.validateAndAddOp = async (did, operation) => {
  await addOp(did, operation)
  fs.appendFileSync(plcOps, JSON.stringify({ did, operation }) + '\n')
}
const plcPort = Number(env.PLC_PORT) || (await freePort())
const plc = PlcServer.create({ db: plcDb, port: plcPort })
await plc.start()

const port = Number(env.PORT) || (await freePort())
const publicPort = Number(env.PUBLIC_PORT) || port
const url = `http://localhost:${publicPort}`
const keyFile = inData('plc-key.hex')
if (!fs.existsSync(keyFile)) fs.writeFileSync(keyFile, crypto.randomBytes(32).toString('hex'))
const adminPassword = 'admin-pass'
const cfg = envToCfg({
  port: publicPort,
  hostname: 'localhost',
  devMode: true,
  dataDirectory: data,
  blobstoreDiskLocation: inData('blobs'),
  didPlcUrl: `http://localhost:${plcPort}`,
  serviceHandleDomains: ['.test'],
  inviteRequired: false,
  disableSsrfProtection: true,
  rateLimitsEnabled: env.RATE_LIMITS === '1',
  enableDidDocWithSession: true,
  bskyAppViewUrl: 'http://appview.invalid',
  bskyAppViewDid: 'did:example:invalid',
})
cfg.service.port = port // where it listens; everything it says of itself names the public one
const secrets = envToSecrets({
  jwtSecret: 'test-jwt-secret',
  adminPassword,
  plcRotationKeyK256PrivateKeyHex: fs.readFileSync(keyFile, 'utf8'),
})
const pds = await PDS.create(cfg, secrets)

const oauth = pds.ctx.oauthProvider
if (env.OAUTH_TOKEN_MAX_AGE_MS) oauth.tokenManager.tokenMaxAge = Number(env.OAUTH_TOKEN_MAX_AGE_MS)
if (env.DPOP_ROTATION_MS) {
  const DpopNonce = oauth.dpopManager.dpopNonce.constructor
  oauth.dpopManager.dpopNonce = new DpopNonce(undefined, Number(env.DPOP_ROTATION_MS))
}
const getClient = oauth.clientManager.getClient.bind(oauth.clientManager)
oauth.clientManager.getClient = async (id) => {
  const client = await getClient(id)
  const own = { sessionLifetime: env.SESSION_LIFETIME_MS, refreshLifetime: env.REFRESH_LIFETIME_MS }
  for (const [name, value] of Object.entries(own)) {
    if (value) Object.defineProperty(client, name, { value: Number(value) })
  }
  return client
}
await pds.start()

const accountsFile = inData('accounts.json')
const accounts = fs.existsSync(accountsFile) ? JSON.parse(fs.readFileSync(accountsFile, 'utf8')) : []
for (let i = accounts.length; i < Number(env.ACCOUNTS ?? 1); i++) {
  const account = { handle: `user${i}.test`, email: `user${i}@example.com`, password: `password-${i}-xyz` }
  const response = await realFetch(`http://localhost:${port}/xrpc/com.atproto.server.createAccount`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(account),
  })
  const body = await response.json()
  if (!response.ok) throw new Error(`createAccount ${response.status} ${JSON.stringify(body)}`)
  accounts.push({ ...account, did: body.did })
  fs.writeFileSync(accountsFile, JSON.stringify(accounts))
}

let stopping = false
const stop = async () => {
  if (stopping) return
  stopping = true
  setTimeout(() => process.exit(1), 5000).unref() // a connection that won't close
  await pds.destroy()
  await plc.destroy()
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
if (env.STDIN_GUARD === '1') {
  process.stdin.on('end', stop)
  process.stdin.resume()
}

const { version } = cfg.service
console.log(
  JSON.stringify({ pds: url, port, plc: `http://localhost:${plcPort}`, plcPort, pid: process.pid, version, adminPassword, accounts }),
)
