//! What a chip is to the bus: something that takes bytes, gives bytes, and measures its environment.

use crate::{Channel, Site};

/// What surrounds the chips at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Environment {
    /// Air temperature in Cel.
    pub temperature: f64,
    /// Relative humidity in %.
    pub humidity: f64,
    /// Air pressure in hPa.
    pub pressure: f64,
}

impl Environment {
    /// The environment of a site at `at_ms` since 1970-01-01 UTC.
    pub fn at(site: Site, at_ms: i64) -> Self {
        Self {
            temperature: site.value(Channel::Temperature, at_ms),
            humidity: site.value(Channel::Humidity, at_ms),
            pressure: site.value(Channel::Pressure, at_ms),
        }
    }
}

/// The chip does not acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// A chip on the bus, as seen from the wire.
pub trait Chip {
    /// The controller wrote `bytes` after one start condition.
    fn write(&mut self, bytes: &[u8], environment: &Environment) -> Result<(), Refused>;
    /// The controller reads as many bytes as `out` holds.
    fn read(&mut self, out: &mut [u8]) -> Result<(), Refused>;
}
