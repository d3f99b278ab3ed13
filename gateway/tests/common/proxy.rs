//! A bad link: TCP between gateway and broker, with faults on demand. TLS passes through unread.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What is wrong with the link now.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// New connections are closed at once.
    refuse: bool,
    /// Each way.
    delay: Duration,
    /// Towards the broker; 0 is no limit.
    bytes_per_s: u64,
    /// What the broker says does not arrive.
    deaf: bool,
    /// Counts the cuts; a connection ends when it changes.
    cuts: u64,
}

/// A link on a free loopback port; it ends with the test.
pub struct Proxy {
    pub port: u16,
    link: watch::Sender<Link>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicU64,
    /// Bytes towards the broker until a cut; below 0: none is planned.
    until_cut: AtomicI64,
}

impl Proxy {
    pub async fn start(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { until_cut: AtomicI64::new(-1), ..Shared::default() });
        let link = watch::Sender::new(Link::default());
        let (all, of_all) = (link.clone(), Arc::clone(&shared));
        let task = tokio::spawn(async move {
            while let Ok((gateway, _)) = listener.accept().await {
                if all.borrow().refuse {
                    continue;
                }
                of_all.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(gateway, broker, all.clone(), Arc::clone(&of_all)));
            }
        });
        Self { port, link, shared, task }
    }

    /// Connections that were let through.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Breaks what is connected.
    pub fn cut(&self) {
        self.link.send_modify(|link| link.cuts += 1);
    }

    /// Breaks it once this many more bytes went towards the broker: in the middle of a publish.
    pub fn cut_after(&self, bytes: u32) {
        self.shared.until_cut.store(bytes.into(), Ordering::Relaxed);
    }

    /// Closes new connections at once, or no longer.
    pub fn refuse(&self, refuse: bool) {
        self.link.send_modify(|link| link.refuse = refuse);
    }

    /// Half a round trip.
    pub fn delay(&self, each_way: Duration) {
        self.link.send_modify(|link| link.delay = each_way);
    }

    /// A slow link towards the broker; 0 is no limit.
    pub fn bytes_per_s(&self, bytes_per_s: u64) {
        self.link.send_modify(|link| link.bytes_per_s = bytes_per_s);
    }

    /// PUBACKs are lost for a while, and then the connection: TLS cannot go on without those bytes.
    pub async fn lose_answers(&self, lasts: Duration) {
        self.link.send_modify(|link| link.deaf = true);
        tokio::time::sleep(lasts).await;
        self.link.send_modify(|link| {
            link.deaf = false;
            link.cuts += 1;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn serve(gateway: TcpStream, broker: u16, link: watch::Sender<Link>, shared: Arc<Shared>) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)).await else { return };
    let (mut from_gateway, mut to_gateway) = gateway.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let mut cut = link.subscribe();
    let cuts = cut.borrow_and_update().cuts;
    let up = {
        let link = &link;
        let pass = move |bytes: &mut Vec<u8>| {
            let left = shared.until_cut.load(Ordering::Relaxed);
            if left < 0 {
                return;
            }
            let after = left - bytes.len() as i64;
            shared.until_cut.store(after.max(-1), Ordering::Relaxed);
            if after < 0 {
                bytes.truncate(left as usize);
                let link = link.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(1)).await; // what is before the cut arrives
                    link.send_modify(|link| link.cuts += 1);
                });
            }
        };
        pump(&mut from_gateway, &mut to_broker, link, pass, true)
    };
    let down = {
        let pass = |bytes: &mut Vec<u8>| {
            if link.borrow().deaf {
                bytes.clear();
            }
        };
        pump(&mut from_broker, &mut to_gateway, &link, pass, false)
    };
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = cut.wait_for(|link| link.cuts != cuts) => {}
    }
}

/// Bytes arrive `delay` after they were read, and no faster than the link is.
async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    link: &watch::Sender<Link>,
    mut pass: impl FnMut(&mut Vec<u8>),
    limited: bool,
) {
    let (on_the_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let read = async move {
        let mut buffer = vec![0; 4_096];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let mut bytes = buffer[..count].to_vec();
            pass(&mut bytes);
            let due = Instant::now() + link.borrow().delay;
            if on_the_way.send((due, bytes)).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((due, bytes)) = arriving.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
            let bytes_per_s = link.borrow().bytes_per_s;
            if limited && bytes_per_s > 0 {
                let takes = bytes.len() as f64 / bytes_per_s as f64;
                tokio::time::sleep(Duration::from_secs_f64(takes)).await;
            }
        }
    };
    // At the end of what is read, what is on the way still arrives.
    let read = async {
        read.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}
