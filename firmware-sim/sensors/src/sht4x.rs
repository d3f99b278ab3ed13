//! A Sensirion SHT4x at command level: measure, serial number, soft reset, each word with its CRC.
//!
//! A measurement finishes at once. The heater commands are not modelled and are not acknowledged.

use crate::chip::{Chip, Environment, Refused};

/// The chip: its serial number and the answer that waits to be read.
pub struct Sht4x {
    serial: u32,
    answer: Option<[u8; 6]>,
}

impl Sht4x {
    /// The address of the most common variants, such as SHT40-AD1B.
    pub const ADDRESS: u8 = 0x44;

    /// A chip after power-on.
    pub const fn new(serial: u32) -> Self {
        Self { serial, answer: None }
    }
}

impl Chip for Sht4x {
    /// Takes one command byte (datasheet, table 8).
    fn write(&mut self, bytes: &[u8], environment: &Environment) -> Result<(), Refused> {
        self.answer = match bytes {
            [] => return Ok(()),
            // High, medium and low precision differ in noise, which the environment decides here.
            [0xfd | 0xf6 | 0xe0] => {
                let temperature = code((environment.temperature + 45.0) / 175.0);
                let humidity = code((environment.humidity + 6.0) / 125.0);
                Some(words(temperature, humidity))
            }
            [0x89] => Some(words((self.serial >> 16) as u16, self.serial as u16)),
            [0x94] => None,
            _ => return Err(Refused),
        };
        Ok(())
    }

    /// Gives the waiting answer once; without one the chip does not acknowledge.
    fn read(&mut self, out: &mut [u8]) -> Result<(), Refused> {
        let answer = self.answer.take().ok_or(Refused)?;
        // Past its answer the chip leaves SDA high.
        out.fill(0xff);
        out.iter_mut().zip(answer).for_each(|(place, byte)| *place = byte);
        Ok(())
    }
}

/// The nearest 16-bit code for a share of the measuring range (datasheet, section 4.6).
fn code(share: f64) -> u16 {
    // The cast saturates, as the chip does at the ends of its range.
    (share * 65535.0).round() as u16
}

/// Two words as they go over the wire, each followed by its CRC.
fn words(first: u16, second: u16) -> [u8; 6] {
    let ([a, b], [c, d]) = (first.to_be_bytes(), second.to_be_bytes());
    [a, b, crc([a, b]), c, d, crc([c, d])]
}

/// CRC-8 with the polynomial 0x31 and the start value 0xff (datasheet, section 4.4).
fn crc(word: [u8; 2]) -> u8 {
    word.into_iter().fold(0xff, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| if crc & 0x80 == 0 { crc << 1 } else { (crc << 1) ^ 0x31 })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use sht4x::{Error, Precision, Sht4x as Driver};

    use super::*;
    use crate::bus::{BusError, BusFault, SimulatedBus};

    struct NoDelay;
    impl embedded_hal::delay::DelayNs for NoDelay {
        fn delay_ns(&mut self, _ns: u32) {}
    }

    fn bus(temperature: f64, humidity: f64) -> SimulatedBus {
        let environment = Environment { temperature, humidity, pressure: 1000.0 };
        SimulatedBus::new(move || environment).with_chip(Sht4x::ADDRESS, Sht4x::new(0x1234_5678))
    }

    #[test]
    fn the_crc_gives_the_datasheets_example() {
        assert_eq!(crc([0xbe, 0xef]), 0x92);
    }

    #[test]
    fn the_unmodified_driver_reads_what_was_set() {
        for temperature in [-39.0, -10.0, 0.0, 21.53, 60.0, 84.0] {
            for humidity in [0.0, 33.3, 50.0, 75.0, 100.0] {
                let mut driver = Driver::new(bus(temperature, humidity));
                for precision in [Precision::Low, Precision::Medium, Precision::High] {
                    let read = driver.measure(precision, &mut NoDelay).unwrap();
                    let t: f64 = read.temperature_celsius().to_num();
                    let h: f64 = read.humidity_percent().to_num();
                    // The chip's resolutions are 0.003 Cel and 0.002 %.
                    assert!((t - temperature).abs() < 0.003, "{t} {temperature}");
                    assert!((h - humidity).abs() < 0.002, "{h} {humidity}");
                }
            }
        }
    }

    #[test]
    fn the_driver_reads_the_serial_number() {
        let mut driver = Driver::new(bus(20.0, 50.0));
        assert_eq!(driver.serial_number(&mut NoDelay).unwrap(), 0x1234_5678);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let mut driver = Driver::new(bus(20.0, 50.0).with_faults(|| Some(BusFault::BitFlip)));
        assert_eq!(driver.measure(Precision::High, &mut NoDelay).unwrap_err(), Error::Crc);
    }

    #[test]
    fn a_lost_bus_reaches_the_driver() {
        let mut driver = Driver::new(bus(20.0, 50.0).with_faults(|| Some(BusFault::Stuck)));
        let error = driver.measure(Precision::High, &mut NoDelay).unwrap_err();
        assert_eq!(error, Error::I2c(BusError::Stuck));
    }

    #[test]
    fn reading_before_a_command_or_twice_is_refused() {
        let still = Environment { temperature: 20.0, humidity: 50.0, pressure: 1000.0 };
        let mut chip = Sht4x::new(0);
        assert_eq!(chip.read(&mut [0; 6]), Err(Refused));
        chip.write(&[0xfd], &still).unwrap();
        assert_eq!(chip.read(&mut [0; 6]), Ok(()));
        assert_eq!(chip.read(&mut [0; 6]), Err(Refused));
        assert_eq!(chip.write(&[0x39], &still), Err(Refused));
    }
}
