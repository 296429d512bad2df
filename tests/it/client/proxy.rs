//! A bad network: connections through it are cut after so many bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A stretch of network in front of a server.
pub struct Proxy {
    pub url: String,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    /// `limit` says how many bytes of answers the connection of a number lets through.
    pub fn before(server: &str, limit: impl Fn(usize) -> usize + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (server, cuts) = (server.to_owned(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&cuts);
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (limit, cuts) = (limit(number), Arc::clone(&counted));
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                std::thread::spawn(move || {
                    if lets_through(server, client, limit) {
                        cuts.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { url, cuts }
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Answers whether it was cut.
fn lets_through(mut server: TcpStream, mut client: TcpStream, limit: usize) -> bool {
    let (mut buffer, mut left) = ([0; 4096], limit);
    let is_cut = loop {
        let Ok(length @ 1..) = server.read(&mut buffer) else { break false };
        let passed = length.min(left);
        if client.write_all(&buffer[..passed]).is_err() {
            break false;
        }
        left -= passed;
        if passed < length {
            break true;
        }
    };
    for stream in [server, client] {
        let _ = stream.shutdown(Shutdown::Both);
    }
    is_cut
}
