// The Agent of @atproto/api on a session that idiolectd keeps alive:
//
//     npm install @atproto/api
//     echo com.atproto.server.getSession | node atproto_agent.mjs /run/idiolectd/clients DID
//
// calls the method of each line of standard input, and prints what it answers.
import { Agent } from '@atproto/api'
import { createInterface } from 'node:readline'
import { sessionFetch } from './session_fetch.mjs'

const [view, did] = process.argv.slice(2)
const agent = new Agent({ did, fetchHandler: sessionFetch(view, did) })

for await (const method of createInterface({ input: process.stdin })) {
  const { data } = await agent.call(method)
  console.log(JSON.stringify(data))
}
