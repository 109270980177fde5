// The round of AWS's SDK for JavaScript, with lib-storage and links. No option but the endpoint.

import assert from 'node:assert'
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import {
  S3Client, CreateBucketCommand, DeleteBucketCommand, PutObjectCommand, GetObjectCommand, HeadObjectCommand,
  CopyObjectCommand, DeleteObjectsCommand, ListObjectsV2Command, paginateListObjectsV2,
  GetObjectAttributesCommand, PutBucketVersioningCommand, ListObjectVersionsCommand,
} from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'

const client = new S3Client({ endpoint: process.env.ENDPOINT })
const Bucket = 'js-sdk-round'
const send = (Command, input) => client.send(new Command({ Bucket, ...input }))
const body = async (Key) => Buffer.from(await (await send(GetObjectCommand, { Key })).Body.transformToByteArray())

await send(CreateBucketCommand)
const names = ['plain.txt', 'ü/日本 +.txt', "quote'and&.txt", 'percent%41', 'a//b']
for (const Key of names) {
  await send(PutObjectCommand, { Key, Body: Key, Metadata: { color: 'grey' } })
  assert.equal((await body(Key)).toString(), Key)
}
const big = randomBytes(17_000_001)
const pieces = () => Readable.from((function* () {
  for (let at = 0; at < big.length; at += 100_000) yield big.subarray(at, at + 100_000)
})())
for (const ChecksumAlgorithm of [undefined, 'CRC32', 'CRC32C', 'SHA1', 'SHA256', 'CRC64NVME']) {
  await new Upload({ client, params: { Bucket, Key: 'big', Body: pieces(), ChecksumAlgorithm } }).done()
  assert((await body('big')).equals(big), ChecksumAlgorithm)
}
await send(PutObjectCommand, { Key: 'stream', Body: pieces(), ContentLength: big.length })
assert((await body('stream')).equals(big))

const range = await send(GetObjectCommand, { Key: 'big', Range: 'bytes=-5' })
assert.deepEqual(Buffer.from(await range.Body.transformToByteArray()), big.subarray(-5))
const part = await send(HeadObjectCommand, { Key: 'big', PartNumber: 2 })
assert.equal(part.PartsCount, 4)
const attributes = await send(GetObjectAttributesCommand, {
  Key: 'big', ObjectAttributes: ['ETag', 'Checksum', 'ObjectParts', 'ObjectSize', 'StorageClass'],
})
assert.equal(attributes.ObjectSize, big.length)

await assert.rejects(send(PutObjectCommand, { Key: 'plain.txt', Body: '', IfNoneMatch: '*' }), { name: 'PreconditionFailed' })
await assert.rejects(send(GetObjectCommand, { Key: 'not-there' }), { name: 'NoSuchKey' })
await send(CopyObjectCommand, { Key: 'copy', CopySource: `${Bucket}/${encodeURIComponent('ü/日本 +.txt')}` })
assert.equal((await body('copy')).toString(), 'ü/日本 +.txt')

const link = await getSignedUrl(client, new GetObjectCommand({ Bucket, Key: 'plain.txt' }), { expiresIn: 60 })
assert.equal(await (await fetch(link)).text(), 'plain.txt')
const put = await getSignedUrl(client, new PutObjectCommand({ Bucket, Key: 'by-link' }), { expiresIn: 60 })
assert.equal((await fetch(put, { method: 'PUT', body: 'by link' })).status, 200)
assert.equal((await body('by-link')).toString(), 'by link')
// The link carries the headers in its query; whoever has it sends none of them.
const described = { Bucket, Key: 'by-link', Metadata: { colour: 'grey' }, StorageClass: 'STANDARD_IA' }
const bare = await getSignedUrl(client, new PutObjectCommand(described), { expiresIn: 60 })
assert.equal((await fetch(bare, { method: 'PUT', body: 'by link' })).status, 200)
const seen = await send(HeadObjectCommand, { Key: 'by-link' })
assert.deepEqual([seen.Metadata, seen.StorageClass], [{ colour: 'grey' }, 'STANDARD_IA'])

await send(PutBucketVersioningCommand, { VersioningConfiguration: { Status: 'Enabled' } })
await send(PutObjectCommand, { Key: 'copy', Body: 'second' })
const versions = await send(ListObjectVersionsCommand, { Prefix: 'copy' })
assert.equal(versions.Versions.length, 2)

const listed = []
for await (const page of paginateListObjectsV2({ client, pageSize: 3 }, { Bucket })) {
  listed.push(...(page.Contents ?? []).map(({ Key }) => Key))
}
assert.deepEqual(listed.sort(), [...names, 'big', 'stream', 'copy', 'by-link'].sort())
const all = await send(ListObjectVersionsCommand)
await send(DeleteObjectsCommand, {
  Delete: { Objects: all.Versions.map(({ Key, VersionId }) => ({ Key, VersionId })) },
})
assert.equal((await send(ListObjectsV2Command)).KeyCount, 0)
await send(DeleteBucketCommand)
