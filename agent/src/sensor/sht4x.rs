//! Sensirion SHT4x: temperature and humidity over I2C, by the `sht4x` driver, at high precision.

use ::sht4x::{Error, Precision};
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::I2c;

use super::{HUMIDITY, Sensor, SensorError, TEMPERATURE, round};
use crate::ChannelSpec;

/// The driver gives thousandths.
const MILLI: f64 = 1000.0;

/// An SHT40, SHT41 or SHT45 on its bus.
pub struct Sht4x<I, D> {
    driver: ::sht4x::Sht4x<I, D>,
    delay: D,
}

impl<I: I2c, D: DelayNs> Sht4x<I, D> {
    /// The chip at address 0x44.
    pub fn new(bus: I, delay: D) -> Self {
        Self { driver: ::sht4x::Sht4x::new(bus), delay }
    }
}

impl<I: I2c, D: DelayNs> Sensor for Sht4x<I, D> {
    fn channels(&self) -> &'static [ChannelSpec<'static>] {
        &[TEMPERATURE, HUMIDITY]
    }

    fn read(&mut self, values: &mut [f64]) -> Result<(), SensorError> {
        let found = self.driver.measure(Precision::High, &mut self.delay).map_err(|error| match error {
            Error::I2c(_) => SensorError::Bus,
            Error::Crc => SensorError::Checksum,
            _ => SensorError::NotReady,
        })?;
        let found = [
            round(f64::from(found.temperature_milli_celsius()) / MILLI, TEMPERATURE.decimals),
            round(f64::from(found.humidity_milli_percent()) / MILLI, HUMIDITY.decimals),
        ];
        for (value, found) in values.iter_mut().zip(found) {
            *value = found;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use embedded_hal::i2c::{ErrorKind, ErrorType, Operation};

    use super::*;

    /// Answers every read with these bytes, or not at all.
    struct Answer(Option<[u8; 6]>);

    impl ErrorType for Answer {
        type Error = ErrorKind;
    }

    impl I2c for Answer {
        fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
            for operation in operations {
                let answer = self.0.ok_or(ErrorKind::Other)?;
                if let Operation::Read(bytes) = operation {
                    bytes.copy_from_slice(&answer[..bytes.len()]);
                }
            }
            Ok(())
        }
    }

    struct NoDelay;

    impl DelayNs for NoDelay {
        fn delay_ns(&mut self, _: u32) {}
    }

    fn read(answer: Option<[u8; 6]>) -> Result<[f64; 2], SensorError> {
        let mut values = [0.0; 2];
        Sht4x::new(Answer(answer), NoDelay).read(&mut values).map(|()| values)
    }

    /// 0xBEEF has the checksum 0x92 in Sensirion's datasheet, section 4.4; it stands for
    /// -45 + 175 * 48879 / 65535 = 85.52 degrees and -6 + 125 * 48879 / 65535 = 87.23 percent.
    #[test]
    fn converts_as_the_datasheet_says() {
        let [temperature, humidity] = read(Some([0xBE, 0xEF, 0x92, 0xBE, 0xEF, 0x92])).unwrap();
        // The driver computes in 16 fractional bits.
        assert!((temperature - 85.52).abs() <= 0.011, "{temperature}");
        assert!((humidity - 87.23).abs() <= 0.011, "{humidity}");
    }

    #[test]
    fn tells_a_damaged_answer_from_a_dead_bus() {
        assert_eq!(read(Some([0xBE, 0xEF, 0x93, 0xBE, 0xEF, 0x92])), Err(SensorError::Checksum));
        assert_eq!(read(None), Err(SensorError::Bus));
    }
}
