// The client of atcute on a session that idiolectd keeps alive:
//
//     npm install @atcute/client
//     echo com.atproto.server.getSession | node atcute_client.mjs /run/idiolectd/clients DID
//
// calls the method of each line of standard input, and prints what it answers.
import { Client, ok } from '@atcute/client'
import { createInterface } from 'node:readline'
import { sessionFetch } from './session_fetch.mjs'

const [view, did] = process.argv.slice(2)
const rpc = new Client({ handler: sessionFetch(view, did) })

for await (const method of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await ok(rpc.get(method, {}))))
}
