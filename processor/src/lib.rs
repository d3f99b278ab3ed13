//! # ingot-processor: from bronze to silver, discard and gold
//!
//! The path of a bronze object, a file each: [`bronze`] says from its key what it is, [`decode`] takes
//! its bytes apart, [`conform`] gives the values their types, [`check`] runs the contract's rules,
//! [`redact`] removes personal data ([`examine`] is these four in order, [`reading`] goes through an object with them, part by part); [`silver`] promotes each row
//! once ([`latest`] for datasets of which the latest version counts), [`quarantine`] holds objects that are set aside whole, [`discard`] keeps the others with the reason, [`ledger`] accounts for the object
//! ([`promote`] is these three in order), [`gold`] sums silver up,
//! [`dataset_check`] judges what has landed ([`settle`] is these two). [`run`] does it for all that is
//! pending, [`compact`] and [`maintain`] keep the lake quick, [`alert`] tells what is wrong, [`audit`] proves the result, [`query`] asks it, and [`land`] fills bronze from MQTT.
//! [`lambda`] does the same by events, as a function of AWS Lambda.
//!
//! Looking back: [`trace`] follows a number to its readings, [`redrive`] judges again what a rule discarded, [`rebuild`]
//! makes it all anew and compares by [`fingerprint`], [`lineage`] tells others; [`origin`] knows which columns gold is made of.
//!
//! Letting go: [`forget`] erases a person or a device, [`forgotten`] keeps out what comes back, [`retention`] ends each tier's time.
//!
//! The rules are data: a [`contract`] per dataset; [`lint`] finds its mistakes, [`trial`] tries it on its
//! examples and on [`mutant`]s of it, [`verdict_change`] says what another version would change. [`cost`] counts what it all would cost on AWS.
//! [`lake`] and [`table`] are the ground it stands on; [`aws`] makes calls to the cloud, [`emf`] its metrics, and
//! [`catalog`] shows the tables to Athena.

pub use datafusion::arrow;

pub mod alert;
pub mod audit;
pub mod aws;
pub mod bronze;
pub mod catalog;
pub mod check;
pub mod column;
pub mod compact;
pub mod conform;
pub mod contract;
pub mod cost;
pub mod dataset_check;
pub mod decode;
pub mod discard;
pub mod emf;
mod erased;
pub mod examine;
pub mod fingerprint;
pub mod forget;
pub mod forgotten;
pub mod gold;
pub mod lake;
pub mod lambda;
pub mod land;
pub mod latest;
pub mod ledger;
pub mod lineage;
pub mod lint;
pub mod maintain;
pub mod mutant;
pub mod origin;
pub mod promote;
pub mod pseudonym;
pub mod quantile;
pub mod quarantine;
pub mod query;
mod quoted;
pub mod reading;
pub mod rebuild;
pub mod redact;
pub mod redrive;
pub mod report;
pub mod retention;
pub mod run;
pub mod session;
pub mod settle;
pub mod silver;
pub mod table;
pub mod trace;
pub mod trial;
pub mod verdict_change;
