//! Registers of Modbus devices: over TCP, or RTU over a serial port.
//!
//! One source is one bus: its registers are read one after another, each at its own period. What gives
//! no value is a reading flagged `MISSING`: an exception, no answer in `timeout_ms`, no connection, a
//! float that is not a number. An exception leaves the connection as it is; after anything else it is
//! made anew, so that a late answer is never taken for the next one. While there is no connection,
//! registers that are due are missing at once, without waiting for each. A period that passed unread is
//! not made up for.

mod register;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ingot_agent::Quality;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_modbus::client::{Context, rtu, tcp};
use tokio_modbus::prelude::{Reader, SlaveContext};
use tokio_modbus::{ExceptionCode, Slave};

pub use register::{Function, Number, Register, WordOrder};

use super::notice::Link;
use super::port::{self, Parity};
use super::{Chunk, Outlet, RETRY, Sample, Stamp};

/// A bus and what is read from it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModbusConfig {
    /// How the bus is reached.
    pub bus: ModbusBus,
    /// Longest wait for an answer or a connection, in milliseconds.
    pub timeout_ms: u64,
    /// At least one.
    pub registers: Vec<Register>,
}

/// How a bus is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModbusBus {
    /// Modbus TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// TCP port, usually 502.
        port: u16,
    },
    /// Modbus RTU; 8 data bits, 1 stop bit.
    Rtu {
        /// The port's character device.
        path: PathBuf,
        /// Bits a second.
        baud: u32,
        /// The parity bit.
        parity: Parity,
    },
}

impl ModbusBus {
    /// Its serial port, if it has one.
    pub fn serial_port(&self) -> Option<&PathBuf> {
        match self {
            Self::Tcp { .. } => None,
            Self::Rtu { path, .. } => Some(path),
        }
    }
}

impl std::fmt::Display for ModbusBus {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(to, "modbus {host}:{port}"),
            Self::Rtu { path, .. } => write!(to, "modbus {}", path.display()),
        }
    }
}

/// Reads every register when it is due, until intake stops.
pub(super) async fn run(config: ModbusConfig, mut outlet: Outlet) {
    let start = Instant::now();
    let mut due = vec![start; config.registers.len()];
    let mut client = Client::new(&config);
    loop {
        let Some((place, at)) = due.iter().copied().enumerate().min_by_key(|(_, at)| *at) else {
            return;
        };
        let register = &config.registers[place];
        let period = Duration::from_millis(register.period_ms);
        tokio::select! {
            () = sleep_until(at) => {}
            () = outlet.stopped() => return,
        }
        let value = tokio::select! {
            value = client.read(register) => value,
            () = outlet.stopped() => return,
        };
        let mut chunk = Chunk { samples: vec![sample(register, value)], ..Chunk::default() };
        if !outlet.send(&mut chunk).await {
            return;
        }
        let late = Instant::now().saturating_duration_since(at);
        let passed = late.as_millis() as u64 / register.period_ms.max(1);
        due[place] = at + period * (u32::try_from(passed).unwrap_or(u32::MAX - 1) + 1);
    }
}

fn sample(register: &Register, value: Option<f64>) -> Sample {
    Sample {
        device: register.device.as_str().into(),
        boot_seq: None,
        channel: register.channel.as_str().into(),
        at: Stamp::now(),
        value: value.unwrap_or(0.0),
        quality: if value.is_some() { Quality::GOOD } else { Quality::MISSING },
    }
}

/// The connection, made when it is needed.
struct Client<'a> {
    config: &'a ModbusConfig,
    link: Link,
    connection: Option<Context>,
    /// No new connection is tried before.
    next_try: Instant,
    /// By register: whether it gives values.
    registers: Vec<Link>,
}

impl<'a> Client<'a> {
    fn new(config: &'a ModbusConfig) -> Self {
        let name = |register: &Register| Link::new(format!("{}, {register}", config.bus));
        Self {
            config,
            link: Link::new(config.bus.to_string()),
            connection: None,
            next_try: Instant::now(),
            registers: config.registers.iter().map(name).collect(),
        }
    }

    /// The register's value; `None` if it has none now. Returns within twice `timeout_ms`.
    async fn read(&mut self, register: &Register) -> Option<f64> {
        let limit = Duration::from_millis(self.config.timeout_ms);
        if self.connection.is_none() {
            if Instant::now() < self.next_try {
                return None;
            }
            match timeout(limit, connect(&self.config.bus)).await {
                Ok(Ok(connection)) => {
                    self.link.up();
                    self.connection = Some(connection);
                }
                Ok(Err(error)) => return self.lost(error),
                Err(_) => return self.lost(format!("no connection in {} ms", limit.as_millis())),
            }
        }
        let connection = self.connection.as_mut()?;
        let answer = timeout_at(Instant::now() + limit, ask(connection, register)).await;
        let value = match answer {
            Ok(Ok(Ok(words))) => register.value(&words).ok_or("the answer is no number".to_owned()),
            Ok(Ok(Err(exception))) => Err(exception.to_string()),
            Ok(Err(error)) => {
                self.connection = None;
                Err(error.to_string())
            }
            Err(_) => {
                self.connection = None;
                Err(format!("no answer in {} ms", limit.as_millis()))
            }
        };
        let place = self.config.registers.iter().position(|other| std::ptr::eq(other, register));
        if let Some(link) = place.and_then(|place| self.registers.get_mut(place)) {
            match &value {
                Ok(_) => link.up(),
                Err(why) => link.down(why),
            };
        }
        value.ok()
    }

    fn lost(&mut self, why: impl std::fmt::Display) -> Option<f64> {
        self.link.down(why);
        self.next_try = Instant::now() + RETRY;
        None
    }
}

async fn connect(bus: &ModbusBus) -> io::Result<Context> {
    match bus {
        ModbusBus::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Ok(tcp::attach(stream))
        }
        ModbusBus::Rtu { path, baud, parity } => {
            let port = port::open(path, *baud, *parity).await?;
            port.discard_buffers()?; // a late answer to somebody else
            Ok(rtu::attach(port))
        }
    }
}

async fn ask(
    connection: &mut Context,
    register: &Register,
) -> Result<Result<Vec<u16>, ExceptionCode>, tokio_modbus::Error> {
    connection.set_slave(Slave(register.unit));
    let (address, words) = (register.address, register.number.words());
    match register.function {
        Function::Holding => connection.read_holding_registers(address, words).await,
        Function::Input => connection.read_input_registers(address, words).await,
    }
}
