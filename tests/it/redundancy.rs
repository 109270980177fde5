//! The status of a store that has lost disks says how many more it survives.

use serde_json::Value;

use crate::metrics::least;
use crate::replaced_disks::{admin, told};
use crate::server::{Server, eventually};

fn status(server: &Server) -> Option<Value> {
    let output = admin(server, &["status", "--json"]);
    // Without a leader of the metadata, the answer is 503.
    output
        .status
        .success()
        .then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// Returns for each disk that is `up`, or that is not, whether it can be taken out.
fn can_be_taken_out(status: &Value, up: bool) -> Vec<bool> {
    let disks = status["disks"].as_array().unwrap().iter();
    let wanted = disks.filter(|disk| (disk["state"] == "up") == up);
    wanted
        .map(|disk| disk["can_be_taken_out"].as_bool().unwrap())
        .collect()
}

/// Returns the status once it says, counted with the disks that are up, that reads survive the loss
/// of this many disks.
fn status_with(server: &Server, reads_survive: u64) -> Value {
    let mut last = Value::Null;
    eventually("reads survive what they should", || {
        last = status(server).unwrap_or_default();
        let redundancy = &last["redundancy"];
        redundancy["reads_survive"] == reads_survive && redundancy["is_exact"] == true
    });
    last
}

/// Tried: with two of four disks away, the status said that all objects have all their shards.
#[test]
fn b_12_the_status_says_how_many_more_disks_may_be_lost() {
    let server = Server::fresh(4);
    let client = server.client();
    client.put("/kept", b"").unwrap().expect(200);
    client.put("/kept/small", b"small").unwrap().expect(200);
    client
        .put("/kept/large", &[7; 300_000])
        .unwrap()
        .expect(200);
    let whole = status_with(&server, 2);
    assert_eq!(whole["redundancy"]["writes_survive"], 2);
    assert_eq!(whole["redundancy"]["unreadable_writes"], 0);
    assert_eq!(can_be_taken_out(&whole, true), [true; 4]);
    let text = told(&admin(&server, &["status"]));
    assert!(
        text.contains("reads survive the loss of 2 more disks"),
        "{text}"
    );
    assert!(text.contains("All is well."), "{text}");

    server.disks.empty(3);
    server.disks.empty(4);
    eventually("both losses are noticed", || {
        status(&server).is_some_and(|status| can_be_taken_out(&status, false).len() == 2)
    });
    let lost = status_with(&server, 0);
    assert_eq!(lost["redundancy"]["writes_survive"], 0);
    assert_eq!(can_be_taken_out(&lost, true), [false; 2]);
    // They are missed already, and everything is read without them.
    assert_eq!(can_be_taken_out(&lost, false), [true; 2]);
    let text = told(&admin(&server, &["status"]));
    assert!(
        text.contains("reads survive the loss of 0 more disks"),
        "{text}"
    );
    assert!(
        !text.contains("all their shards") && !text.contains("well"),
        "{text}"
    );
    let metric = |name: &str| least(&server, name);
    assert_eq!(metric("drystone_read_losses_survived"), Some(0.0));
    assert_eq!(metric("drystone_write_losses_survived"), Some(0.0));
    assert_eq!(metric("drystone_unreadable_objects"), Some(0.0));

    // Scrub says what it could not look at.
    told(&admin(&server, &["scrub", "start"]));
    let mut scrub = Value::Null;
    eventually("the pass ends", || {
        scrub = status(&server).unwrap_or_default()["scrub"].clone();
        scrub["percent"] == 100
    });
    assert_eq!(
        (&scrub["shards_read"], &scrub["findings"]),
        (&2.into(), &0.into())
    );
    assert_eq!(
        (&scrub["shards_unread"], &scrub["disks_unread"]),
        (&2.into(), &2.into())
    );
    let text = told(&admin(&server, &["status"]));
    assert!(
        text.contains("2 shards and the metadata of 2 disks could not"),
        "{text}"
    );
    let read = client.get("/kept/large").unwrap().expect(200);
    assert_eq!(read.body, [7; 300_000]);
}
