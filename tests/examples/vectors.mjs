// Compares the Node reader with the vectors of the format: node vectors.mjs VECTORS
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { fileName, parseRecord, tokenHash } from './session_fetch.mjs'

const vectors = JSON.parse(await readFile(process.argv[2], 'utf8'))
for (const { did, fileName: name } of vectors.dids) assert.equal(fileName(did), name)
for (const [token, hash] of Object.entries(vectors.tokenHashes)) assert.equal(tokenHash(token), hash)
for (const { record, read } of vectors.records) {
  const { pdsUrl, accessJwt } = parseRecord(record, read.did)
  assert.deepEqual({ pdsUrl, accessJwt }, { pdsUrl: read.pdsUrl, accessJwt: read.accessJwt })
}
for (const { what, record, inView } of vectors.noRecords)
  if (!inView) assert.throws(() => parseRecord(record, vectors.dids[0].did), what)
