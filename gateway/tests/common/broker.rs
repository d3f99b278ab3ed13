//! An MQTT 5 broker as bad as a test wants it: it takes publishes, and a script says what goes wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the broker does with one publish.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// Keeps and confirms it.
    Ack,
    /// Keeps it, confirms it twice.
    AckTwice,
    /// Keeps it, but says nothing, as if the PUBACK were lost.
    Silence,
    /// Keeps it, then the connection breaks.
    CutAfter,
    /// The connection breaks before it arrives.
    CutBefore,
    /// Refuses it with this reason code.
    Refuse(u8),
}

/// What arrived: each topic with its payload, and how often.
pub type Kept = HashMap<String, (Vec<u8>, u32)>;

/// A broker on a free loopback port; it ends with the test's runtime.
pub struct Broker {
    pub port: u16,
    pub kept: Arc<Mutex<Kept>>,
    pub connections: Arc<Mutex<u32>>,
}

impl Broker {
    pub async fn start(fate: impl FnMut(&str) -> Fate + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let kept = Arc::new(Mutex::new(Kept::new()));
        let connections = Arc::new(Mutex::new(0));
        let fate = Arc::new(Mutex::new(fate));
        let (all_kept, all_connections) = (Arc::clone(&kept), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                *all_connections.lock().unwrap() += 1;
                let (kept, fate) = (Arc::clone(&all_kept), Arc::clone(&fate));
                tokio::spawn(async move {
                    let decide = |topic: &str| (fate.lock().unwrap())(topic);
                    let _ = serve(socket, &kept, decide).await;
                });
            }
        });
        Self { port, kept, connections }
    }
}

async fn serve(
    socket: TcpStream,
    kept: &Mutex<Kept>,
    mut fate: impl FnMut(&str) -> Fate,
) -> std::io::Result<()> {
    let (reader, mut writer) = socket.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let first = reader.read_u8().await?;
        let mut packet = vec![0; length(&mut reader).await?];
        reader.read_exact(&mut packet).await?;
        match first >> 4 {
            1 => writer.write_all(&[0x20, 3, 0, 0, 0]).await?, // CONNECT: CONNACK, new session, success
            3 => {
                let (topic, id, payload) = publish(&packet);
                let fate = fate(&topic);
                if fate == Fate::CutBefore {
                    return Ok(());
                }
                if !matches!(fate, Fate::Refuse(_)) {
                    kept.lock().unwrap().entry(topic).or_insert((payload, 0)).1 += 1;
                }
                let ack = [0x40, 2, id[0], id[1]];
                match fate {
                    Fate::Ack => writer.write_all(&ack).await?,
                    Fate::AckTwice => writer.write_all(&[ack, ack].concat()).await?,
                    Fate::Refuse(reason) => writer.write_all(&[0x40, 3, id[0], id[1], reason]).await?,
                    Fate::CutAfter | Fate::CutBefore => return Ok(()),
                    Fate::Silence => {}
                }
            }
            12 => writer.write_all(&[0xd0, 0]).await?, // PINGREQ: PINGRESP
            _ => return Ok(()),
        }
    }
}

/// A length in up to four bytes of 7 bits, the lowest first (MQTT 5, section 1.5.5).
async fn length(reader: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<usize> {
    let mut sum = 0;
    for place in 0..4 {
        let byte = reader.read_u8().await?;
        sum |= usize::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    Ok(sum)
}

/// Topic, packet id and payload of a QoS 1 PUBLISH with fewer than 128 bytes of properties.
fn publish(packet: &[u8]) -> (String, [u8; 2], Vec<u8>) {
    let topic_end = 2 + usize::from(u16::from_be_bytes([packet[0], packet[1]]));
    let topic = String::from_utf8(packet[2..topic_end].to_vec()).unwrap();
    let id = [packet[topic_end], packet[topic_end + 1]];
    let properties = usize::from(packet[topic_end + 2]);
    (topic, id, packet[topic_end + 3 + properties..].to_vec())
}
