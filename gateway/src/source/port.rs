//! Opens serial ports; the only file that knows what a port is made of.
//!
//! 8 data bits, 1 stop bit, no flow control, no line editing: bytes pass as they are.

use std::io;
use std::path::Path;

use serial2_tokio::{SerialPort, Settings};
use tokio::task::spawn_blocking;

/// The parity bit of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// None, as microcontrollers and many devices have it.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// Opens the port, off the threads that other sources run on.
///
/// # Errors
/// There is no such port, it is no serial port, or it cannot be set up so.
pub(super) async fn open(path: &Path, baud: u32, parity: Parity) -> io::Result<SerialPort> {
    let path = path.to_owned();
    let settings = move |mut settings: Settings| {
        settings.set_raw();
        settings.set_baud_rate(baud)?;
        settings.set_parity(match parity {
            Parity::None => serial2_tokio::Parity::None,
            Parity::Even => serial2_tokio::Parity::Even,
            Parity::Odd => serial2_tokio::Parity::Odd,
        });
        Ok(settings)
    };
    // Registering with the runtime works there, too: it knows the runtime that it was spawned from.
    spawn_blocking(move || SerialPort::open(path, settings)).await.map_err(io::Error::other)?
}
