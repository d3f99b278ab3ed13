//! What a billion readings cost on AWS: list prices, line by line, from what a lake's ledger has seen.
//!
//! A model on paper, not a bill: it counts the requests, messages, seconds and bytes that the road from gateway
//! to silver makes, and takes [`prices`] for each. Not in it: free tiers, data transfer out of AWS, logs
//! and alarms, Athena queries, and what the clock starts (gold, upkeep, audit), which hangs on no reading.

pub mod prices;
pub mod usage;

use serde::Serialize;

use usage::Usage;

/// AWS IoT Core meters messages, rules and actions in steps of this many bytes.
const METERED_BYTES: f64 = 5_120.0;

/// Bytes of a frame that do not grow with its readings: header, checksum, topic.
const FRAME_OVERHEAD_BYTES: f64 = 120.0;

/// Objects that an invocation writes, and listings it asks for, which cost as much: files and log entries of silver,
/// discard and ledger. Counted by `tests/run aws`, as are the next.
const PUTS_AND_LISTS_PER_INVOCATION: f64 = 24.0;

/// Objects and parts of them that an invocation reads beside bronze: logs, checkpoints, and files where keys may be.
const GETS_PER_INVOCATION: f64 = 131.0;

/// Seconds between a sealed frame and silver beside the queue's window: fsync, MQTT, the function.
const FRAME_TO_SILVER_S: f64 = 5.0;

/// Longest frame that AWS IoT Core takes, with room for its topic.
pub const FRAME_BYTES_MAX: f64 = 120_000.0;

const BILLION: f64 = 1e9;

/// How the road is set up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Readings a second of one gateway.
    pub readings_per_s: f64,
    /// Gateways whose objects wait in the same queue.
    pub gateways: f64,
    /// Seconds for which the queue gathers objects, `BatchWindowSeconds` of the stack.
    pub window_s: f64,
    /// Objects that one invocation takes at most, `BatchSize` of the stack.
    pub batch_size: f64,
    /// Whether topics carry the Basic Ingest prefix, which takes the price of messaging away.
    pub basic_ingest: bool,
    /// The function's memory in GB (1.77 GB is one CPU).
    pub lambda_gb: f64,
    /// Rows that it takes from bronze to silver in a second.
    pub rows_per_s: f64,
}

impl Settings {
    /// Bronze objects that one invocation promotes: what comes in a window.
    pub fn objects_per_invocation(&self, usage: &Usage) -> f64 {
        let objects_per_s = self.gateways * self.readings_per_s * usage.objects / usage.readings;
        (objects_per_s * self.window_s).min(self.batch_size).max(1.0)
    }

    /// Seconds from a sealed frame to silver.
    pub fn road_s(&self) -> f64 {
        self.window_s + FRAME_TO_SILVER_S
    }
}

/// The bill for a billion readings, in US dollars.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// What is paid for, and how much.
    pub items: Vec<Item>,
    /// Their sum.
    pub total_usd: f64,
}

/// A line of the bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Item {
    /// What is counted.
    pub what: &'static str,
    /// How many.
    pub count: f64,
    /// The price of all.
    pub usd: f64,
}

/// The bill for a billion readings that come as `usage` says.
pub fn per_billion(usage: &Usage, settings: &Settings) -> Bill {
    let scale = BILLION / usage.readings;
    let (messages, objects) = (usage.messages * scale, usage.objects * scale);
    let metered = messages * (usage.bytes_per_message() / METERED_BYTES).ceil();
    let invocations = objects / settings.objects_per_invocation(usage);
    let function_gb_s = BILLION / settings.rows_per_s * settings.lambda_gb;
    let gigabytes = (usage.bronze_bytes + usage.table_bytes) * scale / 1e9;
    let minutes = if usage.messages > 0.0 { BILLION / settings.readings_per_s / 60.0 } else { 0.0 };
    let broker = if settings.basic_ingest { 0.0 } else { metered };
    let items = [
        ("IoT connection minutes", minutes, prices::IOT_CONNECTION_MINUTE),
        ("IoT messages, in steps of 5 KB", broker, prices::IOT_MESSAGE),
        ("IoT rules and actions, in steps of 5 KB", metered, prices::IOT_RULE + prices::IOT_ACTION),
        ("S3 PUT, bronze", objects, prices::S3_PUT),
        ("SQS requests", objects * (1.0 + 2.0 / 10.0), prices::SQS_REQUEST),
        ("S3 GET, bronze", objects, prices::S3_GET),
        ("Lambda requests", invocations, prices::LAMBDA_REQUEST),
        ("Lambda GB-seconds, arm64", function_gb_s, prices::LAMBDA_GB_S),
        ("S3 PUT and LIST, tables", invocations * PUTS_AND_LISTS_PER_INVOCATION, prices::S3_PUT),
        ("S3 GET, tables", invocations * GETS_PER_INVOCATION, prices::S3_GET),
        ("S3 storage, GB for a month", gigabytes, prices::S3_GB_MONTH),
    ]
    .map(|(what, count, price)| Item { what, count, usd: count * price });
    Bill { total_usd: items.iter().map(|item| item.usd).sum(), items: items.into() }
}

/// The same readings as one JSON message and object each.
pub fn one_json_each(usage: &Usage, settings: &Settings) -> Bill {
    let each = Usage {
        messages: usage.readings,
        objects: usage.readings,
        bronze_bytes: usage.readings * prices::JSON_READING_BYTES,
        ..*usage
    };
    per_billion(&each, settings)
}

/// Settings of `[batch]` for a reading that may take this long to silver.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// `age_ms_max`: when a frame is sealed at the latest.
    pub age_ms_max: u64,
    /// `frame_bytes_max`.
    pub frame_bytes_max: u64,
    /// The frames that come of it, in bytes.
    pub frame_bytes: f64,
    /// What a billion readings cost then.
    pub usd_per_billion: f64,
}

/// The cheapest batches of one gateway that keep to the budget; `None` if the road alone takes longer.
pub fn advise(usage: &Usage, settings: &Settings, latency_s: f64) -> Option<Advice> {
    let age_s = latency_s - settings.road_s();
    if age_s <= 0.0 {
        return None;
    }
    let body = usage.body_bytes_per_reading();
    let readings =
        (settings.readings_per_s * age_s).min((FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES) / body).max(1.0);
    let frame_bytes = readings * body + FRAME_OVERHEAD_BYTES;
    let frames = usage.readings / readings;
    let batched = Usage { messages: frames, objects: frames, bronze_bytes: frames * frame_bytes, ..*usage };
    Some(Advice {
        age_ms_max: (age_s * 1e3) as u64,
        frame_bytes_max: FRAME_BYTES_MAX as u64,
        frame_bytes,
        usd_per_billion: per_billion(&batched, settings).total_usd,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        readings_per_s: 1_000.0,
        gateways: 30.0,
        window_s: 60.0,
        batch_size: 500.0,
        basic_ingest: true,
        lambda_gb: 1.77,
        rows_per_s: 3e6,
    };

    /// 4 bytes a reading in frames of 50 kB.
    fn packed() -> Usage {
        Usage { readings: 1e6, messages: 80.0, objects: 80.0, bronze_bytes: 4e6, table_bytes: 5e6 }
    }

    fn usd(bill: &Bill, what: &str) -> f64 {
        bill.items.iter().filter(|item| item.what.starts_with(what)).map(|item| item.usd).sum()
    }

    #[test]
    fn a_billion_readings_cost_about_a_dollar() {
        let bill = per_billion(&packed(), &SETTINGS);
        // By hand: 80,000 objects; 10 steps of 5 KB each; 4 GB and 5 GB.
        assert!((usd(&bill, "S3 PUT, bronze") - 0.40).abs() < 1e-9);
        assert!((usd(&bill, "IoT rules") - 0.24).abs() < 1e-9);
        assert!((usd(&bill, "S3 storage") - 9.0 * 0.023).abs() < 1e-9);
        assert!((0.8..1.2).contains(&bill.total_usd), "{bill:?}");
        assert!((bill.items.iter().map(|item| item.usd).sum::<f64>() - bill.total_usd).abs() < 1e-12);
    }

    #[test]
    fn a_message_for_each_reading_costs_thousands_of_times_more() {
        let each = one_json_each(&packed(), &SETTINGS);
        assert!((usd(&each, "S3 PUT, bronze") - 5_000.0).abs() < 1e-6);
        let broker = one_json_each(&packed(), &Settings { basic_ingest: false, ..SETTINGS });
        assert!((broker.total_usd - each.total_usd - 1_000.0).abs() < 1e-6);
        assert!(each.total_usd > 5_000.0 * per_billion(&packed(), &SETTINGS).total_usd);
    }

    #[test]
    fn the_more_gateways_share_a_window_the_less_tables_cost() {
        // 30 gateways send 2.4 objects a second, one sends 4.8 in a minute.
        assert!((SETTINGS.objects_per_invocation(&packed()) - 144.0).abs() < 1e-9);
        let one = Settings { gateways: 1.0, ..SETTINGS };
        assert!((one.objects_per_invocation(&packed()) - 4.8).abs() < 1e-9);
        let tables = |settings| usd(&per_billion(&packed(), settings), "S3 PUT and LIST");
        assert!((tables(&one) / tables(&SETTINGS) - 30.0).abs() < 1e-9);
        let many = Settings { gateways: 1e6, ..SETTINGS };
        assert!((many.objects_per_invocation(&packed()) - 500.0).abs() < 1e-9);
        let idle = Settings { readings_per_s: 0.001, ..one };
        assert!((idle.objects_per_invocation(&packed()) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn files_without_a_gateway_pay_nothing_to_iot() {
        let files = Usage { messages: 0.0, ..packed() };
        assert_eq!(usd(&per_billion(&files, &SETTINGS), "IoT"), 0.0);
    }

    #[test]
    fn more_patience_is_never_dearer_and_none_is_told() {
        assert_eq!(advise(&packed(), &SETTINGS, 65.0), None);
        let mut last = f64::INFINITY;
        for latency_s in [66.0, 70.0, 100.0, 365.0, 4_000.0] {
            let Some(advice) = advise(&packed(), &SETTINGS, latency_s) else { unreachable!() };
            assert!(advice.usd_per_billion <= last && advice.frame_bytes <= FRAME_BYTES_MAX);
            last = advice.usd_per_billion;
        }
    }
}
