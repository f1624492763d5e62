//! A graphics card that is open: its queue, how much of its memory is taken, and whether it is still there.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::adapter::{Adapter, Choice, Kind, choose};
use super::kernels::Compiled;
use super::memory::host_free;
use crate::Error;

/// Per cent of what a driver says is free that may be taken; above, allocations are refused before they are tried.
const BUDGET_PER_CENT: u8 = 95;

/// How a card is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which.
    pub choice: Choice,
    /// Whether [`Choice::Auto`] may be a software adapter.
    pub allow_software: bool,
    /// Bytes of a shard at most; the card's limit unless stated.
    pub shard_bytes_max: Option<u64>,
    /// Bytes of memory to be taken at most. Unless stated, what the driver allows; of a card in the host's memory what
    /// was free there when it was opened.
    pub memory_bytes_max: Option<u64>,
}

/// A graphics card that is open. Clones are the same card.
#[derive(Clone)]
pub struct Device {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) adapter: Adapter,
    reason: String,
    pub(super) raw: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) shard_bytes_max: u64,
    memory_bytes_max: Option<u64>,
    /// Bytes that are taken.
    pub(super) taken: AtomicU64,
    failures: Arc<Failures>,
    pub(super) compiled: Compiled,
}

/// What has gone wrong; the first of each kind stays.
#[derive(Default)]
struct Failures {
    lost: Mutex<Option<String>>,
    other: Mutex<Option<String>>,
}

fn keep_first(place: &Mutex<Option<String>>, reason: String) {
    place.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
}

fn kept(place: &Mutex<Option<String>>) -> Option<String> {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl fmt::Debug for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Device").field("adapter", &self.inner.adapter).finish_non_exhaustive()
    }
}

/// All adapters of this machine with a Vulkan driver. Takes a tenth of a second, for drivers are loaded. Mesa's write
/// `error: XDG_RUNTIME_DIR is invalid` to stderr where there is no session; it harms nothing.
///
/// # Errors
/// None; programs without the feature `gpu` have some.
pub fn adapters() -> Result<Vec<Adapter>, Error> {
    Ok(found(&instance()).iter().enumerate().map(|(index, adapter)| described(index, adapter)).collect())
}

/// How names in `/dev` begin that kernel drivers of graphics cards make: all that have one by the common interface, then
/// NVIDIA, a card of Windows around Linux, AMD, Mali and Adreno.
const DEVICES: [&str; 6] = ["dri", "nvidia", "dxg", "kfd", "mali", "kgsl"];

fn is_of_card(name: &str) -> bool {
    DEVICES.iter().any(|begin| name.starts_with(begin))
}

/// Whether there may be a card that is not a software adapter.
fn may_have_card() -> bool {
    let Ok(names) = std::fs::read_dir("/dev") else {
        return true;
    };
    names.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_of_card))
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        // No validation layers, which would be other code than that of users.
        flags: wgpu::InstanceFlags::empty(),
        memory_budget_thresholds: wgpu::MemoryBudgetThresholds {
            for_resource_creation: Some(BUDGET_PER_CENT),
            for_device_loss: None,
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

fn found(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN))
}

fn described(index: usize, adapter: &wgpu::Adapter) -> Adapter {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    Adapter {
        index,
        name: info.name,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
            wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
            wgpu::DeviceType::VirtualGpu => Kind::Virtual,
            wgpu::DeviceType::Cpu => Kind::Software,
            wgpu::DeviceType::Other => Kind::Other,
        },
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        backend: info.backend.to_string(),
        binding_bytes_max: limits.max_storage_buffer_binding_size,
        buffer_bytes_max: limits.max_buffer_size,
        shared_bytes_max: limits.max_compute_workgroup_storage_size,
    }
}

impl Device {
    /// Opens a card.
    ///
    /// # Errors
    /// [`Error::NoGpu`] if no adapter is what is wished for, [`Error::Gpu`] if its driver does not open it.
    pub fn open(options: &Options) -> Result<Self, Error> {
        if options.choice == Choice::Auto && !options.allow_software && !may_have_card() {
            // Drivers take a tenth of a second to load, and say things.
            return Err(Error::NoGpu("the kernel has no device of one in `/dev`".to_owned()));
        }
        let instance = instance();
        let adapters = found(&instance);
        let list: Vec<Adapter> =
            adapters.iter().enumerate().map(|(index, adapter)| described(index, adapter)).collect();
        let chosen = choose(&list, &options.choice, options.allow_software)?;
        let adapter = list[chosen.index].clone();
        let request = adapters[chosen.index].request_device(&wgpu::DeviceDescriptor {
            label: Some("reconstruction"),
            required_limits: adapters[chosen.index].limits(),
            ..wgpu::DeviceDescriptor::default()
        });
        let (raw, queue) = block_on(request).map_err(|error| Error::Gpu {
            adapter: adapter.name.clone(),
            action: "be opened".to_owned(),
            reason: error.to_string(),
        })?;
        let failures = Arc::new(Failures::default());
        listen(&raw, &failures);
        let shares_memory = matches!(adapter.kind, Kind::Integrated | Kind::Software);
        let host = if shares_memory { host_free() } else { None };
        // Buffers are multiples of 16 bytes.
        let limit = adapter.binding_bytes_max.min(adapter.buffer_bytes_max) / 16 * 16;
        Ok(Self {
            inner: Arc::new(Inner {
                shard_bytes_max: options.shard_bytes_max.map_or(limit, |bytes| bytes.min(limit)),
                memory_bytes_max: options.memory_bytes_max.or(host),
                adapter,
                reason: chosen.reason,
                raw,
                queue,
                taken: AtomicU64::new(0),
                failures,
                compiled: Compiled::default(),
            }),
        })
    }

    /// The adapter.
    #[must_use]
    pub fn adapter(&self) -> &Adapter {
        &self.inner.adapter
    }

    /// Why this one.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.inner.reason
    }

    /// Bytes of its memory that are taken by this program.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        self.inner.taken.load(Ordering::Relaxed)
    }

    /// Gives the card back at once, from any thread. What is being computed on it ends with [`Error::GpuLost`], as it
    /// does when a card goes away.
    pub fn destroy(&self) {
        self.inner.raw.destroy();
    }

    /// Whether the card is there, and did all that it was asked to.
    ///
    /// # Errors
    /// [`Error::GpuLost`], [`Error::Gpu`].
    pub fn check(&self) -> Result<(), Error> {
        let adapter = || self.inner.adapter.name.clone();
        if let Some(reason) = kept(&self.inner.failures.lost) {
            return Err(Error::GpuLost { adapter: adapter(), reason });
        }
        match kept(&self.inner.failures.other) {
            Some(reason) => Err(Error::Gpu { adapter: adapter(), action: "compute".to_owned(), reason }),
            None => Ok(()),
        }
    }

    /// Bytes that may still be taken, where it is known.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        self.inner.memory_bytes_max.map(|most| most.saturating_sub(self.taken_bytes()))
    }

    /// Remembers that the card is not there any more.
    pub(super) fn lose(&self, reason: String) {
        keep_first(&self.inner.failures.lost, reason);
    }

    /// Hands over commands.
    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) {
        self.inner.queue.submit([encoder.finish()]);
    }

    pub(super) fn encoder(&self) -> wgpu::CommandEncoder {
        self.inner.raw.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Waits until all commands are done.
    ///
    /// # Errors
    /// As [`Device::check`].
    pub(super) fn wait(&self) -> Result<(), Error> {
        // In this version of wgpu, waiting for a card that is gone is a panic, and no error.
        let poll = || self.inner.raw.poll(wgpu::PollType::wait_indefinitely());
        if let Some(reason) = lost_by(catch_unwind(AssertUnwindSafe(poll))) {
            self.lose(reason);
        }
        self.check()
    }

    /// Makes something, and turns what goes wrong with it into an error. `what` is for the message.
    pub(super) fn watched<R>(&self, what: &str, bytes: u64, make: impl FnOnce() -> R) -> Result<R, Error> {
        let memory = self.inner.raw.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let valid = self.inner.raw.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = make();
        let (invalid, full) = (block_on(valid.pop()), block_on(memory.pop()));
        self.check()?;
        let adapter = || self.inner.adapter.name.clone();
        if full.is_some() {
            let limit = format!("its driver has less, and {} are taken", self.taken_bytes());
            return Err(Error::GpuMemory { adapter: adapter(), what: what.to_owned(), needed: bytes, limit });
        }
        match invalid {
            Some(error) => {
                let action = format!("make {what}");
                Err(Error::Gpu { adapter: adapter(), action, reason: error.to_string() })
            }
            None => Ok(made),
        }
    }
}

/// Why a card is lost by how waiting for it ended, if it is.
fn lost_by<S>(ended: thread::Result<Result<S, wgpu::PollError>>) -> Option<String> {
    let panic = match ended {
        Ok(Ok(_)) => return None,
        Ok(Err(error)) => return Some(error.to_string()),
        Err(panic) => panic,
    };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    Some(text.unwrap_or("waiting for it failed").trim().to_owned())
}

/// Hears of failures that belong to no call.
fn listen(raw: &wgpu::Device, failures: &Arc<Failures>) {
    let heard = Arc::clone(failures);
    raw.set_device_lost_callback(move |reason, said| {
        let gone = match reason {
            wgpu::DeviceLostReason::Destroyed => "it was given back",
            wgpu::DeviceLostReason::Unknown => "its driver gave up",
        };
        let reason = if said.is_empty() { gone.to_owned() } else { format!("{gone}: {said}") };
        keep_first(&heard.lost, reason);
    });
    let heard = Arc::clone(failures);
    raw.on_uncaptured_error(Arc::new(move |error: wgpu::Error| match error {
        // Out of memory in the middle of the work: nothing of it can be relied on.
        wgpu::Error::OutOfMemory { .. } => keep_first(&heard.lost, "it ran out of memory".to_owned()),
        wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => {
            keep_first(&heard.other, error.to_string());
        }
    }));
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What a future gives. Those of native drivers are ready at once.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_cards_are_known_by_their_names() {
        assert!(
            ["dri", "nvidia0", "nvidiactl", "dxg", "kfd", "mali0", "kgsl-3d0"]
                .iter()
                .all(|name| is_of_card(name))
        );
        assert!(["null", "kvm", "fb0", "tty", "disk"].iter().all(|name| !is_of_card(name)));
    }

    #[test]
    fn however_waiting_ends_is_understood() {
        assert_eq!(lost_by(Ok(Ok(()))), None);
        assert_eq!(
            lost_by::<()>(Ok(Err(wgpu::PollError::Timeout))).unwrap(),
            wgpu::PollError::Timeout.to_string()
        );
        let device = "Parent device is lost";
        let said =
            catch_unwind(|| -> Result<(), wgpu::PollError> { panic!("Error in Device::poll: {device}\n") });
        assert_eq!(lost_by(said).unwrap(), "Error in Device::poll: Parent device is lost");
        let said = catch_unwind(|| -> Result<(), wgpu::PollError> { panic!("gone") });
        assert_eq!(lost_by(said).unwrap(), "gone");
    }

    #[test]
    fn a_future_that_is_not_ready_is_waited_for() {
        let (woken, waker) = std::sync::mpsc::channel::<Waker>();
        let is_done = Arc::new(Mutex::new(false));
        let there = Arc::clone(&is_done);
        let helper = thread::spawn(move || {
            let waker = waker.recv().unwrap();
            *there.lock().unwrap() = true;
            waker.wake();
        });
        let value = block_on(std::future::poll_fn(|context| {
            if *is_done.lock().unwrap() {
                return Poll::Ready(7);
            }
            drop(woken.send(context.waker().clone()));
            Poll::Pending
        }));
        helper.join().unwrap();
        assert_eq!(value, 7);
    }
}
