//! `aws-chunked` bodies.

use super::*;

#[tokio::test]
async fn w_01_w_02_unsigned_chunks_with_a_trailer() {
    let data = noise(200_000);
    let sent = unsigned_chunks(&data, 65536, &crc32(&data));
    for piece_len in [1, 7, 8192, usize::MAX] {
        let (received, digest) = sent.receive(piece_len).await.unwrap();
        assert!(received == data);
        let algorithm = digest.checksum.unwrap().algorithm;
        assert_eq!(algorithm, ChecksumAlgorithm::Crc32);
    }
    let empty = unsigned_chunks(b"", 65536, &crc32(b""));
    assert_eq!(empty.receive(1).await.unwrap().0, b"");
}

#[tokio::test]
async fn s_18_every_algorithm_by_trailer() {
    let data = noise(100_000);
    for algorithm in ChecksumAlgorithm::ALL {
        let right = compute::checksum(algorithm, &data);
        let wrong = vec![7; algorithm.value_len()];
        for (value, is_right) in [(&right.value, true), (&wrong, false)] {
            let mut parts = put(&[]);
            let trailer = (checksum::header_name(algorithm), BASE64.encode(value));
            let wire = signer().sign_unsigned_chunks(&mut parts, &data, 65536, trailer);
            let received = Sent {
                parts,
                wire: wire.unwrap(),
            }
            .receive(5000)
            .await;
            match is_right {
                true => assert_eq!(received.unwrap().1.checksum, Some(right.clone())),
                false => assert_eq!(received.unwrap_err().code(), Code::BadDigest),
            }
        }
    }
}

#[tokio::test]
async fn w_05_signed_chunks_across_small_reads() {
    let data = noise(150_000);
    for with_trailer in [false, true] {
        let sent = signed_chunks(&data, 65536, with_trailer);
        for piece_len in [1, 3, 100, usize::MAX] {
            assert!(sent.receive(piece_len).await.unwrap().0 == data);
        }
        let empty = signed_chunks(b"", 65536, with_trailer);
        assert_eq!(empty.receive(1).await.unwrap().0, b"");
    }
}

#[tokio::test]
async fn b_09_the_size_is_the_decoded_length() {
    let data = noise(70_000);
    for sent in [
        signed_chunks(&data, 65536, true),
        unsigned_chunks(&data, 65536, &crc32(&data)),
    ] {
        let mut sent = sent;
        let wire_len = sent.wire.len();
        assert!(wire_len > data.len());
        sent.parts
            .headers
            .insert("content-length", HeaderValue::from(wire_len));
        let body = sent.body(usize::MAX).unwrap();
        assert_eq!(body.size_hint(), Some(70_000));
    }
}

#[tokio::test]
async fn a_05_chunks_tampered_with() {
    let data = [vec![b'a'; 1000], vec![b'b'; 1000], vec![b'c'; 500]].concat();
    let good = signed_chunks(&data, 1000, false);
    let text = String::from_utf8(good.wire.clone()).unwrap();
    let chunk = |n: usize| {
        let start = text.match_indices("3e8;").nth(n).unwrap().0;
        let end = text[start..].find("\r\n").unwrap() + start + 2 + 1000 + 2;
        text[start..end].to_owned()
    };
    let with = |wire: String| Sent {
        wire: wire.into_bytes(),
        ..good.clone()
    };
    // (a) a signature flipped, of data and of the final chunk; a byte of data changed
    let signature = &text[20..84];
    let flipped = with(text.replace(signature, &signature.replace(['0', '1'], "2")));
    assert_eq!(flipped.code().await, Code::SignatureDoesNotMatch);
    assert_eq!(
        good.edit("aaaa\r\n", "aaab\r\n").code().await,
        Code::SignatureDoesNotMatch
    );
    let last = text.rfind("\r\n0;chunk-signature=").unwrap() + 20;
    let mut wire = good.wire.clone();
    wire[last] = if wire[last] == b'0' { b'1' } else { b'0' };
    let final_flipped = Sent {
        wire,
        ..good.clone()
    };
    assert_eq!(final_flipped.code().await, Code::SignatureDoesNotMatch);
    // (b) cut within a chunk, (c) the final chunk missing
    assert_eq!(
        with(text[..1500].to_owned()).code().await,
        Code::IncompleteBody
    );
    assert_eq!(
        with(text[..last - 18].to_owned()).code().await,
        Code::IncompleteBody
    );
    // (d) chunks in another order
    let (first, second) = (chunk(0), chunk(1));
    let swapped = text.replacen(&format!("{first}{second}"), &format!("{second}{first}"), 1);
    assert_ne!(swapped, text);
    assert_eq!(with(swapped).code().await, Code::SignatureDoesNotMatch);
    // a chunk left out, with a length that allows for it
    assert_eq!(
        with(text.replacen(&second, "", 1)).code().await,
        Code::IncompleteBody
    );
    // (f) data after the final chunk
    for more in ["x", "0\r\n\r\n", "\r\n\r\n\r\n", &first] {
        assert_eq!(
            with(format!("{text}{more}")).code().await,
            Code::IncompleteBody
        );
    }
}

#[tokio::test]
async fn a_05_e_another_decoded_length() {
    let data = noise(3000);
    for declared in ["2999", "3001", "0"] {
        let mut parts = put(&[]);
        let wire = signer().sign_chunks(&mut parts, &data, 1000, None).unwrap();
        // Signed again, so that only the length is wrong.
        set(&mut parts, "x-amz-decoded-content-length", declared);
        signer()
            .sign(&mut parts, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
            .unwrap();
        let code = Sent { parts, wire }.code().await;
        let refused = [Code::IncompleteBody, Code::SignatureDoesNotMatch];
        assert!(refused.contains(&code), "{declared}: {code:?}");

        let mut sent = unsigned_chunks(&data, 1000, &crc32(&data));
        set(&mut sent.parts, "x-amz-decoded-content-length", declared);
        signer()
            .sign(&mut sent.parts, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .unwrap();
        assert_eq!(sent.code().await, Code::IncompleteBody);
    }
}

#[tokio::test]
async fn a_06_trailers_that_are_wrong_missing_or_extra() {
    let data = noise(3000);
    let value = crc32(&data);
    let line = format!("x-amz-checksum-crc32:{value}\r\n");
    let wrong = unsigned_chunks(&data, 1000, "AAAAAA==");
    assert_eq!(wrong.code().await, Code::BadDigest);
    let invalid = unsigned_chunks(&data, 1000, "AAAA");
    assert_eq!(invalid.code().await, Code::InvalidRequest);
    let good = unsigned_chunks(&data, 1000, &value);
    for other in [
        "",
        "x-amz-checksum-sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
        "x-amz-checksum-crc32\r\n",
        ":\r\n",
        &format!("{line}{line}"),
        &format!("{line}x-amz-meta-a:b\r\n"),
        &format!("x-amz-acl:public-read\r\n{line}"),
        &"a:b\r\n".repeat(1000),
    ] {
        let code = good.edit(&line, other).code().await;
        assert_eq!(code, Code::MalformedTrailerError, "{other}");
    }

    let signed = signed_chunks(&data, 1000, true);
    let text = String::from_utf8_lossy(&signed.wire).into_owned();
    let at = text.find("x-amz-trailer-signature:").unwrap();
    let signature = text[at..].trim_end().to_owned();
    let forged = format!("x-amz-trailer-signature:{}", "0".repeat(64));
    assert_eq!(
        signed.edit(&signature, &forged).code().await,
        Code::SignatureDoesNotMatch
    );
    assert_eq!(
        signed.edit(&format!("{signature}\r\n"), "").code().await,
        Code::MalformedTrailerError
    );
    assert_eq!(
        signed.edit(&value, "AAAAAA==").code().await,
        Code::SignatureDoesNotMatch
    );
    // A trailer where the payload has none.
    let bare = signed_chunks(&data, 1000, false);
    let mut wire = bare.wire.clone();
    wire.truncate(wire.len() - 2);
    wire.extend_from_slice(format!("{line}\r\n").as_bytes());
    let extra = Sent { wire, ..bare };
    assert_eq!(extra.code().await, Code::MalformedTrailerError);
}

#[tokio::test]
async fn w_05_trailer_line_ends_of_real_clients() {
    let data = noise(3000);
    let line = format!("x-amz-checksum-crc32:{}", crc32(&data));
    let unsigned = unsigned_chunks(&data, 1000, &crc32(&data));
    let signed = signed_chunks(&data, 1000, true);
    for sent in [
        unsigned.edit(&format!("{line}\r\n\r\n"), &format!("{line}\r\n")),
        unsigned.edit(&format!("{line}\r\n\r\n"), &format!("{line}\n\r\n\r\n")),
        unsigned.edit(&line, &line.replace(':', ": ").replace("x-amz", "X-Amz")),
        signed.edit(&format!("{line}\r\n"), &format!("{line}\n\r\n")),
        signed.edit(&format!("\r\n{line}"), &format!("\r\n\r\n{line}")),
    ] {
        for piece_len in [1, usize::MAX] {
            assert!(sent.receive(piece_len).await.unwrap().0 == data);
        }
    }
}

#[tokio::test]
async fn a_07_chunk_sizes() {
    let long = format!("1;{}\r\n", "x".repeat(1 << 20));
    for head in [
        "\r\n",
        ";\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x10\r\n",
        " 10\r\n",
        "10 \r\n",
        "1_0\r\n",
        "g\r\n",
        "00000000000000001\r\n",
        "fffffffffffffffff\r\n",
        "ffffffffffffffff\r\n",
        "1\n",
        "\u{661}\r\n",
        "1;\0\n",
        &long,
    ] {
        let mut sent = unsigned_chunks(b"x", 10, &crc32(b"x"));
        sent.wire = [head.as_bytes(), &sent.wire].concat();
        assert_eq!(sent.code().await, Code::IncompleteBody, "{head}");
    }
    // Data that runs on past its chunk.
    let sent = unsigned_chunks(b"xy", 2, &crc32(b"xy")).edit("xy\r\n", "xyz\r\n");
    assert_eq!(sent.code().await, Code::IncompleteBody);
    // Signed chunks without a signature.
    let sent = signed_chunks(b"x", 10, false).edit("1;chunk-signature=", "1;signature=");
    assert_eq!(sent.code().await, Code::IncompleteBody);
    // What is no length is as good as none.
    for length in ["", "abc", "12x", "-1", "+1", "99999999999999999999"] {
        let mut sent = unsigned_chunks(b"x", 10, &crc32(b"x"));
        set(&mut sent.parts, "x-amz-decoded-content-length", length);
        signer()
            .sign(&mut sent.parts, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .unwrap();
        assert_eq!(sent.code().await, Code::MissingContentLength, "{length}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

/// The wire cut at these places.
fn cut(wire: &[u8], mut places: Vec<prop::sample::Index>) -> Source {
    let len = wire.len();
    let mut ends: Vec<usize> = places.drain(..).map(|place| place.index(len + 1)).collect();
    ends.push(len);
    ends.sort_unstable();
    let mut start = 0;
    let mut pieces = Vec::new();
    for end in ends {
        pieces.push(Ok::<_, std::io::Error>(Bytes::copy_from_slice(
            &wire[start..end],
        )));
        start = end;
    }
    Source::from_stream(futures_util::stream::iter(pieces))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the bytes arrive, what comes out is what was framed; one bit changed anywhere in
    /// what is signed is found.
    #[test]
    fn w_05_signed_chunks_under_random_splits(
        data in prop::collection::vec(any::<u8>(), 0..3000),
        chunk_len in 1..2000_usize,
        with_trailer: bool,
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        flip: Option<(prop::sample::Index, u8)>,
    ) {
        let mut sent = signed_chunks(&data, chunk_len, with_trailer);
        let good = sent.wire.clone();
        if let Some((at, bit)) = flip {
            let at = at.index(sent.wire.len());
            sent.wire[at] ^= 1 << (bit % 8);
        }
        let outcome = runtime().block_on(async {
            let mut body = VerifiedBody::for_object(
                &sent.parts.headers,
                sent.payload(),
                ChecksumAlgorithm::Crc32,
                cut(&sent.wire, places),
            )?;
            let mut out = Vec::new();
            while let Some(piece) = body.next_piece().await? {
                assert!(!piece.is_empty());
                out.extend_from_slice(&piece);
            }
            Ok::<_, S3Error>(out)
        });
        match outcome {
            Ok(out) => prop_assert_eq!(out, data),
            Err(_) => prop_assert_ne!(sent.wire, good),
        }
    }

    /// No bytes make the decoder panic or give more than was declared.
    #[test]
    fn a_64_any_bytes_at_all(
        wire in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(&b"0123;:\r\n\r\nab"[..])],
            0..300,
        ),
        signed: bool,
        trailing: bool,
    ) {
        let mut decoder = Decoder::new(signed, trailing, 20);
        let mut given = 0;
        for piece in wire.chunks(7) {
            decoder.push(Bytes::copy_from_slice(piece));
            loop {
                match decoder.next_event() {
                    Ok(Some(Event::Data(data))) => given += data.len(),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return Ok(()),
                }
            }
        }
        prop_assert!(given <= 20);
        let _ = decoder.finish();
    }
}
