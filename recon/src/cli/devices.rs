//! `hatchway-recon devices`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::report;
use crate::Error;
use crate::gpu::{Adapter, Choice, adapters, choose};

/// The machine's graphics cards.
#[derive(Debug, Args)]
#[command(
    after_help = "`[device]` in a plan says which one computes: `use = \"auto\"`, `\"gpu\"` or `\"cpu\"`, and `adapter`, a part of a name.\n\nExample:\n  hatchway-recon devices"
)]
pub(super) struct Devices {
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// What a plan without `[device]` takes.
#[derive(Serialize)]
struct Auto {
    /// Its place in the list; the processor if there is none.
    adapter: Option<usize>,
    reason: String,
}

#[derive(Serialize)]
struct Listed {
    adapters: Vec<Adapter>,
    auto: Auto,
}

pub(super) fn run(args: &Devices) -> Result<ExitCode, Error> {
    // That there is none is an answer, not a failure.
    let (adapters, chosen) = match adapters() {
        Ok(all) => {
            let chosen = choose(&all, &Choice::Auto, false);
            (all, chosen)
        }
        Err(error) => (Vec::new(), Err(error)),
    };
    let auto = match chosen {
        Ok(chosen) => Auto { adapter: Some(chosen.index), reason: chosen.reason },
        Err(error) => Auto { adapter: None, reason: error.to_string() },
    };
    let listed = Listed { adapters, auto };
    if args.json {
        report::json(&listed)?;
    } else {
        report::data(table(&listed))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(listed: &Listed) -> String {
    let mut text = String::new();
    for adapter in &listed.adapters {
        text += &format!(
            "{}  {}\n   {}, {} by {}, buffers of {} MiB in shards of {} MiB\n",
            adapter.index,
            adapter.name,
            adapter.kind,
            adapter.driver,
            adapter.backend,
            adapter.buffer_bytes_max >> 20,
            adapter.binding_bytes_max >> 20,
        );
    }
    let auto = listed.auto.adapter.map_or("the processor".to_owned(), |index| format!("number {index}"));
    text + &format!("auto is {auto}: {}\n", listed.auto.reason)
}
