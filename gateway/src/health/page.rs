//! The page for people: one HTML document with its picture inside, no script, nothing loaded from
//! elsewhere. It asks for itself again every five seconds.

use std::fmt::Write;

use super::live::Point;
use super::{ContractSnapshot, Snapshot};

const WIDTH: u64 = 600;
const HEIGHT: u64 = 120;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:44em;margin:2em auto;padding:0 1em;\
color:#222;background:#fff}table{border-collapse:collapse;width:100%}td{padding:.15em .6em .15em 0;\
border-bottom:1px solid #eee}td+td{text-align:right;font-variant-numeric:tabular-nums}svg{width:100%;height:auto}\
.bad{color:#b00020}.note{color:#8a5a00}@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}\
td{border-color:#333}.bad{color:#ff6b7d}.note{color:#e0b050}}";

/// A run as a page. `points` is the curve of the last minutes.
pub fn html(snapshot: &Snapshot, points: &[Point]) -> String {
    let Snapshot { readings, clock, spool, flash, uplink, .. } = snapshot;
    let mut body = format!("<h1>{}</h1>", escape(&snapshot.gateway));
    for (class, lines) in [("bad", &snapshot.problems), ("note", &snapshot.notes)] {
        for line in lines {
            let _ = write!(body, "<p class=\"{class}\">{}</p>", escape(line));
        }
    }
    if snapshot.problems.is_empty() && snapshot.notes.is_empty() {
        body.push_str("<p>All is well.</p>");
    }
    let _ = write!(body, "<h2>Readings a second</h2>{}", curve(points));
    let _ = write!(body, "<h2>Spool</h2>{}", bar(spool.bytes, spool.bytes_max));
    body.push_str("<table>");
    let mut row = |name: &str, value: &str| {
        let _ = write!(body, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value));
    };
    row("link", if uplink.connected { "connected" } else { "not connected" });
    row("frames in flight", &uplink.in_flight.to_string());
    row(
        "last confirmation",
        &uplink.last_ack_age_ms.map_or("none yet".into(), |age| format!("{} ago", span(age))),
    );
    row("outages", &uplink.outages.to_string());
    row("readings produced", &readings.produced.to_string());
    row("readings confirmed", &readings.acked.to_string());
    for (cause, count) in &readings.dropped {
        row(&format!("readings dropped: {cause}"), &count.to_string());
    }
    row("frames waiting", &spool.frames.to_string());
    row("readings waiting", &spool.readings.to_string());
    if let Some(priority) = &spool.priority {
        row("of these, of priority channels", &priority.readings.to_string());
        row("priority readings dropped", &priority.dropped_readings.to_string());
    }
    row("oldest frame", &spool.oldest_age_ms.map_or("none".into(), |age| format!("{} old", span(age))));
    row("contract", contract_words(&snapshot.contract));
    row("clock", if clock.set { "set" } else { "not set" });
    row("clock steps", &clock.steps.to_string());
    row("readings waiting for the clock", &clock.held_readings.to_string());
    row("bytes written", &bytes(flash.bytes_written));
    row(
        "bytes written a reading",
        &flash.bytes_per_reading().map_or("none yet".into(), |bytes| format!("{bytes:.1}")),
    );
    row("fsyncs", &flash.fsyncs.to_string());
    row("memory", &bytes(snapshot.resident_bytes));
    row("running for", &span(snapshot.uptime_ms));
    row("boot", &snapshot.boot);
    row("version", &snapshot.version);
    body.push_str("</table><p><a href=\"/metrics\">metrics</a> <a href=\"/health\">JSON</a></p>");
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"5\">\
         <title>{} - ingot-gateway</title><style>{STYLE}</style></head><body>{body}</body></html>\n",
        escape(&snapshot.gateway)
    )
}

fn contract_words(contract: &ContractSnapshot) -> &'static str {
    match (contract.pushed, contract.on_trial) {
        (_, true) => "pushed, on trial",
        (true, false) => "pushed",
        (false, false) => "configured",
    }
}

/// Produced and confirmed readings a second, as two lines from 0 to the highest rate seen.
fn curve(points: &[Point]) -> String {
    let rates: Vec<_> = points.windows(2).map(|pair| rates(pair[0], pair[1])).collect();
    let Some(last) = rates.last() else {
        return "<p>The curve starts after ten seconds.</p>".into();
    };
    let top = rates.iter().map(|(produced, acked)| produced.max(*acked)).fold(1.0, f64::max);
    let line = |pick: fn(&(f64, f64)) -> f64| {
        let mut path = String::new();
        for (place, rate) in rates.iter().enumerate() {
            let x = WIDTH as f64 * place as f64 / (rates.len() - 1).max(1) as f64;
            let y = HEIGHT as f64 * (1.0 - pick(rate) / top);
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        path
    };
    format!(
        "<svg viewBox=\"0 -4 {WIDTH} {}\" role=\"img\" aria-label=\"readings a second\">\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#888\" stroke-width=\"2\"/>\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#0a7d4f\" stroke-width=\"2\"/></svg>\
         <p>produced {:.1} (grey), confirmed {:.1} (green), top of the picture {top:.1}</p>",
        HEIGHT + 8,
        line(|rate| rate.0),
        line(|rate| rate.1),
        last.0,
        last.1,
    )
}

/// Readings a second between two points: produced, confirmed.
pub fn rates(from: Point, to: Point) -> (f64, f64) {
    let seconds = to.uptime_ms.saturating_sub(from.uptime_ms).max(1) as f64 / 1_000.0;
    let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
    (rate(from.produced, to.produced), rate(from.acked, to.acked))
}

fn bar(filled: u64, all: u64) -> String {
    let share = if all == 0 { 0.0 } else { (filled as f64 / all as f64).min(1.0) };
    let colour = if share < 0.9 { "#0a7d4f" } else { "#b00020" };
    format!(
        "<svg viewBox=\"0 0 {WIDTH} 16\" role=\"img\" aria-label=\"spool fill\">\
         <rect width=\"{WIDTH}\" height=\"16\" fill=\"#8884\"/>\
         <rect width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/></svg><p>{} of {} ({:.1} %)</p>",
        WIDTH as f64 * share,
        bytes(filled),
        bytes(all),
        100.0 * share,
    )
}

/// A length of time in its two largest units.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Bytes in the largest binary unit that leaves at least 1.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1_024.0 && unit + 1 < units.len() {
        value /= 1_024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_state_and_lets_nothing_through_as_markup() {
        let mut snapshot = Snapshot { gateway: "gw-1".into(), ..Snapshot::default() };
        snapshot.spool.bytes_max = 4_096;
        snapshot.spool.bytes = 2_048;
        assert!(html(&snapshot, &[]).contains("All is well."));
        snapshot.uplink.last_failure = Some("x".into());
        snapshot.notes.push("<script>alert(1)</script>".into());
        let point = |uptime_ms, produced| Point { uptime_ms, produced, acked: 0 };
        let page = html(&snapshot, &[point(0, 0), point(5_000, 50), point(10_000, 200)]);
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
        assert!(page.contains("<tr><td>clock</td><td>not set</td></tr>"), "{page}");
        assert!(page.contains("2.0 KiB of 4.0 KiB (50.0 %)"), "{page}");
        assert!(page.contains("produced 30.0 (grey)") && page.contains("0.0,80.0 600.0,0.0"), "{page}");
    }

    #[test]
    fn spans_and_bytes_are_said_shortly() {
        let spans = [999, 59_999, 61_000, 3_661_000, 90_000_000].map(span);
        assert_eq!(spans, ["999 ms", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([1_023, 1_024, 3 << 29].map(bytes), ["1023 B", "1.0 KiB", "1.5 GiB"]);
    }
}
