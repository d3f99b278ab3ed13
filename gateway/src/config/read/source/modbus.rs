//! `kind = "modbus"`: a bus and its registers.

use super::{read_baud, read_name};
use crate::config::keys::Keys;
use crate::source::modbus::{Function, ModbusBus, ModbusConfig, Number, Register, WordOrder};
use crate::source::port::Parity;

/// Most registers of one bus.
const REGISTERS_MAX: usize = 1_000;

pub(super) fn read(keys: &mut Keys<'_>, name: &str) -> ModbusConfig {
    let (has_host, has_path) = (keys.has("host"), keys.has("path"));
    if has_host == has_path {
        keys.problem("host", "wants either host (Modbus TCP) or path (a serial port, Modbus RTU)");
    }
    let bus = if has_path {
        ModbusBus::Rtu {
            path: keys.text("path").unwrap_or_default().into(),
            baud: read_baud(keys, 9_600),
            parity: keys.choice(
                "parity",
                Parity::Even,
                &[("even", Parity::Even), ("odd", Parity::Odd), ("none", Parity::None)],
            ),
        }
    } else {
        ModbusBus::Tcp {
            host: keys.text("host").unwrap_or_default(),
            port: keys.number("port", 502, 1..=65_535) as u16,
        }
    };
    let timeout_ms = keys.number("timeout_ms", 1_000, 10..=60_000);
    let device = read_name(keys, "device", name);
    let tables = keys.list("register").unwrap_or_default();
    if tables.is_empty() || tables.len() > REGISTERS_MAX {
        keys.problem("register", format!("wants 1 to {REGISTERS_MAX} [[source.register]]"));
    }
    let registers = tables.into_iter().map(|register| read_register(register, &device)).collect();
    ModbusConfig { bus, timeout_ms, registers }
}

fn read_register(mut keys: Keys<'_>, device: &str) -> Register {
    keys.needed("channel", "wants the channel's name");
    let channel = read_name(&mut keys, "channel", "channel");
    let scale = keys.real("scale", 1.0);
    if scale == 0.0 {
        keys.problem("scale", "wants another number than 0");
    }
    keys.needed("address", "wants the address of the first word, from 0 to 65535");
    let register = Register {
        device: read_name(&mut keys, "device", device),
        channel,
        unit: keys.number("unit", 1, 0..=255) as u8,
        address: keys.number("address", 0, 0..=65_535) as u16,
        function: keys.choice(
            "function",
            Function::Holding,
            &[("holding", Function::Holding), ("input", Function::Input)],
        ),
        number: keys.choice(
            "type",
            Number::U16,
            &[
                ("u16", Number::U16),
                ("i16", Number::I16),
                ("u32", Number::U32),
                ("i32", Number::I32),
                ("f32", Number::F32),
            ],
        ),
        word_order: keys.choice(
            "word_order",
            WordOrder::Big,
            &[("big", WordOrder::Big), ("little", WordOrder::Little)],
        ),
        scale,
        offset: keys.real("offset", 0.0),
        period_ms: keys.number("period_ms", 10_000, 20..=86_400_000),
    };
    if register.number.words() == 2 && register.address == u16::MAX {
        keys.problem("address", "wants room for two words: at most 65534");
    }
    keys.end();
    register
}
