//! Modbus TCP against the crate's own server, RTU against a device on a pseudoterminal.

use std::future::{Ready, ready};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

use super::running::{Gateway, PATIENCE, values};
use super::serial::Port;

/// Unit 1 has holding registers 0 to 9 and input registers 0 to 1.
#[derive(Clone)]
struct Meter;

impl Service for Meter {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, asked: Self::Request) -> Self::Future {
        let holding: Vec<u16> = vec![215, 65_535, 1, 2, 0x41ac, 0, 0x7fc0, 0, 0, 0];
        let words = |table: &[u16], from: u16, count: u16| {
            let words = table.get(usize::from(from)..usize::from(from) + usize::from(count));
            words.map(<[u16]>::to_vec).ok_or(ExceptionCode::IllegalDataAddress)
        };
        ready(match asked.request {
            _ if asked.slave != 1 => Err(ExceptionCode::GatewayTargetDevice),
            Request::ReadHoldingRegisters(from, count) => {
                words(&holding, from, count).map(Response::ReadHoldingRegisters)
            }
            Request::ReadInputRegisters(from, count) => {
                words(&[1_234, 5_678], from, count).map(Response::ReadInputRegisters)
            }
            _ => Err(ExceptionCode::IllegalFunction),
        })
    }
}

async fn serve(address: SocketAddr) -> JoinHandle<()> {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let connected =
            |stream, address| async move { accept_tcp_connection(stream, address, |_| Ok(Some(Meter))) };
        let _ = Server::new(listener).serve(&connected, |_| {}).await;
    })
}

fn register(channel: &str, rest: &str) -> String {
    format!("[[source.register]]\nchannel = \"{channel}\"\nperiod_ms = 50\n{rest}\n")
}

fn tcp(port: u16, registers: &[(&str, &str)]) -> String {
    let registers: String = registers.iter().map(|(channel, rest)| register(channel, rest)).collect();
    format!(
        "[[source]]\nkind = \"modbus\"\nhost = \"127.0.0.1\"\nport = {port}\ntimeout_ms = 300\ndevice = \"meter\"\n{registers}"
    )
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn registers_are_read_and_what_a_device_refuses_is_a_gap() {
    let address = free_address().await;
    let _server = serve(address).await;
    let sources = tcp(
        address.port(),
        &[
            ("voltage", "address = 0\nscale = 0.1"),
            ("signed", "address = 1\ntype = \"i16\""),
            ("big", "address = 2\ntype = \"u32\""),
            ("little", "address = 2\ntype = \"u32\"\nword_order = \"little\""),
            ("float", "address = 4\ntype = \"f32\""),
            ("input", "address = 1\nfunction = \"input\"\nscale = 0.01\noffset = -10"),
            ("nan", "address = 6\ntype = \"f32\""),
            ("refused", "address = 4000"),
            ("stranger", "address = 0\nunit = 9"),
        ],
    );
    let gateway = Gateway::start(&sources, Vec::new());
    gateway.until("each was read twice", |bronze| bronze.rows.len() >= 27).await;
    let (_, bronze) = gateway.stop().await;
    for (channel, value) in [
        ("voltage", Some(21.5)),
        ("signed", Some(-1.0)),
        ("big", Some(65_538.0)),
        ("little", Some(131_073.0)),
        ("float", Some(21.5)),
        ("input", Some(46.78)),
        ("nan", None),
        ("refused", None),
        ("stranger", None),
    ] {
        let found = values(&bronze, channel);
        assert!(!found.is_empty() && found.iter().all(|(device, _)| device == "meter"), "{channel}");
        assert!(found.iter().all(|(_, found)| *found == value), "{channel}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_leaves_gaps_until_it_comes_and_again_when_it_goes() {
    let address = free_address().await;
    let gateway =
        Gateway::start(&tcp(address.port(), &[("voltage", "address = 0\nscale = 0.1")]), Vec::new());
    let gaps = |bronze: &super::common::Bronze| {
        values(bronze, "voltage").iter().filter(|(_, v)| v.is_none()).count()
    };
    let before = gateway.until("there are gaps", |bronze| gaps(bronze) >= 3).await;
    assert_eq!(gaps(&before), before.rows.len());
    let server = serve(address).await;
    gateway.until("there are values", |bronze| bronze.rows.len() - gaps(bronze) >= 3).await;
    server.abort();
    let _ = server.await;
    let there = gaps(&gateway.until("bronze is read", |_| true).await);
    gateway.until("there are gaps again", |bronze| gaps(bronze) >= there + 3).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_garbage_are_gaps_and_the_other_sources_go_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap(); // accepts, and never answers
    let address = free_address().await;
    let _server = serve(address).await;
    tokio::spawn(async move {
        let mut random = fastrand::Rng::with_seed(5);
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut asked = [0; 12];
            while socket.read_exact(&mut asked).await.is_ok() {
                let mut answer: Vec<u8> = (0..random.usize(1..40)).map(|_| random.u8(..)).collect();
                if random.bool() {
                    // A right header, so that the garbage comes further in.
                    let rest = answer.len().min(30);
                    answer = [&asked[..4], &[0, rest as u8 + 1], &asked[6..7], &answer[..rest]].concat();
                }
                if socket.write_all(&answer).await.is_err() {
                    break;
                }
            }
        }
    });
    let sources = [
        tcp(port, &[("garbage", "address = 0\ntype = \"i32\"")]),
        tcp(deaf.local_addr().unwrap().port(), &[("deaf", "address = 0")]),
        tcp(address.port(), &[("voltage", "address = 0\nscale = 0.1")]),
    ];
    let gateway = Gateway::start(&sources.concat(), Vec::new());
    let count = |bronze: &super::common::Bronze, channel| values(bronze, channel).len();
    gateway
        .until("all of them are read", |b| {
            count(b, "garbage") >= 20 && count(b, "deaf") >= 4 && count(b, "voltage") >= 40
        })
        .await;
    let (_, bronze) = gateway.stop().await;
    assert!(values(&bronze, "deaf").iter().all(|(_, value)| value.is_none()));
    assert!(values(&bronze, "voltage").iter().all(|(_, value)| *value == Some(21.5)));
}

/// Answers reads of input register 0 of unit 7 on its wire, and damages every third answer.
fn slave(mut wire: std::fs::File) {
    let started = std::time::Instant::now();
    let mut asked = [0; 8];
    let mut answers = 0;
    while started.elapsed() < PATIENCE {
        if wire.read_exact(&mut asked).is_err() {
            std::thread::sleep(Duration::from_millis(5)); // nobody has the port open now
            continue;
        }
        assert_eq!((asked[0], asked[1], crc(&asked)), (7, 4, 0), "a whole request with its checksum");
        answers += 1;
        let mut answer = vec![7, 4, 2, 0, 215];
        answer.extend(crc(&answer).to_le_bytes());
        if answers % 3 == 0 {
            answer[4] ^= 1;
        }
        let _ = wire.write_all(&answer);
    }
}

/// The checksum of Modbus RTU (CRC-16, polynomial 0xa001 reflected); 0 over a message with its own.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn rtu_reads_over_a_serial_line_and_a_damaged_answer_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rs485");
    let port = Port::plug(&path);
    let wire = port.wire.try_clone().unwrap();
    std::thread::spawn(move || slave(wire));
    let register = register("temperature", "unit = 7\naddress = 0\nfunction = \"input\"\nscale = 0.1");
    let sources = format!(
        "[[source]]\nkind = \"modbus\"\npath = {path:?}\nbaud = 19200\nparity = \"none\"\ntimeout_ms = 200\n{register}"
    );
    let gateway = Gateway::start(&sources, Vec::new());
    gateway
        .until("values come after a gap", |bronze| {
            let values = values(bronze, "temperature");
            let gap = values.iter().position(|(_, value)| value.is_none());
            gap.is_some_and(|gap| values[gap..].iter().any(|(_, value)| value.is_some()))
        })
        .await;
    let (_, bronze) = gateway.stop().await;
    assert!(values(&bronze, "temperature").iter().all(|(_, value)| value.is_none_or(|value| value == 21.5)));
}
