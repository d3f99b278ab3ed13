//! The ground truth on disk: every reading that was produced, before anything could touch it.
//!
//! A text file with tabs, one line a reading, in the order of production: `device`, `boot`, `seq`,
//! `channel`, `at_ms`, `value_bits` (the 16 hex digits of the IEEE 754 bits, or `-` where the sensor gave
//! no value). The first line names the columns. Only values are recorded, no verdicts: what a value
//! deserves is for the data contract to say. A reading that a device sends again is not a new truth.

use std::collections::HashSet;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use crate::Sample;

const HEADER: &str = "device\tboot\tseq\tchannel\tat_ms\tvalue_bits";
const COLUMNS: usize = 6;

/// Writes a truth file line by line. Give it a buffered writer, and flush that in the end.
pub struct TruthWriter<W> {
    out: W,
}

impl<W: Write> TruthWriter<W> {
    /// Starts a file with its header.
    pub fn new(mut out: W) -> io::Result<Self> {
        writeln!(out, "{HEADER}")?;
        Ok(Self { out })
    }

    /// Adds a reading.
    pub fn write(&mut self, sample: &Sample) -> io::Result<()> {
        let Sample { device, boot, seq, channel, at_ms, value } = sample;
        write!(self.out, "{device}\t{boot}\t{seq}\t{channel}\t{at_ms}\t")?;
        match value {
            Some(value) => writeln!(self.out, "{:016x}", value.to_bits()),
            None => writeln!(self.out, "-"),
        }
    }

    /// Flushes, and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Why a truth file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// The file itself.
    #[error("reading the truth file failed at line {line}: {source}")]
    Io {
        /// Counted from 1.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The first line is not the header.
    #[error("this is not a truth file: its first line must be `{HEADER}`, with tabs")]
    Header,
    /// A line that no writer wrote, or that was cut when the simulator was killed.
    #[error("line {line} of the truth file is damaged at its {column}; run the fleet again")]
    Line {
        /// Counted from 1.
        line: u64,
        /// The column that does not parse.
        column: &'static str,
    },
}

/// Reads a truth file, one sample at a time. Names are shared between the samples.
#[derive(Debug)]
pub struct TruthReader<R> {
    input: R,
    text: String,
    line: u64,
    names: HashSet<Arc<str>>,
}

impl<R: BufRead> TruthReader<R> {
    /// Checks the header.
    pub fn new(input: R) -> Result<Self, TruthError> {
        let mut reader = Self { input, text: String::new(), line: 0, names: HashSet::new() };
        if reader.read_line()? && reader.text == HEADER { Ok(reader) } else { Err(TruthError::Header) }
    }

    /// Reads a line without its end into `text`; false at the end of the file. A line without
    /// its end was cut, and stays visibly so.
    fn read_line(&mut self) -> Result<bool, TruthError> {
        self.text.clear();
        self.line += 1;
        let line = self.line;
        let read = self.input.read_line(&mut self.text);
        if read.map_err(|source| TruthError::Io { line, source })? == 0 {
            return Ok(false);
        }
        match self.text.pop() {
            Some('\n') => Ok(true),
            _ => Err(TruthError::Line { line, column: "end" }),
        }
    }

    fn parse(&mut self) -> Result<Sample, TruthError> {
        let line = self.line;
        let damaged = |column| TruthError::Line { line, column };
        let text = std::mem::take(&mut self.text);
        let columns: Vec<&str> = text.split('\t').collect();
        let columns: [&str; COLUMNS] = columns.try_into().map_err(|_| damaged("tabs"))?;
        let [device, boot, seq, channel, at_ms, bits] = columns;
        let value = match bits {
            "-" => None,
            bits if bits.len() == 16 => {
                let bits = u64::from_str_radix(bits, 16).map_err(|_| damaged("value_bits"))?;
                Some(f64::from_bits(bits))
            }
            _ => return Err(damaged("value_bits")),
        };
        let sample = Sample {
            device: self.name(device),
            boot: boot.parse().map_err(|_| damaged("boot"))?,
            seq: seq.parse().map_err(|_| damaged("seq"))?,
            channel: self.name(channel),
            at_ms: at_ms.parse().map_err(|_| damaged("at_ms"))?,
            value,
        };
        self.text = text; // its memory serves the next line
        Ok(sample)
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.names.insert(new.clone());
        new
    }
}

impl<R: BufRead> Iterator for TruthReader<R> {
    type Item = Result<Sample, TruthError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read_line() {
            Ok(true) => Some(self.parse()),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn sample(seq: u64, value: Option<f64>) -> Sample {
        Sample {
            device: "sim-0001".into(),
            boot: 7,
            seq,
            channel: "temperature".into(),
            at_ms: 1_767_225_600_000,
            value,
        }
    }

    fn written(samples: &[Sample]) -> Vec<u8> {
        let mut writer = TruthWriter::new(Vec::new()).unwrap();
        samples.iter().for_each(|sample| writer.write(sample).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn the_file_format_is_fixed() {
        let bytes = written(&[sample(0, Some(21.53)), sample(1, None)]);
        let want = "device\tboot\tseq\tchannel\tat_ms\tvalue_bits\n\
            sim-0001\t7\t0\ttemperature\t1767225600000\t403587ae147ae148\n\
            sim-0001\t7\t1\ttemperature\t1767225600000\t-\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), want);
    }

    #[test]
    fn every_value_comes_back_with_its_bits() {
        let values = [0.0, -0.0, 0.1 + 0.2, f64::MIN_POSITIVE, f64::MAX, 850.0];
        let mut samples: Vec<_> = values.map(|value| sample(0, Some(value))).into();
        samples.push(sample(1, None));
        let bytes = written(&samples);
        let read: Result<Vec<_>, _> = TruthReader::new(&bytes[..]).unwrap().collect();
        assert_eq!(read.unwrap(), samples);
    }

    #[test]
    fn damage_is_named_by_its_line() {
        let mut bytes = written(&[sample(0, Some(1.0)), sample(1, Some(2.0))]);
        bytes.truncate(bytes.len() - 4);
        let last = TruthReader::new(&bytes[..]).unwrap().last().unwrap();
        assert!(matches!(last, Err(TruthError::Line { line: 3, .. })));
        assert!(matches!(TruthReader::new(&b"x\n"[..]), Err(TruthError::Header)));
        assert!(matches!(TruthReader::new(&b""[..]), Err(TruthError::Header)));
    }
}
