//! The shim as the init of a guest: makes the machine ready, starts itself once more as the unit's attendant, carries the
//! streams between ports and the tool, and switches the machine off.
//!
//! Inside, the unit runs as on the fhs rung, with the same plan. What is different is that its standard streams are
//! pipes or a terminal of this process, whose other ends are the ports ([`streams`]).
mod machine;
mod outbox;
mod ports;
mod session;
mod streams;
mod visitors;

use crate::complain;
use crate::error::Error;
use hatchway_wire::VERSION;
use hatchway_wire::guest::{GuestOrder, GuestReport, ORDER};
use outbox::Control;
use rustix::system::RebootCommand;

/// Runs the guest to its end and switches it off. It comes back only where this process is not the first one.
pub(crate) fn run() -> Result<i32, Error> {
    if !rustix::process::getpid().is_init() {
        return Err(Error::Usage);
    }
    if let Err(error) = boot() {
        complain(&error.to_string(), std::error::Error::source(&error), None);
    }
    rustix::fs::sync();
    // Without the right to switch off, the end of the first process stops the machine as well.
    rustix::system::reboot(RebootCommand::PowerOff).ok();
    Ok(1)
}

fn boot() -> Result<(), Error> {
    machine::first_mounts()?;
    let order = order()?;
    // Those for disks and ports come first, so that there is a way to say which other one failed.
    let loaded = machine::load_modules(&order.modules);
    let mut control = Control::open()?;
    control.send(&GuestReport::Ready { kernel: machine::release(), uptime_ms: machine::uptime_ms() });
    let ended = loaded.and_then(|()| unit(&order, &mut control));
    let last = match ended {
        Ok(ended) => ended,
        Err(error) => {
            let mut message = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                message = format!("{message}: {source}");
            }
            control.send(&GuestReport::Failed { message });
            GuestReport::Ended { code: 125, record: None }
        }
    };
    machine::put_away(&order);
    control.send(&last);
    // What is on its way in the ports is lost when the machine is switched off: whoever reads them does that.
    control.flush_to_the_end();
    Ok(())
}

fn order() -> Result<GuestOrder, Error> {
    let text = std::fs::read(ORDER).map_err(Error::ReadBootstrap)?;
    let order: GuestOrder = serde_json::from_slice(&text).map_err(Error::ParseBootstrap)?;
    if order.version != VERSION {
        return Err(Error::Version { theirs: order.version, ours: VERSION });
    }
    Ok(order)
}

/// From a machine with its devices to the end of the unit.
fn unit(order: &GuestOrder, control: &mut Control) -> Result<GuestReport, Error> {
    machine::make_ready(order)?;
    let streams = streams::Streams::open(order)?;
    session::Session::start(order, streams)?.run(control)
}
