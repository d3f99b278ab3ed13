//! A simulated I2C bus: chips by address, the environment that they measure, and faults of the wire.
//!
//! Drivers see only `embedded_hal::i2c::I2c`. The environment is asked for once per transaction, by a
//! closure, because a driver owns its bus and nobody can reach in to set it. Transfers take no time
//! and clock stretching is not modelled.

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

use crate::chip::{Chip, Environment, Refused};
use crate::{Site, bme280::Bme280, sht4x::Sht4x};

/// What goes wrong on the wire during one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusFault {
    /// SDA is held low: no start condition can be made.
    Stuck,
    /// Another controller won the bus.
    ArbitrationLoss,
    /// Nobody acknowledges, as with a loose plug.
    Unplugged,
    /// The last bit of every byte that is read is flipped. Only a checksum can notice it.
    BitFlip,
}

/// Why a transaction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusError {
    /// No chip answers at this address.
    NoChip {
        /// The address called.
        address: u8,
    },
    /// The chip is there, but does not take this byte or has nothing to say.
    Refused {
        /// The chip's address.
        address: u8,
    },
    /// Another controller won the bus.
    ArbitrationLoss,
    /// SDA is held low.
    Stuck,
}

impl embedded_hal::i2c::Error for BusError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoChip { .. } => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address),
            Self::Refused { .. } => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data),
            Self::ArbitrationLoss => ErrorKind::ArbitrationLoss,
            Self::Stuck => ErrorKind::Bus,
        }
    }
}

/// A bus with its chips; `Send`, and a few hundred bytes large.
pub struct SimulatedBus {
    environment: Box<dyn FnMut() -> Environment + Send>,
    fault: Box<dyn FnMut() -> Option<BusFault> + Send>,
    chips: Vec<(u8, Box<dyn Chip + Send>)>,
}

impl SimulatedBus {
    /// A bus without chips, in an environment that is asked for at each transaction.
    pub fn new(environment: impl FnMut() -> Environment + Send + 'static) -> Self {
        Self { environment: Box::new(environment), fault: Box::new(|| None), chips: Vec::new() }
    }

    /// A bus at a site of the world, with a BME280 at 0x76 and an SHT4x at 0x44, the addresses that
    /// their drivers expect. `now_ms` is asked for the time at each transaction.
    pub fn at_site(site: Site, mut now_ms: impl FnMut() -> i64 + Send + 'static) -> Self {
        Self::new(move || Environment::at(site, now_ms()))
            .with_chip(Bme280::ADDRESS, Bme280::new())
            .with_chip(Sht4x::ADDRESS, Sht4x::new(0))
    }

    /// Plugs a chip in; one that was at this address before is replaced.
    pub fn with_chip(mut self, address: u8, chip: impl Chip + Send + 'static) -> Self {
        self.chips.retain(|(other, _)| *other != address);
        self.chips.push((address, Box::new(chip)));
        self
    }

    /// Asks `fault` at each transaction what goes wrong in it.
    pub fn with_faults(mut self, fault: impl FnMut() -> Option<BusFault> + Send + 'static) -> Self {
        self.fault = Box::new(fault);
        self
    }
}

impl ErrorType for SimulatedBus {
    type Error = BusError;
}

impl I2c for SimulatedBus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        let fault = (self.fault)();
        match fault {
            Some(BusFault::Stuck) => return Err(BusError::Stuck),
            Some(BusFault::ArbitrationLoss) => return Err(BusError::ArbitrationLoss),
            Some(BusFault::Unplugged) => return Err(BusError::NoChip { address }),
            Some(BusFault::BitFlip) | None => {}
        }
        let environment = (self.environment)();
        let (_, chip) =
            self.chips.iter_mut().find(|(at, _)| *at == address).ok_or(BusError::NoChip { address })?;
        for operation in operations {
            match operation {
                Operation::Write(bytes) => chip.write(bytes, &environment),
                Operation::Read(out) => chip.read(out),
            }
            .map_err(|Refused| BusError::Refused { address })?;
            if let (Some(BusFault::BitFlip), Operation::Read(out)) = (fault, operation) {
                out.iter_mut().for_each(|byte| *byte ^= 1);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use embedded_hal::i2c::Error as _;

    use super::*;
    use crate::World;

    fn bus() -> SimulatedBus {
        SimulatedBus::at_site(World::new(1).site("d1"), || 0)
    }

    #[test]
    fn a_bus_can_move_to_another_thread() {
        let mut bus = bus();
        let id = std::thread::spawn(move || {
            let mut id = [0];
            bus.write_read(0x76, &[0xd0], &mut id).unwrap();
            id[0]
        });
        assert_eq!(id.join().unwrap(), 0x60);
    }

    #[test]
    fn an_absent_address_is_not_acknowledged() {
        let error = bus().write(0x10, &[0]).unwrap_err();
        assert_eq!(error, BusError::NoChip { address: 0x10 });
        assert_eq!(error.kind(), ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
    }

    #[test]
    fn faults_of_the_wire_have_their_kind() {
        for (fault, kind) in [
            (BusFault::Stuck, ErrorKind::Bus),
            (BusFault::ArbitrationLoss, ErrorKind::ArbitrationLoss),
            (BusFault::Unplugged, ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address)),
        ] {
            let mut bus = bus().with_faults(move || Some(fault));
            assert_eq!(bus.write(0x76, &[0xd0]).unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn a_fault_lasts_as_long_as_its_transaction() {
        let mut faults = [Some(BusFault::Stuck), None].into_iter();
        let mut bus = bus().with_faults(move || faults.next().flatten());
        assert!(bus.write(0x76, &[0xd0]).is_err());
        assert!(bus.write(0x76, &[0xd0]).is_ok());
    }
}
