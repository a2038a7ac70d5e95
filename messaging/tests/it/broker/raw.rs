//! One record, written to the broker byte by byte: what no client library would send.
//!
//! Produce v3 with a record batch of magic 2, as <https://kafka.apache.org/protocol> has them.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Broker;

const PRODUCE: i16 = 0;
const VERSION: i16 = 3;
const ALL_REPLICAS: i16 = -1;
const TIMEOUT_MS: i32 = 10_000;
const ABSENT: i64 = -1;

/// Sends a record whose one header has this name to partition 0.
///
/// # Panics
/// When the broker doesn't take it.
pub(crate) async fn send_with_header(broker: &Broker, topic: &str, value: &[u8], header: &[u8]) {
    let topic = broker.names.topic(topic);
    let request = request(&topic, &batch(value, header));
    let mut connection = TcpStream::connect(&broker.settings.brokers).await.expect("one broker's address");
    connection.write_all(&request).await.expect("the broker reads");
    let length = connection.read_i32().await.expect("an answer");
    let mut answer = vec![0; usize::try_from(length).expect("a length")];
    connection.read_exact(&mut answer).await.expect("the whole answer");
    // Correlation id, one topic, its name, one partition, its index: then the error code.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[at..at + 2], [0, 0], "the broker took it");
}

fn request(topic: &str, batch: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(PRODUCE.to_be_bytes());
    body.extend(VERSION.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    // No client id, no transaction.
    body.extend((-1_i16).to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend(ALL_REPLICAS.to_be_bytes());
    body.extend(TIMEOUT_MS.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(i16::try_from(topic.len()).expect("a short name").to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    with_length(&mut body, batch);
    let mut request = Vec::new();
    with_length(&mut request, &body);
    request
}

fn batch(value: &[u8], header: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0, 0];
    // No key, the value, one header with an empty value.
    record.push(1);
    varint(&mut record, value.len());
    record.extend(value);
    varint(&mut record, 1);
    varint(&mut record, header.len());
    record.extend(header);
    varint(&mut record, 0);

    let mut checked = Vec::new();
    // Attributes, last offset delta, both timestamps, producer id and epoch, base sequence, one record.
    checked.extend(0_i16.to_be_bytes());
    checked.extend(0_i32.to_be_bytes());
    checked.extend(0_i64.to_be_bytes());
    checked.extend(0_i64.to_be_bytes());
    checked.extend(ABSENT.to_be_bytes());
    checked.extend((-1_i16).to_be_bytes());
    checked.extend((-1_i32).to_be_bytes());
    checked.extend(1_i32.to_be_bytes());
    varint(&mut checked, record.len());
    checked.extend(record);

    let mut rest = (-1_i32).to_be_bytes().to_vec();
    rest.push(2);
    rest.extend(crc32c(&checked).to_be_bytes());
    rest.extend(checked);
    let mut batch = 0_i64.to_be_bytes().to_vec();
    with_length(&mut batch, &rest);
    batch
}

fn with_length(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(i32::try_from(bytes.len()).expect("not that long").to_be_bytes());
    to.extend(bytes);
}

/// Zigzag, seven bits at a time.
fn varint(to: &mut Vec<u8>, number: usize) {
    let mut rest = number * 2;
    while rest >= 0x80 {
        to.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    to.push(u8::try_from(rest).expect("seven bits"));
}

fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let shift = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}
