//! How the server begins, ends, and what it does with what comes over a connection.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use actix_web::web;

use super::{routes, runtime};
use crate::{
    Runtime,
    http::{Routes, serve},
};

/// A server on a port of its own; its thread ends with `serve`.
struct Running {
    runtime: Runtime,
    address: SocketAddr,
    serving: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start() -> Self {
        let runtime = runtime();
        let (tell, told) = std::sync::mpsc::channel();
        let served = runtime.clone();
        let serving = std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let stopping = web::Data::new(served.shutdown.clone());
            let routes = Routes::new(move |config| {
                config.app_data(stopping.clone());
                routes(config);
            });
            tokio.block_on(serve(&served, routes, move |address| tell.send(address).expect("somebody listens")))
        });
        let address = told.recv_timeout(Duration::from_secs(10)).expect("it listens");
        Self { runtime, address, serving }
    }

    fn send(&self, path: &str) -> TcpStream {
        self.send_a("GET", path)
    }

    fn send_a(&self, method: &str, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).expect("sends");
        stream
    }
}

fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with(end) && stream.read(&mut byte).expect("answers in time") > 0 {
        text.push(char::from(byte[0]));
    }
    text
}

#[test]
fn a_stop_answers_what_is_under_way_and_does_not_wait_for_idle_connections() {
    let server = Running::start();
    let mut idle = server.send("/health/live");
    assert!(read_until(&mut idle, "\r\n\r\n").starts_with("HTTP/1.1 200"));
    let mut under_way = server.send("/slow");
    let seen = server.send("/health/ready");
    drop(seen);
    // The request is under way once the server has it; the idle connection stays open meanwhile.
    let mut probe = server.send("/health/live");
    read_until(&mut probe, "}");

    let stopped = Instant::now();
    server.runtime.shutdown.cancel();
    assert!(read_until(&mut under_way, "done").ends_with("done"));
    server.serving.join().expect("no panic").expect("ends well");
    assert!(stopped.elapsed() < Duration::from_secs(3), "idle clients keep nobody: {:?}", stopped.elapsed());
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    let server = Running::start();
    let path = "/orders/0190163d-8694-739b-aea5-966c26f8ad91";
    let mut get = server.send(path);
    let mut head = server.send_a("HEAD", path);
    let (got, mut told) = (read_until(&mut get, "\r\n\r\n"), read_until(&mut head, "\r\n\r\n"));
    let length = |head: &str| head.lines().find(|line| line.starts_with("content-length: ")).map(ToOwned::to_owned);
    assert!(told.starts_with("HTTP/1.1 200") && length(&told) > Some("content-length: 1".to_owned()), "{told}");
    assert_eq!(length(&told), length(&got));
    head.write_all(b"GET /health/live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sends");
    told.clear();
    head.read_to_string(&mut told).expect("answers");
    assert!(told.starts_with("HTTP/1.1 200"), "nothing stands between the two answers: {told}");
    server.runtime.shutdown.cancel();
    server.serving.join().expect("no panic").expect("ends well");
}

/// The server's parser answers these itself, and leaves nobody a word (docs/contract.md §3).
#[test]
fn what_is_no_http_is_refused_with_a_status_alone_and_the_connection_closed() {
    let server = Running::start();
    let many = "X: y\r\n".repeat(97);
    let long = format!("X: {}\r\n", "y".repeat(128 * 1024));
    for (sent, status) in [
        ("rubbish\r\n\r\n".to_owned(), 400),
        ("GET /health/live HTTP/1.1\r\nno header\r\n\r\n".to_owned(), 400),
        (format!("GET /health/live HTTP/1.1\r\n{many}\r\n"), 431),
        (format!("GET /health/live HTTP/1.1\r\n{long}\r\n"), 431),
        // Its head never ends.
        ("GET /health/live HTTP/1.1\r\nHost: test\r\n".to_owned(), 408),
    ] {
        let mut stream = TcpStream::connect(server.address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream.write_all(sent.as_bytes()).expect("sends");
        let told = read_until(&mut stream, "\r\n\r\n");
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
        assert!(told.contains("\r\ncontent-length: 0\r\n") && !told.contains("x-trace-id"), "{told}");
        // Closed, or reset with what was not read.
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "the connection is closed");
    }
    server.runtime.shutdown.cancel();
    server.serving.join().expect("no panic").expect("ends well");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut runtime = runtime();
    runtime.settings.http_addr = taken.local_addr().expect("an address");
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    let error = tokio.block_on(runtime.serve(Routes::new(routes))).expect_err("taken");
    assert!(format!("{error:#}").starts_with(&format!("listening on HTTP_ADDR {}", runtime.settings.http_addr)));
}
