//! Requests over a real socket: framing, pipelining, slow clients, and too many of them.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use drystone_http::limits::Limits;
use drystone_http::pace::Pace;
use drystone_world::{Listening, read_answer, read_to_end};

/// One S3 error and nothing after it.
#[track_caller]
fn assert_refused(answer: &str, code: &str, what: &str) {
    assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer:?}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
    assert!(
        answer.contains(&format!("<Code>{code}</Code>")),
        "{what}: {answer}"
    );
    assert!(answer.contains("<RequestId>"), "{what}: {answer}");
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{what}: {answer}"
    );
}

#[tokio::test]
async fn a_28_a_head_that_could_mean_two_things_ends_the_connection() {
    let listening = Listening::new(Limits::default()).await;
    let smuggled = listening.world.call("PUT /bkt/smuggled").raw();
    for header in [
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: +0",
        "Content-Length: 0,0",
        "Content-Length: -1",
        "Content-Length : 0",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "X: a\r\n folded: b",
        "X: a\nContent-Length: 0",
        "X: \u{0}",
    ] {
        let head = format!("PUT /bkt/k HTTP/1.1\r\nHost: s3.test\r\n{header}\r\n\r\n0\r\n\r\n");
        let answer = [head.as_bytes(), &smuggled].concat();
        let answer = listening.until_closed(&answer).await;
        assert_refused(&answer, "BadRequest", header);
        assert!(!listening.has("smuggled").await, "{header}");
    }
    let answer = listening
        .until_closed(b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    assert_refused(&answer, "InvalidURI", "a fragment");
}

#[tokio::test]
async fn a_28_a_request_inside_a_body_is_never_executed() {
    let listening = Listening::new(Limits::default()).await;
    let smuggled = listening.world.call("PUT /bkt/smuggled").raw();
    for refused in [
        // Nobody reads the body of a GET, nor that of a request without a right.
        listening
            .world
            .call("GET /bkt/none")
            .body(smuggled.clone())
            .raw(),
        listening
            .world
            .call("PUT /bkt/k")
            .by("bob")
            .body(smuggled.clone())
            .raw(),
        listening
            .world
            .call("PUT /bkt/k")
            .by("")
            .body(smuggled.clone())
            .raw(),
    ] {
        let answer = listening.until_closed(&refused).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(!listening.has("smuggled").await);
    }
    // In chunks, and chunks that end before they say.
    let head = "PUT /bkt/k HTTP/1.1\r\nHost: s3.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        [
            format!("{:x}\r\n", smuggled.len()).as_bytes(),
            &smuggled,
            b"\r\n0\r\n\r\n",
        ]
        .concat(),
        [b"0\n\n".as_slice(), &smuggled].concat(),
        [b"-1\r\n\r\n".as_slice(), &smuggled].concat(),
    ] {
        let answer = listening
            .until_closed(&[head.as_bytes(), &body].concat())
            .await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(!listening.has("smuggled").await);
    }
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_a_row() {
    let listening = Listening::new(Limits::default()).await;
    let call = |line: &str| listening.world.call(line);
    let mut stream = listening.connect().await;
    let requests = [
        call("PUT /bkt/a").body("first").raw(),
        call("GET /bkt/a").raw(),
        call("GET /bkt/none").raw(),
        call("PUT /bkt/b").body("x".repeat(300_000)).raw(),
        b"\r\n".to_vec(),
        call("GET /bkt/b").header("range", "bytes=0-4").raw(),
        call("GET http://s3.test:9000/bkt/a").raw(),
    ];
    let sent = requests.concat();
    let (mut read, mut write) = stream.split();
    let sending = async { write.write_all(&sent).await.unwrap() };
    let reading = async {
        let mut bytes = Vec::new();
        while bytes.windows(5).filter(|window| window == b"first").count() < 2 {
            assert_ne!(read.read_buf(&mut bytes).await.unwrap(), 0);
        }
        String::from_utf8(bytes).unwrap()
    };
    let ((), answers) = tokio::join!(sending, reading);
    let statuses: Vec<&str> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["200", "200", "404", "200", "206", "200"]);
    // And the connection goes on, byte by byte.
    for byte in call("GET /bkt/a").raw() {
        stream.write_all(&[byte]).await.unwrap();
    }
    let (head, body) = read_answer(&mut stream).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "first");
}

#[tokio::test]
async fn w_01_a_chunked_upload_is_followed_by_the_next_request() {
    let listening = Listening::new(Limits::default()).await;
    let mut stream = listening.connect().await;
    for chunk_len in [1, 3, 1000] {
        let put = listening.world.call("PUT /bkt/k").body("hello");
        let get = listening.world.call("GET /bkt/k").raw();
        let sent = [put.chunked("NhCmhg==", chunk_len), get].concat();
        stream.write_all(&sent).await.unwrap();
        let (put, error) = read_answer(&mut stream).await;
        assert!(put.starts_with("http/1.1 200"), "{put}{error}");
        assert_eq!(read_answer(&mut stream).await.1, "hello");
    }
}

/// As programs send what they make on the way.
#[tokio::test]
async fn w_01_an_upload_in_chunks_of_http_needs_no_length() {
    let listening = Listening::new(Limits::default()).await;
    let mut stream = listening.connect().await;
    let begun = listening.world.call("POST /bkt/parts?uploads").ok().await;
    let begun = begun.xml("InitiateMultipartUploadResult");
    let id = begun.child_text("UploadId").unwrap();
    let part = format!("/bkt/parts?partNumber=1&uploadId={id}");
    for target in ["/bkt/k", part.as_str()] {
        let head = listening.world.call(&format!("PUT {target}")).of_chunks();
        let body = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
        stream
            .write_all(&[&head, &body[..]].concat())
            .await
            .unwrap();
        let (answer, error) = read_answer(&mut stream).await;
        assert!(answer.starts_with("http/1.1 200"), "{answer}{error}");
        assert!(
            answer.contains("5eb63bbbe01eeed093cb22bb8f5acdc3"),
            "{answer}"
        );
    }
    let get = listening.world.call("GET /bkt/k").raw();
    stream.write_all(&get).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.1, "hello world");
    // One that ends too early, and one in no chunks.
    for body in [&b"5\r\nhello\r\n"[..], b"5\r\nhello0\r\n\r\n"] {
        let head = listening.world.call("PUT /bkt/cut").of_chunks();
        let answer = listening.ended(&[&head, body].concat()).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!listening.has("cut").await);
    }
}

#[tokio::test]
async fn a_26_a_huge_head_gets_an_s3_error() {
    let listening = Listening::new(Limits::default()).await;
    for bytes in [9 << 10, 70 << 10, 200 << 10, 1 << 20] {
        let head = format!(
            "GET /bkt/k HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
            "x".repeat(bytes)
        );
        let answer = listening.ended(head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bytes}: {answer:?}");
        assert!(
            answer.contains("<Code>RequestHeaderSectionTooLarge</Code>"),
            "{answer}"
        );
    }
    let many = format!(
        "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
        "a: b\r\n".repeat(10_000)
    );
    let answer = listening.ended(many.as_bytes()).await;
    assert_refused(
        &answer,
        "RequestHeaderSectionTooLarge",
        "ten thousand headers",
    );
}

#[tokio::test]
async fn a_60_a_slow_head_is_refused() {
    let limits = Limits {
        head: Duration::from_millis(50),
        ..Limits::default()
    };
    let listening = Listening::new(limits).await;
    let answer = listening.until_closed(b"GET / HTTP/1.1\r\nHo").await;
    assert_refused(&answer, "RequestTimeout", "half a head");
    // Behind an answer that was given: that one first.
    let get = listening.world.call("GET /bkt/none").raw();
    let answer = listening
        .until_closed(&[&get, b"GET".as_slice()].concat())
        .await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("<Code>RequestTimeout</Code>"), "{answer}");
}

#[tokio::test]
async fn a_60_a_connection_on_which_nothing_is_asked_ends() {
    let limits = Limits {
        idle: Duration::from_millis(50),
        ..Limits::default()
    };
    let listening = Listening::new(limits).await;
    assert_eq!(listening.until_closed(b"").await, "");
    let get = listening.world.call("GET /bkt/none").raw();
    assert!(
        listening
            .until_closed(&get)
            .await
            .starts_with("HTTP/1.1 404")
    );
}

fn hurried() -> Limits {
    Limits {
        pace: Pace {
            bytes: 1 << 10,
            window: Duration::from_millis(100),
        },
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_60_a_slow_body_is_refused_and_leaves_nothing() {
    let listening = Listening::new(hurried()).await;
    let put = listening
        .world
        .call("PUT /bkt/k")
        .body("x".repeat(100))
        .raw();
    let answer = listening.until_closed(&put[..put.len() - 1]).await;
    assert_refused(&answer, "RequestTimeout", "a body but for its last byte");
    // Nor do drips help.
    let mut stream = listening.connect().await;
    let put = listening
        .world
        .call("PUT /bkt/k")
        .body("x".repeat(1000))
        .raw();
    let (begin, drips) = put.split_at(put.len() - 900);
    stream.write_all(begin).await.unwrap();
    for drip in drips.chunks(1) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if stream.write_all(drip).await.is_err() {
            break;
        }
    }
    let answer = read_to_end(&mut stream).await;
    assert!(
        answer.is_empty() || answer.contains("RequestTimeout"),
        "{answer}"
    );
    assert!(!listening.has("k").await);
}

#[tokio::test]
async fn r_11_an_answer_that_is_not_taken_is_cut_off_and_lets_go() {
    let listening = Listening::new(hurried()).await;
    let size = 64 << 20;
    let body = vec![b'x'; size];
    listening.world.call("PUT /bkt/k").body(body).ok().await;
    let mut stream = listening.connect().await;
    let get = listening.world.call("GET /bkt/k").raw();
    stream.write_all(&get).await.unwrap();
    let traffic = listening.world.transport.traffic.clone();
    while traffic.requests.get() == 0 {
        tokio::task::yield_now().await;
    }
    // Nothing is read here, and the request ends all the same.
    while traffic.requests.get() > 0 || traffic.connections.get() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes).await;
    assert!(read.is_err() || bytes.len() < size, "{} bytes", bytes.len());
}

/// Slow ones of every kind at once: others are served meanwhile, and all is given back.
#[tokio::test]
async fn a_60_many_slow_clients_hold_up_nobody_and_nothing_is_lost() {
    let limits = Limits {
        head: Duration::from_millis(200),
        requests: 64,
        ..hurried()
    };
    let listening = Listening::new(limits).await;
    let body = vec![b'x'; 16 << 20];
    listening.world.call("PUT /bkt/large").body(body).ok().await;
    let get = listening.world.call("GET /bkt/large").raw();
    let put = listening
        .world
        .call("PUT /bkt/k")
        .body("x".repeat(100))
        .raw();
    let mut slow = Vec::new();
    for n in 0..120 {
        let bytes = match n % 4 {
            0 => b"".as_slice(),
            1 => b"GET / HT",
            2 => &put[..put.len() - 1],
            // Half a dozen that don't read, so that the test stays small.
            _ if n < 24 => &get,
            _ => b"G",
        };
        let mut stream = listening.connect().await;
        stream.write_all(bytes).await.unwrap();
        slow.push(stream);
    }
    let quick = listening.world.call("GET /bkt/none").raw();
    for _ in 0..20 {
        let mut stream = listening.connect().await;
        stream.write_all(&quick).await.unwrap();
        assert!(read_answer(&mut stream).await.0.starts_with("http/1.1 404"));
    }
    let traffic = &listening.world.transport.traffic;
    while traffic.requests.get() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(slow);
    while traffic.connections.get() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let admission = &listening.world.admission;
    let memory = admission.memory_free_bytes();
    assert_eq!(memory, limits.memory_bytes);
    assert_eq!(admission.requests_free(), 64);
    assert!(!listening.has("k").await);
}

/// Nobody knows who sends a form before its fields are there.
#[tokio::test]
async fn a_60_forms_without_end_hold_no_place_and_no_memory() {
    let limits = Limits {
        requests: 2,
        forms: 3,
        queue: 0,
        memory_bytes: 16 << 20,
        ..Limits::default()
    };
    let listening = Listening::new(limits).await;
    let admission = &listening.world.admission;
    let head = b"POST /anything HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\
        Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n";
    let mut holders = Vec::new();
    for _ in 0..3 {
        let mut stream = listening.connect().await;
        stream.write_all(head).await.unwrap();
        holders.push(stream);
    }
    while admission.forms_free() > 0 {
        tokio::task::yield_now().await;
    }
    let memory = admission.memory_free_bytes();
    assert_eq!((admission.requests_free(), memory), (2, 16 << 20));
    for _ in 0..8 {
        let answer = listening.until_closed(head).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    let call = |line: &str| listening.world.call(line);
    let mut stream = listening.connect().await;
    for request in [
        call("PUT /bkt/k").body("x".repeat(1 << 20)),
        call("GET /bkt/k"),
    ] {
        stream.write_all(&request.raw()).await.unwrap();
        assert!(read_answer(&mut stream).await.0.starts_with("http/1.1 200"));
    }
    drop(holders);
    while admission.forms_free() < 3 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_60_the_fields_of_a_form_have_a_heads_time() {
    let limits = Limits {
        head: Duration::from_millis(50),
        ..Limits::default()
    };
    let listening = Listening::new(limits).await;
    let form = b"POST /bkt HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\
        Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n";
    let answer = listening.until_closed(form).await;
    assert_refused(&answer, "RequestTimeout", "half a form");
    assert_eq!(listening.world.admission.forms_free(), limits.forms);
}

/// Downloads that nobody takes leave places to others.
#[tokio::test]
async fn r_18_answers_on_their_way_take_no_place() {
    let limits = Limits {
        requests: 1,
        queue: 0,
        memory_bytes: 16 << 20,
        ..Limits::default()
    };
    let listening = Listening::new(limits).await;
    let call = |line: &str| listening.world.call(line);
    let body = vec![b'x'; 32 << 20];
    call("PUT /bkt/large").body(body).ok().await;
    let admission = &listening.world.admission;
    let get = call("GET /bkt/large").raw();
    let mut slow = Vec::new();
    // Three quarters of the memory are enough for four.
    while slow.len() < 4 {
        let mut stream = listening.connect().await;
        stream.write_all(&get).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        slow.push(stream);
    }
    assert_eq!(admission.requests_free(), 1);
    assert!(listening.ended(&get).await.starts_with("HTTP/1.1 503"));
    let mut stream = listening.connect().await;
    for request in [
        call("PUT /bkt/k").body("x".repeat(1 << 20)),
        call("HEAD /bkt/k"),
    ] {
        stream.write_all(&request.raw()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{head:?}");
    }
    drop(slow);
    while admission.memory_free_bytes() < limits.memory_bytes {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_without_a_body_has_none() {
    let listening = Listening::new(Limits::default()).await;
    let call = |line: &str| listening.world.call(line);
    let put = call("PUT /bkt/k").body("x").ok().await;
    let etag = put.header("etag");
    let mut stream = listening.connect().await;
    for (request, status) in [
        (call("HEAD /bkt/none"), "404"),
        (call("HEAD /bkt/k").by("bob"), "403"),
        (call("GET /bkt/k").header("if-none-match", etag), "304"),
        (call("HEAD /bkt/k").header("if-match", "\"x\""), "412"),
        (call("HEAD /bkt/k"), "200"),
        (call("DELETE /bkt/k"), "204"),
    ] {
        stream.write_all(&request.raw()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    }
    // Nothing was left over on the connection.
    stream.write_all(&call("GET /bkt/k").raw()).await.unwrap();
    assert!(read_answer(&mut stream).await.0.starts_with("http/1.1 404"));
}

/// A request with a bit more or less is refused as what it then is.
#[tokio::test]
async fn a_64_a_broken_request_is_never_a_500() {
    let listening = Listening::new(hurried()).await;
    let put = listening
        .world
        .call("PUT /bkt/k?tagging")
        .header("x-amz-meta-a", "b");
    let put = put.body("<Tagging><TagSet/></Tagging>").raw();
    let mut seed = 1_u64;
    for _ in 0..300 {
        let mut broken = put.clone();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = usize::try_from(seed >> 33).unwrap() % broken.len();
        broken[at] ^= 1 << (seed >> 61);
        let answer = listening.ended(&broken).await;
        assert!(!answer.starts_with("HTTP/1.1 5"), "{answer}");
    }
    assert!(!listening.has("k").await);
}
