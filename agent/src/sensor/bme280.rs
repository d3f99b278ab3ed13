//! Bosch BME280: temperature, humidity and pressure over I2C, by the `bme280` driver.
//!
//! The chip is set up at the first read, and again after any failure: it may have lost its supply.

use ::bme280::Error;
use ::bme280::i2c::BME280;
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;

use super::{HUMIDITY, PRESSURE, Sensor, SensorError, TEMPERATURE, round};
use crate::ChannelSpec;

/// Pascals in a hectopascal.
const PA_PER_HPA: f64 = 100.0;

/// A BME280 on its bus.
pub struct Bme280<I, D> {
    driver: BME280<I>,
    delay: D,
    is_set_up: bool,
}

impl<I: I2c, D: DelayNs> Bme280<I, D> {
    /// The chip at `address`: 0x76, or 0x77 with its SDO pin high.
    pub fn new(bus: I, address: u8, delay: D) -> Self {
        Self { driver: BME280::new(bus, address), delay, is_set_up: false }
    }

    fn measure(&mut self, values: &mut [f64]) -> Result<(), Error<I::Error>> {
        if !self.is_set_up {
            self.driver.init(&mut self.delay)?;
            self.is_set_up = true;
        }
        let found = self.driver.measure(&mut self.delay)?;
        let found = [
            round(f64::from(found.temperature), TEMPERATURE.decimals),
            round(f64::from(found.humidity), HUMIDITY.decimals),
            round(f64::from(found.pressure) / PA_PER_HPA, PRESSURE.decimals),
        ];
        for (value, found) in values.iter_mut().zip(found) {
            *value = found;
        }
        Ok(())
    }
}

impl<I: I2c, D: DelayNs> Sensor for Bme280<I, D> {
    fn channels(&self) -> &'static [ChannelSpec<'static>] {
        &[TEMPERATURE, HUMIDITY, PRESSURE]
    }

    fn read(&mut self, values: &mut [f64]) -> Result<(), SensorError> {
        let result = self.measure(values);
        self.is_set_up = result.is_ok();
        result.map_err(|error| match error {
            Error::Bus(_) => SensorError::Bus,
            _ => SensorError::NotReady,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use core::convert::Infallible;

    use embedded_hal::i2c::{ErrorType, Operation};

    use super::*;

    /// The chip's registers; a write sets where the next read begins.
    struct Registers {
        bytes: [u8; 256],
        at: usize,
    }

    impl ErrorType for Registers {
        type Error = Infallible;
    }

    impl I2c for Registers {
        fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), Infallible> {
            for operation in operations {
                match operation {
                    Operation::Write(bytes) => self.at = usize::from(bytes[0]),
                    Operation::Read(bytes) => {
                        let len = bytes.len();
                        bytes.copy_from_slice(&self.bytes[self.at..self.at + len]);
                    }
                }
            }
            Ok(())
        }
    }

    struct NoDelay;

    impl DelayNs for NoDelay {
        fn delay_ns(&mut self, _: u32) {}
    }

    /// The worked example of Bosch's BMP280 datasheet, section 3.12: its calibration and raw values
    /// give 25.08 degrees and 100653.27 Pa.
    fn example() -> Registers {
        let mut bytes = [0; 256];
        let calibration: [i32; 12] =
            [27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000];
        for (i, word) in calibration.iter().enumerate() {
            bytes[0x88 + 2 * i..][..2].copy_from_slice(&(*word as u16).to_le_bytes());
        }
        bytes[0xD0] = 0x60;
        for (at, raw) in [(0xF7, 415_148_u32), (0xFA, 519_888)] {
            bytes[at..at + 3].copy_from_slice(&(raw << 4).to_be_bytes()[1..]);
        }
        Registers { bytes, at: 0 }
    }

    #[test]
    fn reads_the_datasheets_example() {
        let mut sensor = Bme280::new(example(), 0x76, NoDelay);
        let mut values = [0.0; 3];
        sensor.read(&mut values).unwrap();
        assert_eq!(sensor.channels().len(), values.len());
        assert_eq!((values[0], values[2]), (25.08, 1006.53));
    }

    #[test]
    fn another_chip_is_not_ready() {
        let mut registers = example();
        registers.bytes[0xD0] = 0x11;
        let mut sensor = Bme280::new(registers, 0x76, NoDelay);
        assert_eq!(sensor.read(&mut [0.0; 3]), Err(SensorError::NotReady));
    }
}
