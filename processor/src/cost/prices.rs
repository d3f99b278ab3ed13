//! AWS list prices in US dollars, region us-east-1, as known in November 2026. They change and differ by
//! region: look them up before a budget rests on them. First tier of each; no free tier.

/// A device connected for a minute (IoT Core connectivity, 0.08 a million).
pub const IOT_CONNECTION_MINUTE: f64 = 0.08e-6;
/// 5 KB of a message through the broker (IoT Core messaging, 1.00 a million).
pub const IOT_MESSAGE: f64 = 1.00e-6;
/// A rule triggered for 5 KB (IoT Core rules engine, 0.15 a million).
pub const IOT_RULE: f64 = 0.15e-6;
/// An action executed for 5 KB (IoT Core rules engine, 0.15 a million).
pub const IOT_ACTION: f64 = 0.15e-6;
/// A PUT, COPY, POST or LIST (S3 Standard, 0.005 a thousand).
pub const S3_PUT: f64 = 0.005e-3;
/// A GET (S3 Standard, 0.0004 a thousand).
pub const S3_GET: f64 = 0.000_4e-3;
/// A gigabyte for a month (S3 Standard).
pub const S3_GB_MONTH: f64 = 0.023;
/// A request (SQS standard queue, 0.40 a million; receive and delete in tens).
pub const SQS_REQUEST: f64 = 0.40e-6;
/// An invocation (Lambda, 0.20 a million).
pub const LAMBDA_REQUEST: f64 = 0.20e-6;
/// A gigabyte of memory for a second (Lambda, arm64).
pub const LAMBDA_GB_S: f64 = 0.000_013_333_4;

/// A reading as a JSON message of its own, with names, unit and time, in bytes.
pub const JSON_READING_BYTES: f64 = 200.0;
