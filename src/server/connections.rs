//! Accepting connections, and how much a client may keep one waiting.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

/// Headers of a request, and bytes of its head. More is refused by the parser.
const MAX_HEADERS: usize = 64;
const MAX_HEAD: usize = 16 << 10;

pub struct Connections {
    pub limit: usize,
    /// For a head, also between two requests.
    pub head_timeout: Duration,
    /// For taking the next piece of an answer.
    pub write_timeout: Duration,
    pub stopping: watch::Receiver<bool>,
}

impl Connections {
    /// Serves until the server stops and all requests under way are answered.
    pub async fn serve(self, listener: TcpListener, router: Router) {
        let places = Arc::new(Semaphore::new(self.limit));
        let mut stopping = self.stopping.clone();
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = stopped(&mut stopping) => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (router, stopping) = (router.clone(), self.stopping.clone());
                    let (head_timeout, write_timeout) = (self.head_timeout, self.write_timeout);
                    tokio::spawn(async move {
                        let _place = place;
                        let stream = patient(stream, write_timeout);
                        connection(stream, router, head_timeout, stopping).await;
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: some will be closed.
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        // All places are free when the last connection is closed.
        let all = u32::try_from(self.limit).unwrap_or(u32::MAX);
        let _ = places.acquire_many(all).await;
    }
}

/// A stream whose other side must not stop taking what is written.
fn patient(stream: TcpStream, write_timeout: Duration) -> Pin<Box<TimeoutStream<TcpStream>>> {
    // Events are small and should not wait for company.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(write_timeout));
    Box::pin(stream)
}

async fn connection(
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    router: Router,
    head_timeout: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended early: {error}");
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
