//! A wire to the database that can be slow or cut: forwards connections, each as late and each answer as late as told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The wire; what it forwards ends with it.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Where it listens.
    pub(crate) port: u16,
    delays: Arc<Delays>,
    connections: Arc<Mutex<JoinSet<()>>>,
    _listener: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Delays {
    connect: AtomicU64,
    answer: AtomicU64,
}

impl Wire {
    /// A wire to a port of this machine, without delays.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("its address").port();
        let (delays, connections) = (Arc::<Delays>::default(), Arc::<Mutex<JoinSet<()>>>::default());
        let (told, carried) = (Arc::clone(&delays), Arc::clone(&connections));
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                carried.lock().expect("no panics").spawn(carry(near, port, Arc::clone(&told)));
            }
        });
        Self { port: own, delays, connections, _listener: listening }
    }

    /// Lets new connections wait this long for their first byte.
    pub(crate) fn connect_after(&self, delay: Duration) {
        self.delays.connect.store(milliseconds(delay), Ordering::Relaxed);
    }

    /// Lets each answer of the database wait this long.
    pub(crate) fn answer_after(&self, delay: Duration) {
        self.delays.answer.store(milliseconds(delay), Ordering::Relaxed);
    }

    /// Ends all connections of now.
    pub(crate) fn cut(&self) {
        self.connections.lock().expect("no panics").abort_all();
    }
}

async fn carry(near: TcpStream, port: u16, delays: Arc<Delays>) {
    tokio::time::sleep(Duration::from_millis(delays.connect.load(Ordering::Relaxed))).await;
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
    let questions = async { tokio::io::copy(&mut from_near, &mut to_far).await.map(drop) };
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_far.read(&mut buffer).await?;
            if length == 0 {
                return Ok::<_, std::io::Error>(());
            }
            tokio::time::sleep(Duration::from_millis(delays.answer.load(Ordering::Relaxed))).await;
            to_near.write_all(&buffer[..length]).await?;
        }
    };
    // Either side may end the connection; both ends close with this task.
    tokio::select! {
        _ = questions => {}
        _ = answers => {}
    }
}

fn milliseconds(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).expect("a short delay")
}
