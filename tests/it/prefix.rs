//! Tests a server that a proxy serves below a path.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::server::{ACCESS_KEY, SECRET_KEY, Server, command};

fn status(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn s_05_probes_metrics_and_the_operators_paths_are_there_below_it_too() {
    let variables = [
        ("DRYSTONE_PATH_PREFIX", "/s3/"),
        ("DRYSTONE_METRICS", "public"),
    ];
    let server = Server::with(&variables, 1);
    for path in ["/health/live", "/minio/health/ready", "/metrics"] {
        assert_eq!(status(&server, path), "200", "{path}");
        assert_eq!(status(&server, &format!("/s3{path}")), "200", "/s3{path}");
    }
    assert_eq!(status(&server, "/s3/minio/admin/v3/info"), "501");
    let client = server.client();
    client.put("/s3/stones", b"").unwrap().expect(200);
    client.put("/s3/stones/k", b"below").unwrap().expect(200);
    assert_eq!(client.get("/stones/k").unwrap().expect(200).body, b"below");
    for endpoint in [server.endpoint(), format!("{}/s3", server.endpoint())] {
        let listed = command()
            .args(["admin", "bucket", "ls", "--endpoint", &endpoint])
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .output()
            .unwrap();
        assert!(listed.status.success(), "{endpoint}: {listed:?}");
        assert!(String::from_utf8_lossy(&listed.stdout).contains("stones"));
    }
}
