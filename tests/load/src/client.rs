//! A client so small that it doesn't hide the server: HTTP/1.1 over connections that are kept, one request
//! after the other on each, sent as ready-made bytes.
//!
//! What a load doesn't need is left out: redirects, TLS, chunked answers.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// Longer than any service takes; what comes later counts as no answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(45);
/// Below the services' keep-alive, so that no request is sent into a connection that is just being closed.
const IDLE_LIMIT: Duration = Duration::from_secs(2);
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
const USUAL_ANSWER_BYTES: usize = 4 * 1024;
const MAX_HEADERS: usize = 32;

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'c> {
    /// HTTP status.
    pub status: u16,
    /// The body, until the connection is used again.
    pub body: &'c [u8],
}

/// One connection, made when it is needed and kept.
pub struct Connection {
    address: String,
    stream: Option<TcpStream>,
    used: Instant,
    buffer: Vec<u8>,
}

impl Connection {
    /// To `host:port`.
    pub fn to(address: &str) -> Self {
        let buffer = Vec::with_capacity(USUAL_ANSWER_BYTES);
        Self { address: address.to_owned(), stream: None, used: Instant::now(), buffer }
    }

    /// Sends a whole request and reads its answer. After an error nobody knows whether the request was
    /// handled; the next one goes over a new connection.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        let asked = timeout(ANSWER_LIMIT, self.ask_in_time(request)).await;
        let framed = asked.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
        match framed {
            Ok(Framed { status, head, length }) => Ok(Answer { status, body: &self.buffer[head..head + length] }),
            Err(error) => {
                self.stream = None;
                Err(error)
            }
        }
    }

    async fn ask_in_time(&mut self, request: &[u8]) -> io::Result<Framed> {
        let kept = self.stream.take_if(|_| self.used.elapsed() < IDLE_LIMIT);
        let mut stream = if let Some(stream) = kept {
            stream
        } else {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            stream
        };
        stream.write_all(request).await?;
        self.buffer.clear();
        let framed = loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match Framed::of(&self.buffer)? {
                Some(framed) => break framed,
                None if self.buffer.len() > MAX_ANSWER_BYTES => return Err(odd("an answer without an end")),
                None => {}
            }
        };
        self.used = Instant::now();
        self.stream = Some(stream);
        Ok(framed)
    }
}

/// Where the body of a whole answer lies.
struct Framed {
    status: u16,
    head: usize,
    length: usize,
}

impl Framed {
    /// `None`: more has to be read.
    fn of(answer: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(answer).map_err(io::Error::other)? else {
            return Ok(None);
        };
        let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
        let (Some(length), Some(status)) = (length, response.code) else {
            return Err(odd("an answer without a length"));
        };
        Ok((answer.len() >= head + length).then_some(Self { status, head, length }))
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// `host:port` of a base URL such as `http://127.0.0.1:8083`.
pub fn address_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_once_its_body_is_there() {
        let answer = b"HTTP/1.1 202 Accepted\r\nX-Trace-Id: 1\r\nContent-Length: 3\r\n\r\nabc";
        for end in 0..answer.len() {
            assert!(Framed::of(&answer[..end]).unwrap().is_none(), "{end}");
        }
        let framed = Framed::of(answer).unwrap().unwrap();
        assert_eq!((framed.status, &answer[framed.head..framed.head + framed.length]), (202, &b"abc"[..]));
    }

    #[test]
    fn what_has_no_length_or_is_no_http_is_an_error() {
        assert!(Framed::of(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Framed::of(b"220 mail.example.com ESMTP\r\n").is_err());
    }

    #[test]
    fn the_address_is_host_and_port() {
        assert_eq!(address_of("http://127.0.0.1:8083"), "127.0.0.1:8083");
        assert_eq!(address_of("http://127.0.0.1:8083/coupons"), "127.0.0.1:8083");
    }
}
