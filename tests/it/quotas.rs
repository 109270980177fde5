//! Tests quotas on a real server: set by its operator, enforced on clients, correct after a kill.

use std::thread;

use serde_json::Value;

use crate::replaced_disks::{admin, told};
use crate::server::{Disks, Server, command};

const WRITERS: usize = 6;
const PUTS: usize = 8;
const LEN: usize = 20_000;
/// The quota: how many of all those objects fit.
const ROOM: usize = 20;

fn bucket(server: &Server) -> Value {
    let shown = told(&admin(server, &["quota", "get", "stones", "--json"]));
    serde_json::from_str(&shown).unwrap()
}

#[test]
fn s_06_racing_clients_stop_at_the_quota_and_a_kill_forgets_nothing() {
    let mut server = Server::on(Disks::fresh(4));
    server.client().put("/stones", b"").unwrap().expect(200);
    let limit = &format!("{}", ROOM * LEN + LEN / 2);
    let set = [
        "quota",
        "set",
        "stones",
        "--hard-bytes",
        limit,
        "--soft-objects",
        "3",
    ];
    told(&admin(&server, &set));
    let written: usize = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let client = server.client();
                scope.spawn(move || {
                    let put = |n| {
                        let path = format!("/stones/{writer}-{n}");
                        let answer = client.put(&path, &[7; LEN]).unwrap();
                        if answer.status == 403 {
                            assert_eq!(answer.all("Code"), ["QuotaExceeded"]);
                            assert_eq!(answer.all("Quota"), [limit.as_str()]);
                            return 0;
                        }
                        answer.expect(200);
                        1
                    };
                    (0..PUTS).map(put).sum::<usize>()
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum()
    });
    assert_eq!(written, ROOM);

    server.kill();
    server.start_again();
    let now = bucket(&server);
    assert_eq!(now["usage"]["objects"], ROOM);
    assert_eq!(now["usage"]["bytes"], ROOM * LEN);
    assert_eq!(now["quota"]["hard_bytes"].to_string(), *limit);
    let answer = server.client().put("/stones/more", &[7; LEN]).unwrap();
    assert_eq!(answer.expect(403).all("Code"), ["QuotaExceeded"]);

    // A soft quota refuses nothing; the operator sees that it is exceeded.
    let status = told(&admin(&server, &["status"]));
    assert!(
        status.contains("bucket stones holds 20 objects, its soft quota is 3"),
        "{status}"
    );
    told(&admin(&server, &["quota", "clear", "stones"]));
    server
        .client()
        .put("/stones/more", &[7; LEN])
        .unwrap()
        .expect(200);
    let status = told(&admin(&server, &["status"]));
    assert!(!status.contains("soft quota"), "{status}");
    let list = told(&admin(
        &server,
        &["bucket", "ls", "--prefix", "st", "--json"],
    ));
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["buckets"][0]["usage"]["objects"], ROOM + 1);
    assert!(told(&admin(&server, &["bucket", "ls"])).contains("stones"));
    let unknown = admin(&server, &["quota", "get", "pebbles"]);
    assert_eq!(unknown.status.code(), Some(1));

    assert!(server.stop().success());
    let mut fsck = command();
    let census = fsck
        .args(["fsck"])
        .arg(server.disks.argument())
        .output()
        .unwrap();
    assert!(census.status.success(), "{census:?}");
}
