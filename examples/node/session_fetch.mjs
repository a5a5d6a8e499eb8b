// A fetch for sessions that idiolectd keeps alive (docs/store-format.md). It reads the clients' view for every request
// and refreshes nothing. Bodies are sent again: a text, bytes or a Blob, no stream.
import { createHash, createPrivateKey, randomUUID, sign } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

const PATIENCE = 10_000, PAUSE = 20 // milliseconds: how long a rotation may take, and between two looks

export const tokenHash = (token) => createHash('sha256').update(token).digest('base64url')

export function fileName(did) {
  const [scheme, method, ...rest] = did.split(':')
  return `${scheme}_${method}_${rest.join(':').replaceAll('_', '~5F').replaceAll(':', '~3A')}.json`
}

export function parseRecord(text, did) {
  const { pds_url, ...record } = { ...JSON.parse(text) }
  record.pdsUrl ??= pds_url // idiolect's command line spells it so
  for (const field of ['accessJwt', 'pdsUrl'])
    if (!record[field] || typeof record[field] !== 'string') throw new Error(`no ${field} in the record of ${did}`)
  if (record.did !== did) throw new Error(`the record of ${did} is that of ${record.did}`)
  return { ...record, key: JSON.parse(record.dpopPrivateKeyJwk || 'null') }
}

export const readRecord = async (view, did) => parseRecord(await readFile(`${view}/${fileName(did)}`, 'utf8'), did)

function authorization({ accessJwt, key }, method, url, nonce) {
  if (!key) return { authorization: `Bearer ${accessJwt}` }
  const { kty, crv, x, y } = key
  const header = { typ: 'dpop+jwt', alg: 'ES256', jwk: { kty, crv, x, y } }
  const iat = Math.floor(Date.now() / 1000)
  const claims = { jti: randomUUID(), htm: method, htu: url.origin + url.pathname, iat, nonce, ath: tokenHash(accessJwt) }
  const signed = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  const privateKey = createPrivateKey({ key, format: 'jwk' })
  const signature = sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' })
  return { authorization: `DPoP ${accessJwt}`, dpop: `${signed}.${signature.toString('base64url')}` }
}

export function sessionFetch(view, did) {
  let nonce
  const send = async (record, path, init) => {
    const url = new URL(path, record.pdsUrl)
    if (url.origin !== new URL(record.pdsUrl).origin) throw new Error(`the token of ${did} is not for ${url.origin}`)
    for (let mayRepeat = true; ; mayRepeat = false) {
      const headers = new Headers(init.headers)
      const added = authorization(record, init.method?.toUpperCase() ?? 'GET', url, nonce)
      for (const [name, value] of Object.entries(added)) headers.set(name, value)
      const answer = await fetch(url, { ...init, headers, redirect: 'manual' })
      nonce = answer.headers.get('dpop-nonce') ?? nonce
      const error = [400, 401].includes(answer.status) && (await answer.clone().json().catch(() => ({}))).error
      if (error === 'use_dpop_nonce' && mayRepeat) continue
      return { answer, isRefused: answer.status === 401 || error === 'ExpiredToken' }
    }
  }
  return async (path, init = {}) => {
    let record = await readRecord(view, did)
    const { answer, isRefused } = await send(record, path, init)
    if (!isRefused) return answer
    const refused = record.accessJwt
    for (const end = Date.now() + PATIENCE; Date.now() < end; await sleep(PAUSE)) {
      record = await readRecord(view, did)
      if (record.accessJwt !== refused) return (await send(record, path, init)).answer
      if (['relogin_required', 'suspended'].includes(record.state)) throw new Error(`${did}: ${record.state}, ${record.cause}`)
    }
    await writeFile(`${view}/refused/${did}~${tokenHash(refused)}`, '').catch(() => {}) // the daemon looks at it at once
    return answer
  }
}
