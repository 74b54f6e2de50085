//! One TCP connection: HTTP/1.1 by hyper with the deadlines that hyper itself does not keep.
//!
//! The head must arrive within [`HEAD_LIMIT`] (also on an idle connection: a client that keeps one open longer finds it closed and opens another). hyper's timer
//! does nothing unless one is set on the builder. A client that stops reading is dropped after [`WRITE_LIMIT`] without progress.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

/// Time for a request's head, and for an idle connection.
pub(crate) const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// Time without a byte of an answer being taken.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Bytes that hyper buffers of one head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Serves one connection until it is closed, idle for too long, or `stopping` turns true and its current request is answered.
pub(crate) async fn serve(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    let io = TokioIo::new(WriteLimited { stream, waiting: None });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(HEAD_BYTES_MAX).keep_alive(true);
    let mut connection = std::pin::pin!(builder.serve_connection(io, TowerToHyperService::new(router)).with_upgrades());
    // The guard that `wait_for` returns must not live across the next await.
    let stop = async {
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(target: "admin", %error, "connection ended early");
    }
}

/// A stream whose writes fail when the peer takes nothing for [`WRITE_LIMIT`].
struct WriteLimited<S> {
    stream: S,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteLimited<S> {
    /// Passes a finished write on; starts or checks the clock of a pending one.
    fn limited<T>(&mut self, context: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.waiting = None;
            return write;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_LIMIT)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteLimited<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteLimited<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limited(context, write)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = Pin::new(&mut self.stream).poll_flush(context);
        self.limited(context, flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = Pin::new(&mut self.stream).poll_shutdown(context);
        self.limited(context, shutdown)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.limited(context, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_dropped_and_a_slow_one_is_not() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut limited = WriteLimited { stream: near, waiting: None };
        let slow = async {
            let mut bytes = [0; 4];
            for _ in 0..3 {
                tokio::time::sleep(WRITE_LIMIT * 9 / 10).await;
                far.read_exact(&mut bytes).await.unwrap();
            }
        };
        let write = async { limited.write_all(&[0; 16]).await };
        let (wrote, ()) = tokio::join!(write, slow);
        wrote.unwrap();
        let started = Instant::now();
        assert_eq!(limited.write_all(&[0; 16]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), WRITE_LIMIT);
    }
}
