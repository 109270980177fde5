// minio-js's usual round.

import assert from 'node:assert'
import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import * as Minio from 'minio'

const endpoint = new URL(process.env.ENDPOINT)
const client = new Minio.Client({
  endPoint: endpoint.hostname,
  port: Number(endpoint.port),
  useSSL: endpoint.protocol === 'https:',
  accessKey: process.env.AWS_ACCESS_KEY_ID,
  secretKey: process.env.AWS_SECRET_ACCESS_KEY,
})
const bucket = 'minio-js-round'
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const read = async (stream) => {
  const pieces = []
  for await (const piece of stream) pieces.push(piece)
  return Buffer.concat(pieces)
}

await client.makeBucket(bucket)
assert(await client.bucketExists(bucket))
assert(!(await client.bucketExists('not-there')))

const names = ['plain.txt', 'ü/日本 +.txt', "quote'and&.txt", 'percent%41']
for (const name of names) await client.putObject(bucket, name, name, undefined, { color: 'grey' })
const big = randomBytes(17_000_001)
await client.putObject(bucket, 'big', big)
await client.putObject(bucket, 'stream', Readable.from([big]))
assert.equal(sha256(await read(await client.getObject(bucket, 'big'))), sha256(big))
assert.equal(sha256(await read(await client.getObject(bucket, 'stream'))), sha256(big))
assert.deepEqual(await read(await client.getPartialObject(bucket, 'big', 10, 5)), big.subarray(10, 15))
const stat = await client.statObject(bucket, 'plain.txt')
assert.equal(stat.metaData.color, 'grey')

const list = async (...words) => {
  const found = []
  for await (const item of client.listObjectsV2(bucket, ...words)) found.push(item.name ?? item.prefix)
  return found.sort()
}
assert.deepEqual(await list('', true), [...names, 'big', 'stream'].sort())
assert((await list('', false)).includes('ü/'))

await client.copyObject(bucket, 'copy', `/${bucket}/percent%41`)
assert.equal((await read(await client.getObject(bucket, 'copy'))).toString(), 'percent%41')
await client.setObjectTagging(bucket, 'copy', { a: '1' })
assert.deepEqual((await client.getObjectTagging(bucket, 'copy')).flat(), [{ Key: 'a', Value: '1' }])

const link = await client.presignedGetObject(bucket, 'plain.txt', 60)
assert.equal(await (await fetch(link)).text(), 'plain.txt')
const put = await client.presignedPutObject(bucket, 'by-link', 60)
assert.equal((await fetch(put, { method: 'PUT', body: 'by link' })).status, 200)

const policy = client.newPostPolicy()
policy.setBucket(bucket)
policy.setKey('by-form')
policy.setExpires(new Date(Date.now() + 60_000))
policy.setContentLengthRange(1, 100)
const { postURL, formData } = await client.presignedPostPolicy(policy)
const form = new FormData()
for (const [name, value] of Object.entries(formData)) form.append(name, value)
form.append('file', new Blob(['by form']), 'form.txt')
assert.equal((await fetch(postURL, { method: 'POST', body: form })).status, 204)
assert.equal((await read(await client.getObject(bucket, 'by-form'))).toString(), 'by form')

await assert.rejects(client.statObject(bucket, 'not-there'), { code: 'NotFound' })
await client.removeObjects(bucket, await list('', true))
assert.deepEqual(await list('', true), [])
await client.removeBucket(bucket)
