//! What is known of a channel before any reading: its unit and the values it can sensibly have.

/// The edge's half of the data contract for one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelSpec<'a> {
    /// The channel's name, e.g. `temperature`.
    pub channel: &'a str,
    /// The unit as UCUM code, e.g. `Cel`, `%`, `hPa`, `V`, `mm/s`.
    pub unit: &'a str,
    /// Smallest possible value, inclusive.
    pub value_min: f64,
    /// Largest possible value, inclusive.
    pub value_max: f64,
    /// Largest believable change between two readings of a series; infinite where there is none.
    pub step_max: f64,
    /// Decimal places of the sensor's resolution; a sampled value is rounded to them.
    pub decimals: u8,
}
