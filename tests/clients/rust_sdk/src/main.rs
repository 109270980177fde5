//! The round of AWS's SDK for Rust: trees, parts, checksums, conditions, links. No option but the
//! endpoint.
//!
//! Sends the folder `up`, brings it back as `down` and leaves a link in the file `link`, which
//! rust_sdk.py looks at.

use std::error::Error;
use std::path::{Path, PathBuf};

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::{PutObjectError, PutObjectOutput};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, Delete,
    ObjectIdentifier, VersioningConfiguration,
};
use tokio::task::JoinSet;

type Done<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const BUCKET: &str = "rust-sdk-round";
const PART: u64 = 5 << 20;
const WRITERS: usize = 8;
const ADDS: usize = 10;

async fn put(
    s3: &Client,
    key: &str,
    body: &str,
) -> Result<PutObjectOutput, SdkError<PutObjectError>> {
    let body = ByteStream::from(body.as_bytes().to_vec());
    s3.put_object()
        .bucket(BUCKET)
        .key(key)
        .body(body)
        .send()
        .await
}

async fn get(s3: &Client, key: &str) -> Done<Vec<u8>> {
    let answer = s3.get_object().bucket(BUCKET).key(key).send().await?;
    Ok(answer.body.collect().await?.to_vec())
}

fn files(folder: &Path) -> Done<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

async fn tree(s3: &Client) -> Done {
    for path in files(Path::new("up"))? {
        let key = format!("tree/{}", path.strip_prefix("up")?.display());
        let body = ByteStream::from_path(&path).await?;
        s3.put_object()
            .bucket(BUCKET)
            .key(key)
            .body(body)
            .send()
            .await?;
    }
    let list = s3
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix("tree/")
        .max_keys(7);
    let mut pages = list.into_paginator().send();
    while let Some(page) = pages.next().await {
        for key in page?.contents().iter().filter_map(|object| object.key()) {
            let path = Path::new("down").join(key.trim_start_matches("tree/"));
            std::fs::create_dir_all(path.parent().ok_or("a folder")?)?;
            std::fs::write(path, get(s3, key).await?)?;
        }
    }
    Ok(())
}

/// Parts from a file, several at once, checked by `algorithm`.
async fn in_parts(s3: &Client, algorithm: ChecksumAlgorithm) -> Done {
    let key = format!("big{algorithm}");
    let upload = s3
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(&key)
        .checksum_algorithm(algorithm.clone())
        .metadata("colour", "grey")
        .send()
        .await?;
    let id = upload.upload_id.ok_or("an upload")?;
    let size = std::fs::metadata("big")?.len();
    let mut sending = JoinSet::new();
    for (at, number) in (0..size).step_by(PART as usize).zip(1..) {
        let body = ByteStream::read_from()
            .path("big")
            .offset(at)
            .length(Length::Exact(PART.min(size - at)))
            .build()
            .await?;
        let part = s3
            .upload_part()
            .bucket(BUCKET)
            .key(&key)
            .upload_id(&id)
            .part_number(number)
            .checksum_algorithm(algorithm.clone())
            .body(body);
        sending.spawn(async move { part.send().await.map(|sent| (number, sent)) });
    }
    let mut parts = Vec::new();
    while let Some(sent) = sending.join_next().await {
        let (number, sent) = sent??;
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .set_checksum_crc32(sent.checksum_crc32)
            .set_checksum_crc32_c(sent.checksum_crc32_c)
            .set_checksum_crc64_nvme(sent.checksum_crc64_nvme)
            .set_checksum_sha1(sent.checksum_sha1)
            .set_checksum_sha256(sent.checksum_sha256);
        parts.push(part.build());
    }
    parts.sort_by_key(|part| part.part_number);
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    let complete = s3
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(&key)
        .upload_id(&id);
    complete.multipart_upload(parts).send().await?;
    assert!(get(s3, &key).await? == std::fs::read("big")?, "{key}");
    let head = s3
        .head_object()
        .bucket(BUCKET)
        .key(&key)
        .part_number(2)
        .send()
        .await?;
    assert_eq!(head.parts_count, Some(4), "{key}");
    Ok(())
}

/// Whether it was stored; a refusal is one of those that the condition gives.
fn stored(told: Result<PutObjectOutput, SdkError<PutObjectError>>) -> Done<bool> {
    match told {
        Ok(_) => Ok(true),
        Err(error) => match error.code() {
            Some("PreconditionFailed" | "ConditionalRequestConflict") => Ok(false),
            _ => Err(error.into()),
        },
    }
}

/// Many create one key, and count by an ETag each.
async fn conditions(s3: &Client) -> Done {
    let mut creators = JoinSet::new();
    for n in 0..WRITERS {
        let body = ByteStream::from(n.to_string().into_bytes());
        let request = s3
            .put_object()
            .bucket(BUCKET)
            .key("race")
            .if_none_match("*")
            .body(body);
        creators.spawn(async move { stored(request.send().await).map(|won| (n, won)) });
    }
    let mut won = Vec::new();
    while let Some(told) = creators.join_next().await {
        let (n, stored) = told??;
        won.extend(stored.then_some(n));
    }
    assert_eq!(won.len(), 1, "winners");
    assert_eq!(
        get(s3, "race").await?,
        won[0].to_string().into_bytes(),
        "the winner's body"
    );

    put(s3, "counter", "").await?;
    let mut counters = JoinSet::new();
    for _ in 0..WRITERS {
        let s3 = s3.clone();
        counters.spawn(async move {
            let mut added = 0;
            while added < ADDS {
                let now = s3.get_object().bucket(BUCKET).key("counter").send().await?;
                let etag = now.e_tag.clone().ok_or("an ETag")?;
                let mut body = now.body.collect().await?.to_vec();
                body.push(b'x');
                let request = s3.put_object().bucket(BUCKET).key("counter").if_match(etag);
                let told = request.body(ByteStream::from(body)).send().await;
                added += usize::from(stored(told)?);
            }
            Done::Ok(())
        });
    }
    while let Some(counted) = counters.join_next().await {
        counted??;
    }
    assert_eq!(get(s3, "counter").await?.len(), WRITERS * ADDS, "counted");
    Ok(())
}

async fn versions(s3: &Client) -> Done {
    let enabled = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    s3.put_bucket_versioning()
        .bucket(BUCKET)
        .versioning_configuration(enabled)
        .send()
        .await?;
    let first = put(s3, "versioned", "one").await?.version_id;
    let second = put(s3, "versioned", "two").await?.version_id;
    let listed = s3
        .list_object_versions()
        .bucket(BUCKET)
        .prefix("versioned")
        .send()
        .await?;
    let ids: Vec<_> = listed
        .versions()
        .iter()
        .map(|version| version.version_id.clone())
        .collect();
    assert_eq!(ids, [second, first.clone()], "versions");
    let old = s3
        .get_object()
        .bucket(BUCKET)
        .key("versioned")
        .set_version_id(first);
    assert_eq!(
        old.send().await?.body.collect().await?.to_vec(),
        b"one",
        "the first version"
    );
    s3.delete_object()
        .bucket(BUCKET)
        .key("versioned")
        .send()
        .await?;
    let hidden = s3.get_object().bucket(BUCKET).key("versioned").send().await;
    assert!(
        hidden.is_err_and(|error| error.code() == Some("NoSuchKey")),
        "behind a marker"
    );
    Ok(())
}

async fn the_end(s3: &Client) -> Done {
    loop {
        let page = s3
            .list_object_versions()
            .bucket(BUCKET)
            .max_keys(30)
            .send()
            .await?;
        let versions = page
            .versions()
            .iter()
            .map(|version| (&version.key, &version.version_id));
        let markers = page
            .delete_markers()
            .iter()
            .map(|marker| (&marker.key, &marker.version_id));
        let left: Result<Vec<_>, _> = versions
            .chain(markers)
            .map(|(key, version)| {
                let object = ObjectIdentifier::builder().set_key(key.clone());
                object.set_version_id(version.clone()).build()
            })
            .collect();
        let left = left?;
        if left.is_empty() {
            break;
        }
        let delete = Delete::builder().set_objects(Some(left)).build()?;
        let deleted = s3
            .delete_objects()
            .bucket(BUCKET)
            .delete(delete)
            .send()
            .await?;
        assert!(deleted.errors().is_empty(), "{:?}", deleted.errors());
    }
    s3.delete_bucket().bucket(BUCKET).send().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Done {
    let endpoint = std::env::var("ENDPOINT")?;
    let settings = aws_config::defaults(BehaviorVersion::latest()).endpoint_url(endpoint);
    let s3 = Client::new(&settings.load().await);
    if std::env::args().any(|word| word == "end") {
        versions(&s3).await?;
        return the_end(&s3).await;
    }
    s3.create_bucket().bucket(BUCKET).send().await?;
    tree(&s3).await?;
    for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"] {
        in_parts(&s3, algorithm.into()).await?;
    }
    let copy = s3.copy_object().bucket(BUCKET).key("ü/+ %41");
    copy.copy_source(format!("{BUCKET}/bigCRC32"))
        .send()
        .await?;
    let end = s3
        .get_object()
        .bucket(BUCKET)
        .key("ü/+ %41")
        .range("bytes=-5")
        .send()
        .await?;
    let big = std::fs::read("big")?;
    assert_eq!(
        end.body.collect().await?.to_vec(),
        big[big.len() - 5..],
        "the end of a copy"
    );
    conditions(&s3).await?;
    let minute = PresigningConfig::expires_in(std::time::Duration::from_secs(60))?;
    let link = s3
        .get_object()
        .bucket(BUCKET)
        .key("ü/+ %41")
        .presigned(minute)
        .await?;
    std::fs::write("link", link.uri())?;
    Ok(())
}
