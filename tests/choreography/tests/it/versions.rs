//! Both versions of `order-cancelled` on the wire, to everybody who undoes something on it: from its topic, over the
//! ladder, from the dead letters (docs/decisions/0020).

use common_events::{OrderId, Service};
use messaging::{Delivered, OwnTopic, Record, Rung};
use serde_json::json;

use crate::reader::{READERS, Reader, WITH_PARKED, Written};

/// Orders for which the reader holds something, and their cancels, one of each kind.
async fn cancels(reader: &Reader) -> Vec<(OrderId, Written, Record)> {
    let mut cancels = Vec::new();
    for written in Written::ALL {
        let order = reader.hold().await;
        cancels.push((order, written, reader.cancel(order, written)));
    }
    cancels
}

fn records(cancels: &[(OrderId, Written, Record)]) -> Vec<Record> {
    cancels.iter().map(|(_, _, record)| record.clone()).collect()
}

/// Each order is undone once; whoever says why says it as it was written.
async fn all_are_undone(reader: &Reader, service: Service, cancels: &[(OrderId, Written, Record)]) {
    for (order, written, _) in cancels {
        let undone = reader.undone(*order).await;
        assert_eq!(undone.len(), 1, "{service}, {written:?}: {undone:?}");
        if service == Service::Payment {
            assert_eq!(undone[0]["reason"], json!(written.reason()), "{written:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_undoes_what_it_did_whichever_version_the_cancel_is_of() {
    for service in READERS {
        let reader = Reader::open(service).await;
        let cancels = cancels(&reader).await;
        let records = records(&cancels);
        assert_eq!(reader.deliver(&records).await, Delivered { applied: 3, ..Delivered::default() }, "{service}");
        assert_eq!(reader.deliver(&records).await, Delivered { duplicates: 3, ..Delivered::default() }, "{service}");
        all_are_undone(&reader, service, &cancels).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_of_either_version_is_handled_from_the_ladder() {
    for service in READERS {
        let reader = Reader::open(service).await;
        let cancels = cancels(&reader).await;
        reader.break_everything().await;
        assert_eq!(reader.deliver(&records(&cancels)).await.retrying, 3, "{service}");
        reader.mend_everything().await;
        let over = reader.carry(OwnTopic::Retry(Rung::First)).await;
        assert_eq!(over, Delivered { applied: 3, ..Delivered::default() }, "{service}");
        all_are_undone(&reader, service, &cancels).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_of_either_version_that_died_is_replayed_once() {
    for service in READERS {
        let reader = Reader::open(service).await;
        let cancels = cancels(&reader).await;
        reader.break_everything().await;
        assert_eq!(reader.deliver(&records(&cancels)).await.retrying, 3, "{service}");
        for rung in [Rung::First, Rung::Second] {
            assert_eq!(reader.carry(OwnTopic::Retry(rung)).await.retrying, 3, "{service}");
        }
        assert_eq!(reader.carry(OwnTopic::Retry(Rung::Third)).await.dead, 3, "{service}");
        reader.mend_everything().await;
        for (order, _, _) in &cancels {
            assert_eq!(reader.undone(*order).await, [json!(null); 0]);
        }
        let ended = reader.replay().await.expect("there are dead letters");
        assert_eq!((&ended["applied"], &ended["deadAgain"]), (&json!(3), &json!(0)), "{service}: {ended}");
        assert_eq!(reader.replay().await, Err("nothing-matches".to_owned()));
        all_are_undone(&reader, service, &cancels).await;
    }
}

/// The old instance dies before it has committed its offset, or offsets are set back: the event comes again by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_whose_event_comes_again_to_a_release_that_knows_it_is_closed() {
    for service in READERS {
        let reader = Reader::open(service).await;
        let order = reader.hold().await;
        let cancel = [reader.cancel(order, Written::InVersion2)];
        assert_eq!(reader.release_before().deliver(&cancel).await.expect("the database answers").dead, 1, "{service}");
        assert_eq!(reader.group.close_applied().await.expect("the database answers"), 0, "{service}");
        assert_eq!(reader.deliver(&cancel).await.applied, 1, "{service}");
        assert_eq!(reader.group.close_applied().await.expect("the database answers"), 1, "{service}");
        assert_eq!(reader.causes().await, [""; 0], "{service}");
        assert_eq!(reader.replay().await, Err("nothing-matches".to_owned()));
        assert_eq!(reader.undone(order).await.len(), 1, "{service}");
    }
}

/// Both are of one order, and so of one key.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_of_either_version_waits_behind_a_parked_one_of_the_other_and_all_is_undone_once() {
    for service in READERS {
        let reader = Reader::open_with(service, WITH_PARKED).await;
        for (head, follower) in [(Written::InVersion1, Written::InVersion2), (Written::InVersion2, Written::InVersion1)]
        {
            let order = reader.hold().await;
            let (first, second) = (reader.cancel(order, head), reader.cancel(order, follower));
            reader.break_everything().await;
            assert_eq!(reader.deliver(&[first]).await.retrying, 1, "{service}");
            assert_eq!(reader.deliver(&[second]).await.waiting, 1, "{service}");
            for rung in [Rung::First, Rung::Second] {
                assert_eq!(reader.carry(OwnTopic::Retry(rung)).await.retrying, 1, "{service}");
            }
            assert_eq!(reader.carry(OwnTopic::Retry(Rung::Third)).await.parked, 1, "{service}");
            reader.mend_everything().await;
            let applied = Delivered { applied: 1, ..Delivered::default() };
            assert_eq!(reader.group.try_parked().await.expect("the database answers"), applied, "{service}, {head:?}");
            assert_eq!(reader.group.drain().await.expect("the database answers"), applied, "{service}, {follower:?}");
            assert_eq!(reader.undone(order).await.len(), 1, "{service}");
        }
    }
}

/// Readers first: where that wasn't so, nothing is lost. The release that knows the version replays it.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_newer_than_its_reader_waits_among_the_dead_letters_for_the_release_that_knows_it() {
    for service in READERS {
        let reader = Reader::open(service).await;
        let cancels = cancels(&reader).await;
        let (old, new): (Vec<_>, Vec<_>) =
            cancels.clone().into_iter().partition(|(_, written, _)| *written == Written::InVersion1);
        let before = reader.release_before();
        let delivered = before.deliver(&records(&new)).await.expect("the database answers");
        assert_eq!(delivered, Delivered { dead: 2, ..Delivered::default() }, "{service}");
        assert_eq!(reader.causes().await, ["newer-version"; 2], "{service}");

        assert_eq!(reader.deliver(&records(&old)).await.applied, 1);
        let ended = reader.replay().await.expect("there are dead letters");
        assert_eq!((&ended["applied"], &ended["deadAgain"]), (&json!(2), &json!(0)), "{service}: {ended}");
        assert_eq!(reader.deliver(&records(&new)).await.duplicates, 2, "{service}");
        all_are_undone(&reader, service, &cancels).await;
    }
}
