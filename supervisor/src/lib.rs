//! Recipes, the plan, units and the command line of Hatchway. `docs/ARCHITECTURE.md` is the map.
#![forbid(unsafe_code)]

pub mod artifact;
pub mod attach;
pub mod causes;
pub mod cli;
pub mod export;
pub mod launch;
pub mod plan;
pub mod recipe;
pub mod sources;
pub mod steps;
pub mod suggest;
pub mod upkeep;

mod base;
mod clock;
pub mod config;
pub mod context;
pub mod daemon;
pub mod dirs;
pub mod doctor;
mod error;
pub mod gpu;
mod install;
mod installed;
pub mod instrument;
mod kernel_log;
mod licence;
mod patches;
mod python;
pub mod report;
mod rpm;
mod scripts;
mod service_events;
pub mod support;
mod timeline;
pub mod units;
pub mod visit;
mod why;
mod wine;

pub use error::Error;
