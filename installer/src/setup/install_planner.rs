//! Plans `install`: the changes and the reason for each, and the restarts with the containers that
//! they stop.

use std::collections::BTreeMap;
use std::path::Path;

use gpu_host::distro::{self, Distro};
use gpu_host::{Inventory, init, kernel, platform};
use gpu_inject::generate;

use crate::engines::activation::Activation;
use crate::engines::down;
use crate::engines::engine::Engine;
use crate::error::Error;
use crate::error::config_fault::ConfigFault;
use crate::error::unsupported::Unsupported;
use crate::host::answer::Answer;
use crate::host::not_known;
use crate::host::{Host, systemd_scopes};
use crate::model::change::Change;
use crate::model::host_state::HostState;
use crate::model::setup_options::{DefaultRequest, DefaultRuntime, SetupOptions};
use crate::setup::default_runtime;
use crate::setup::driver_answer;
use crate::setup::engine_selection::{chosen, ensure_roots_files};
use crate::setup::gpu_files::{described, inventory, mismatch, no_driver};
use crate::setup::other_toolkits::{self, ConflictResolution};
use crate::setup::undo_planner;
use crate::setup::{history, host_state};
use crate::transaction::interrupted;
use crate::transaction::plan::Plan;
use crate::transaction::preflight;
use crate::transaction::receipt::Receipt;

/// The options of `install`.
#[derive(Clone, Debug, Default)]
pub struct InstallRequest {
    /// How containers get GPUs.
    pub wanted: SetupOptions,
    /// What becomes of the engines' default runtime. It decides over the one in `wanted`.
    pub default_runtime: DefaultRequest,
    /// Only these engines; if empty, all that are found.
    pub only: Vec<String>,
    /// Restart the engines that need it.
    pub restart: bool,
    /// Set up all engines or none.
    pub all_or_nothing: bool,
}

impl InstallRequest {
    /// Whether an engine that does not run is started. That needs the user's word: its name, all engines or none, or
    /// no other engine on this host.
    fn starts_stopped(&self, host: &Host, engines: &[Box<dyn Engine>]) -> bool {
        let mut engines = engines.iter().map(|e| down::why(host, &**e));
        let is_asked_for = !self.only.is_empty() || self.all_or_nothing;
        !self.restart || is_asked_for || engines.all(|stopped| stopped.is_some())
    }
}

/// Inspects the host and returns the plan, or an error that says why there is none.
pub fn plan(host: &Host, request: &InstallRequest) -> Result<Plan, Error> {
    let distro = distro::detect(host.root());
    ensure_supported(host, &distro)?;
    // Without a usable receipt, plan nothing: no run could be recorded.
    let receipt = Receipt::load(host)?.unwrap_or_default();
    let (engines, remarks) = chosen(host, &request.only, &receipt)?;
    let inventory = inventory(host)?;
    if inventory.driver.is_none() && host.is_live() {
        return Err(no_driver(host));
    }
    let foreign = other_toolkits::find(host, &engines);
    let is_of_user = engines.iter().any(|e| e.is_of_user());
    let resolution = if is_of_user {
        ensure_roots_files(host)?;
        ConflictResolution::default()
    } else {
        other_toolkits::resolve(&foreign, host, request.wanted.existing)?
    };
    let mut plan = Plan {
        changes: resolution.changes,
        engines: Vec::new(),
        wanted: Some(request.wanted.clone()),
        default_runtime: BTreeMap::new(),
        gpus: inventory.gpus.len(),
        warnings: distro
            .warning
            .iter()
            .cloned()
            .chain(receipt.remark())
            .chain(driver_answer::remarks(&inventory))
            .chain(remarks)
            .collect(),
        unchecked: receipt.unchecked.clone(),
        foreign,
        state: HostState {
            interrupted: interrupted::find(host)?,
            ..HostState::default()
        },
        skipped: Vec::new(),
        unread: BTreeMap::new(),
    };
    // For a user's own engine, the files that describe the GPUs are root's, and they exist.
    if !is_of_user {
        describe_gpus(&mut plan, host, &inventory, resolution.spec_is_theirs)?;
    }
    let starts_stopped = request.starts_stopped(host, &engines);
    let mut cannot = None;
    for engine in engines {
        host_state::add(&mut plan.state, host, &*engine, Some(&receipt));
        let how = EngineRequest {
            host,
            receipt: &receipt,
            request,
            starts_stopped,
        };
        match how.add(&mut plan, engine) {
            Ok(()) => {}
            Err((engine, cause)) if !request.all_or_nothing && is_of_engine(&cause) => {
                plan.leave_out_unplanned(&*engine, &cause);
                cannot.get_or_insert(cause);
            }
            Err((_, cause)) => return Err(cause),
        }
    }
    // Without any other engine, that is the result.
    if let Some(cause) = cannot.filter(|_| plan.engines.is_empty()) {
        return Err(cause);
    }
    warn_of_old_kernel(&mut plan, host);
    host.ensure_fully_readable()?;
    ensure_writable(&mut plan, host, &distro)?;
    if !plan.is_empty() {
        plan.warnings.extend(resolution.warnings);
        if !plan.foreign.is_empty() {
            let traces = plan.foreign.lines().join("; ");
            plan.warnings.push(format!("found {traces}"));
        }
    }
    if request.restart && host.is_live() {
        warn_of_reload(&mut plan, host);
        ensure_restarts_are_possible(&plan, host)?;
    }
    Ok(plan)
}

/// Whether a failure is of one engine, so that others can be set up without it. A runtime of another tool is a question
/// to the user, which stops the run.
fn is_of_engine(cause: &Error) -> bool {
    use ConfigFault::{OtherRuntime, UnfitRuntime};
    match cause {
        // Root may.
        denied if denied.is_denied() => false,
        Error::Config { fault, .. } => !matches!(fault, OtherRuntime { .. } | UnfitRuntime { .. }),
        Error::File { .. } | Error::Engine { .. } => true,
        _ => false,
    }
}

/// What is asked for each engine.
struct EngineRequest<'a> {
    host: &'a Host,
    receipt: &'a Receipt,
    request: &'a InstallRequest,
    /// See [`InstallRequest::starts_stopped`].
    starts_stopped: bool,
}

/// An engine that cannot be planned, and why.
type Unplanned = (Box<dyn Engine>, Error);

impl EngineRequest<'_> {
    /// Adds what is to be done for an engine to the plan, or leaves it out if it does not run.
    fn add(&self, plan: &mut Plan, engine: Box<dyn Engine>) -> Result<(), Unplanned> {
        let Self { host, receipt, .. } = self;
        let state = default_runtime::state(receipt, &*engine, self.request.default_runtime);
        let wanted = SetupOptions {
            default_runtime: state.is_some_and(DefaultRuntime::is_ours),
            texts_before: history::texts_before(receipt),
            ..self.request.wanted.clone()
        };
        let changes = engine.changes(host, &wanted);
        let stopped = down::why(host, &*engine);
        let is_stopped = stopped.is_some();
        let is_left = is_stopped && !self.starts_stopped;
        let is_on_demand = is_left && down::is_on_demand(host, &*engine);
        let mut changes = match (changes, stopped.filter(|_| is_left && !is_on_demand)) {
            (Ok(changes), None) => changes,
            (Err(cause), None) => return Err((engine, cause)),
            // It is set up already.
            (Ok(changes), Some(_))
                if changes.is_empty() && state != Some(DefaultRuntime::TakenBack) =>
            {
                changes
            }
            (_, Some(why)) => {
                plan.leave_out_stopped(&*engine, why);
                return Ok(());
            }
        };
        let mut own = changes.iter().filter(|c| !c.path.starts_with("/usr"));
        if let Err(cause) = own.try_for_each(|change| ensure_one_writable(host, change)) {
            return Err((engine, cause));
        }
        if let Some(state) = state {
            if state == DefaultRuntime::TakenBack
                && let Err(cause) =
                    default_runtime::take_back(host, receipt, &*engine, &mut changes)
            {
                return Err((engine, cause));
            }
            plan.warn(
                default_runtime::remark(&*engine, state)
                    .into_iter()
                    .collect(),
            );
            plan.default_runtime
                .insert(engine.facts().name.clone(), state);
        }
        let mut activation = activation(host, &*engine, receipt, &changes, &plan.state);
        let is_not_started = is_stopped && !self.request.restart;
        if let (true, Some(why)) = (is_stopped, engine.is_held()) {
            activation = activation.at_start(&why);
        } else if is_on_demand {
            activation = activation.at_start(down::ON_DEMAND);
        } else if is_not_started {
            activation = activation.at_start(down::NEXT_START);
        } else if let Some(why) = down::by_another(host, &*engine) {
            activation = activation.at_start(&why);
        }
        let is_due = plan.state.ours().any(|d| d.engine == engine.facts().name);
        let unread = is_due.then(|| undo_planner::taken_out(host, receipt, &*engine));
        if let Some(unread) = unread.flatten() {
            plan.unread.insert(engine.facts().name.clone(), unread);
        }
        plan.warn(engine.consequences(host, &wanted));
        plan.warn(engine.warnings(host));
        plan.changes.extend(changes);
        plan.engines.push((engine, activation));
        Ok(())
    }
}

/// What must happen for these changes to take effect, and for those of earlier runs that the engine has not read.
fn activation(
    host: &Host,
    engine: &dyn Engine,
    receipt: &Receipt,
    changes: &[Change],
    state: &HostState,
) -> Activation {
    let name = &engine.facts().name;
    let Some(due) = state.ours().find(|d| d.engine == *name) else {
        return engine.activation(host, changes);
    };
    let earlier = receipt.changes.iter();
    let earlier = earlier.filter(|c| engine.owns(&c.path)).cloned();
    let all: Vec<Change> = earlier.chain(changes.iter().cloned()).collect();
    engine.activation(host, &all).because(&due.why)
}

/// What to do on a distribution that cannot be set up by writing files, or where to read more.
fn instead_of_install(distro: &Distro) -> String {
    distro.instead.as_ref().map_or_else(
        || "see docs/distributions.md".into(),
        |instead| format!("write this instead:\n\n{}", instead.trim_end()),
    )
}

fn ensure_supported(host: &Host, distro: &Distro) -> Result<(), Error> {
    if let Some(why) = &distro.unsupported {
        let (why, instead) = (why.clone(), instead_of_install(distro));
        return Err(Unsupported::Distribution { why, instead }.into());
    }
    let root = host.root();
    let missing = kernel::missing_ways(root);
    if let Some(way) = missing.into_iter().find(|way| !way.is_of_v2) {
        let release = kernel::release(root).unwrap_or_default();
        return Err(Unsupported::OldKernel { release, way }.into());
    }
    Ok(())
}

/// The ways into a container for which this kernel is too old, if other ways remain.
fn warn_of_old_kernel(plan: &mut Plan, host: &Host) {
    for way in kernel::missing_ways(host.root()) {
        plan.warnings.push(format!(
            "{} will not work on this kernel: it needs {}, with {}; use the runtime or CDI",
            way.name, way.since, way.needs
        ));
    }
}

/// Plans the CDI spec, the stored inventory and the other files that describe the GPUs.
fn describe_gpus(
    plan: &mut Plan,
    host: &Host,
    inventory: &Inventory,
    spec_is_theirs: bool,
) -> Result<(), Error> {
    if inventory.driver.is_none() {
        plan.warnings.push(
            "no driver is loaded here; the CDI spec is made at the first boot with one".into(),
        );
        return Ok(());
    }
    plan.warnings.extend(mismatch(host, inventory));
    let mut described = described(host, inventory)?;
    if spec_is_theirs {
        described.retain(|c| c.path != Path::new(generate::SPEC_PATH));
    }
    plan.changes.extend(described);
    Ok(())
}

/// Fails if the plan has a file that even root could not write, and adds the warnings about files that it replaces.
fn ensure_writable(plan: &mut Plan, host: &Host, distro: &Distro) -> Result<(), Error> {
    let is_sealed = |c: &&Change| distro.usr.is_read_only() && c.path.starts_with("/usr");
    if let Some(change) = plan.changes.iter().find(is_sealed) {
        let (path, instead) = (change.path.clone(), instead_of_install(distro));
        return Err(Unsupported::ReadOnlyUsr { path, instead }.into());
    }
    for change in &plan.changes {
        ensure_one_writable(host, change)?;
        plan.warnings.extend(preflight::remark(host, change));
    }
    Ok(())
}

fn ensure_one_writable(host: &Host, change: &Change) -> Result<(), Error> {
    match preflight::ensure_writable(host, change, false) {
        Err(refused @ Error::Config { .. }) => Err(refused),
        // If this user lacks permission, root may have it.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Warns about containers that would lose their GPUs in a daemon-reload.
fn warn_of_reload(plan: &mut Plan, host: &Host) {
    if plan.reloads().is_empty() {
        return;
    }
    match systemd_scopes::containers_losing_gpus(host) {
        Answer::Known(names) => plan.warnings.push(format!(
            "systemctl daemon-reload takes the GPUs from {}; start them anew afterwards",
            names.join(", ")
        )),
        Answer::None => {}
        Answer::Unknown(why) => plan.warnings.push(format!(
            "systemctl daemon-reload may take the GPUs from running containers; from which is {}",
            not_known::why_not_known(host, &why)
        )),
    }
}

fn ensure_restarts_are_possible(plan: &Plan, host: &Host) -> Result<(), Error> {
    if plan.services().is_empty() || init::detect(host.root()) == init::Init::Systemd {
        return Ok(());
    }
    Err(Unsupported::NoSystemd {
        services: plan.service_names(),
        is_wsl: platform::detect(host.root()).wsl,
    }
    .into())
}
