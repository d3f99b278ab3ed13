//! A Bosch BME280 at register level: identity, calibration, control and data registers.
//!
//! A forced measurement finishes at once. The chip holds one fixed set of calibration values; the data
//! registers get the raw codes which the datasheet's compensation turns back into the environment's
//! values, found by bisection. Normal mode measures only when it is set; the IIR filter adds its
//! resolution, not its delay.

use crate::chip::{Chip, Environment, Refused};

const ID: u8 = 0xd0;
const RESET: u8 = 0xe0;
const CTRL_HUM: u8 = 0xf2;
const CTRL_MEAS: u8 = 0xf4;
const CONFIG: u8 = 0xf5;
const DATA: u8 = 0xf7;
/// What the datasheet's table 18 gives for "BME280".
const CHIP_ID: u8 = 0x60;
/// Writing this to [`RESET`] restarts the chip.
const RESET_WORD: u8 = 0xb6;
const MODE_MASK: u8 = 0b11;

/// The example calibration of Bosch's BMP280 datasheet (section 3.12), with humidity values of a
/// typical BME280.
mod calibration {
    pub const T: [i32; 3] = [27504, 26435, -1000];
    pub const P: [i32; 9] = [36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000];
    pub const H: [i32; 6] = [75, 370, 0, 313, 50, 30];
}

/// The chip: its registers 0x80 to 0xff, and the register that the next read starts at.
pub struct Bme280 {
    registers: [u8; 128],
    pointer: u8,
}

impl Bme280 {
    /// The primary address, with SDO at ground.
    pub const ADDRESS: u8 = 0x76;

    /// A chip after power-on: asleep, no data measured.
    pub fn new() -> Self {
        let mut chip = Self { registers: [0; 128], pointer: 0 };
        chip.reset();
        chip
    }

    fn reset(&mut self) {
        use calibration::{H, P, T};
        self.registers = [0; 128];
        self.set(ID, &[CHIP_ID]);
        let words = T.iter().chain(&P).flat_map(|word| (*word as u16).to_le_bytes());
        for (register, byte) in (0x88..).zip(words) {
            self.set(register, &[byte]);
        }
        self.set(0xa1, &[H[0] as u8]);
        let [low, high] = (H[1] as i16).to_le_bytes();
        // H4 and H5 are 12 bits each and share the byte at 0xe5.
        let shared = (H[3] & 0xf) | ((H[4] & 0xf) << 4);
        let h = [low, high, H[2] as u8, (H[3] >> 4) as u8, shared as u8, (H[4] >> 4) as u8, H[5] as u8];
        self.set(0xe1, &h);
        self.set(DATA, &[0x80, 0, 0, 0x80, 0, 0, 0x80, 0]);
    }

    fn get(&self, register: u8) -> u8 {
        self.registers.get(usize::from(register).wrapping_sub(128)).copied().unwrap_or(0)
    }

    fn set(&mut self, register: u8, bytes: &[u8]) {
        let places = self.registers.iter_mut().skip(usize::from(register).saturating_sub(128));
        places.zip(bytes).for_each(|(place, byte)| *place = *byte);
    }

    /// Converts the environment into the data registers; a channel that is switched off keeps its
    /// reset code.
    fn measure(&mut self, environment: &Environment) {
        let control = self.get(CTRL_MEAS);
        let filter = (self.get(CONFIG) >> 2) & 0b111;
        let (t_over, p_over) = (control >> 5, (control >> 2) & 0b111);
        let h_over = self.get(CTRL_HUM) & 0b111;

        let t_code = search(20, |code| compensate::temperature(code) >= environment.temperature);
        let fine = compensate::fine(t_code);
        // A higher pressure has a lower code.
        let p_code = search(20, |code| compensate::pressure(code, fine) <= environment.pressure * 100.0);
        let h_code = search(16, |code| compensate::humidity(code, fine) >= environment.humidity);

        if p_over != 0 {
            self.set(DATA, &code_bytes(p_code, p_over, filter));
        }
        if t_over != 0 {
            self.set(DATA + 3, &code_bytes(t_code, t_over, filter));
        }
        if h_over != 0 {
            self.set(DATA + 6, &(h_code as u16).to_be_bytes());
        }
    }
}

impl Default for Bme280 {
    fn default() -> Self {
        Self::new()
    }
}

impl Chip for Bme280 {
    /// The first byte is a register; after it come its value and further register-value pairs.
    fn write(&mut self, bytes: &[u8], environment: &Environment) -> Result<(), Refused> {
        let Some((register, values)) = bytes.split_first() else {
            return Ok(());
        };
        self.pointer = *register;
        let Some((value, more)) = values.split_first() else {
            return Ok(());
        };
        match *register {
            RESET if *value == RESET_WORD => self.reset(),
            CTRL_HUM | CONFIG => self.set(*register, &[*value]),
            CTRL_MEAS => {
                self.set(CTRL_MEAS, &[*value]);
                if value & MODE_MASK != 0 {
                    self.measure(environment);
                }
                // A forced measurement ends asleep; 01 and 10 both mean forced.
                if matches!(value & MODE_MASK, 0b01 | 0b10) {
                    self.set(CTRL_MEAS, &[*value & !MODE_MASK]);
                }
            }
            _ => {} // The others are read-only; a write is acknowledged and has no effect.
        }
        self.write(more, environment)
    }

    /// Bytes from the pointed-at register on; the pointer moves along.
    fn read(&mut self, out: &mut [u8]) -> Result<(), Refused> {
        for byte in out {
            *byte = self.get(self.pointer);
            self.pointer = self.pointer.wrapping_add(1);
        }
        Ok(())
    }
}

/// A 20-bit code as the data registers hold it, at the resolution which oversampling and filter give
/// (datasheet, section 3.4: 16 bits at 1x, one more for each doubling, 20 with the filter).
fn code_bytes(code: u32, oversampling: u8, filter: u8) -> [u8; 3] {
    let bits = if filter != 0 { 20 } else { 15 + u32::from(oversampling.min(5)) };
    let kept = code >> (20 - bits) << (20 - bits);
    let [_, high, middle, low] = (kept << 4).to_be_bytes();
    [high, middle, low]
}

/// The smallest code of `bits` bits for which `reached` holds, or the largest code.
fn search(bits: u32, reached: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, (1 << bits) - 1);
    while low < high {
        let middle = (low + high) / 2;
        if reached(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// The compensation formulas in floating point of the BME280 datasheet, section 8.1.
mod compensate {
    use super::calibration::{H, P, T};

    /// The temperature as the other two formulas want it: in 1/5120 Cel.
    pub fn fine(code: u32) -> f64 {
        let [t1, t2, t3] = T.map(f64::from);
        let code = f64::from(code);
        let linear = (code / 16384.0 - t1 / 1024.0) * t2;
        let square = code / 131_072.0 - t1 / 8192.0;
        linear + square * square * t3
    }

    /// Cel.
    pub fn temperature(code: u32) -> f64 {
        fine(code) / 5120.0
    }

    /// Pa.
    pub fn pressure(code: u32, fine: f64) -> f64 {
        let [p1, p2, p3, p4, p5, p6, p7, p8, p9] = P.map(f64::from);
        let t = fine / 2.0 - 64000.0;
        let offset = (t * t * p6 / 32768.0 + t * p5 * 2.0) / 4.0 + p4 * 65536.0;
        let scale = (1.0 + (p3 * t * t / 524_288.0 + p2 * t) / 524_288.0 / 32768.0) * p1;
        let p = (1_048_576.0 - f64::from(code) - offset / 4096.0) * 6250.0 / scale;
        p + (p9 * p * p / 2_147_483_648.0 + p * p8 / 32768.0 + p7) / 16.0
    }

    /// %.
    pub fn humidity(code: u32, fine: f64) -> f64 {
        let [h1, h2, h3, h4, h5, h6] = H.map(f64::from);
        let t = fine - 76800.0;
        let offset = h4 * 64.0 + h5 / 16384.0 * t;
        let slope = 1.0 + h3 / 67_108_864.0 * t;
        let h = (f64::from(code) - offset) * (h2 / 65536.0 * (1.0 + h6 / 67_108_864.0 * t * slope) * slope);
        h * (1.0 - h1 * h / 524_288.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use bme280::i2c::BME280;

    use super::*;
    use crate::bus::{BusFault, SimulatedBus};

    struct NoDelay;
    impl embedded_hal::delay::DelayNs for NoDelay {
        fn delay_ns(&mut self, _ns: u32) {}
    }

    fn bus(environment: Environment) -> SimulatedBus {
        SimulatedBus::new(move || environment).with_chip(Bme280::ADDRESS, Bme280::new())
    }

    #[test]
    fn the_formulas_give_the_datasheets_example() {
        // BMP280 datasheet, section 3.12: raw 519888 and 415148 are 25.08 Cel and 100653.27 Pa.
        assert!((compensate::temperature(519_888) - 25.0825).abs() < 0.001);
        let pressure = compensate::pressure(415_148, compensate::fine(519_888));
        assert!((pressure - 100_653.27).abs() < 0.1, "{pressure}");
    }

    #[test]
    fn the_unmodified_driver_reads_what_was_set() {
        for temperature in [-39.0, -20.0, 0.0, 21.53, 40.0, 84.0] {
            for humidity in [1.0, 33.3, 50.0, 75.0, 99.0] {
                for pressure in [310.0, 800.0, 1013.25, 1099.0] {
                    let environment = Environment { temperature, humidity, pressure };
                    let mut driver = BME280::new_primary(bus(environment));
                    driver.init(&mut NoDelay).unwrap();
                    let read = driver.measure(&mut NoDelay).unwrap();
                    // The chip's resolutions are 0.01 Cel, 0.008 % and 0.18 Pa; the driver
                    // calculates in f32, which costs a few Pa at the ends of the range.
                    assert!((f64::from(read.temperature) - temperature).abs() < 0.01);
                    assert!((f64::from(read.humidity) - humidity).abs() < 0.02);
                    let error = (f64::from(read.pressure) / 100.0 - pressure).abs();
                    assert!(error < 0.01, "{environment:?}: {error} hPa");
                }
            }
        }
    }

    #[test]
    fn a_second_measurement_sees_the_new_environment() {
        let mut temperature = 20.0;
        let bus = SimulatedBus::new(move || {
            temperature += 0.5;
            Environment { temperature, humidity: 50.0, pressure: 1000.0 }
        });
        let mut driver = BME280::new_primary(bus.with_chip(0x76, Bme280::new()));
        driver.init(&mut NoDelay).unwrap();
        let first = driver.measure(&mut NoDelay).unwrap().temperature;
        assert!(driver.measure(&mut NoDelay).unwrap().temperature > first + 0.4);
    }

    #[test]
    fn without_a_measurement_the_data_registers_hold_their_reset_code() {
        let mut chip = Bme280::new();
        let mut data = [0; 8];
        chip.pointer = DATA;
        chip.read(&mut data).unwrap();
        assert_eq!(data, [0x80, 0, 0, 0x80, 0, 0, 0x80, 0]);
    }

    #[test]
    fn bus_errors_reach_the_driver() {
        let still = Environment { temperature: 20.0, humidity: 50.0, pressure: 1000.0 };
        let mut driver = BME280::new_primary(bus(still).with_faults(|| Some(BusFault::ArbitrationLoss)));
        assert!(matches!(driver.init(&mut NoDelay), Err(bme280::Error::Bus(_))));
        let mut elsewhere = BME280::new_secondary(bus(still));
        assert!(matches!(elsewhere.init(&mut NoDelay), Err(bme280::Error::Bus(_))));
    }

    #[test]
    fn registers_outside_the_map_read_zero_and_never_panic() {
        let mut chip = Bme280::new();
        let still = Environment { temperature: 20.0, humidity: 50.0, pressure: 1000.0 };
        for register in 0..=255 {
            chip.write(&[register, 0xff, register, 0], &still).unwrap();
            chip.read(&mut [0; 300]).unwrap();
        }
    }
}
