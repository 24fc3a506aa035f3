//! `cutplane doctor`: what this machine has, and what is missing.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use cutplane_record::Provenance;
use cutplane_runtime::devices::{Card, Driver, Headers, Mpi, Nccl, NotReady, Nvlink, Pcie, Probe, probe};
use serde::Serialize;
use serde_json::json;

use crate::local::BackendChoice;
use crate::output;

/// Says what was found for computing on cores and on NVIDIA cards, for joining machines, and for solving; and what is
/// missing, with the remedy.
///
/// Ends with an error only when something that `--require` or `--backend` names is missing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane doctor                   what is here
  cutplane doctor --backend cuda    an error in one line when no card can be used
  cutplane doctor --require cuda,mpi --json")]
pub(crate) struct Doctor {
    /// Ends with an error when one of these is missing.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    require: Vec<Part>,
    /// As --require, for the back end.
    #[arg(long, value_enum)]
    backend: Option<BackendChoice>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// A part of the machine that a plan may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    /// Cores of this machine.
    Cpu,
    /// NVIDIA cards.
    Cuda,
    /// Processes of one job.
    Mpi,
    /// Collectives of NVIDIA.
    Nccl,
    /// The solver.
    Highs,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Finding {
    part: Part,
    /// Why the part cannot be used, with the remedy.
    missing: Option<String>,
    /// What was found.
    found: Vec<String>,
}

impl Doctor {
    pub(crate) fn run(&self) -> Result<()> {
        let probe = probe();
        let findings = [cpu(&probe), cuda(&probe), mpi(&probe.mpi), nccl(&probe.nccl), highs()];
        if self.json {
            output::print_json(&json!({ "findings": findings, "probe": probe }))?;
        } else {
            findings.iter().for_each(Finding::print);
        }
        let backend = self.backend.map(|backend| match backend {
            BackendChoice::Cpu => Part::Cpu,
            BackendChoice::Cuda => Part::Cuda,
        });
        let required = self.require.iter().copied().chain(backend);
        for part in required {
            if let Some(missing) = findings.iter().find(|found| found.part == part).and_then(|f| f.missing.as_ref()) {
                bail!("{missing}");
            }
        }
        Ok(())
    }
}

impl Finding {
    fn print(&self) {
        let name = self.part.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
        let (state, text) = match &self.missing {
            None => ("ready", None),
            Some(missing) => ("missing", Some(missing)),
        };
        let mut lines = text.into_iter().chain(&self.found);
        println!("{name:<6} {state:<8} {}", lines.next().map_or("", String::as_str));
        for line in lines {
            println!("{:<15} {line}", "");
        }
    }
}

fn cpu(probe: &Probe) -> Finding {
    let model = Provenance::capture().cpu_model;
    let found = vec![format!("{} cores of {model}, one rank each", probe.cores)];
    Finding { part: Part::Cpu, missing: None, found }
}

fn cuda(probe: &Probe) -> Finding {
    let missing = probe.cuda_ready().err();
    let mut found: Vec<String> = probe.cards.iter().map(card).collect();
    match &probe.driver {
        Driver::Absent => {}
        Driver::Failed { library, .. } => found.push(format!("driver   {library}, which does not start")),
        Driver::Present { library, cuda, .. } => {
            let version = probe.driver_version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            found.push(format!("driver  {version} supports CUDA {cuda} ({library})"));
        }
    }
    // On a machine without a driver nobody asks for the rest, unless it is there.
    let asked = missing != Some(NotReady::NoDriver);
    match &probe.nvrtc {
        Some(nvrtc) => found.push(format!("nvrtc    CUDA {} ({})", nvrtc.cuda, nvrtc.library)),
        None if asked => found.push("nvrtc    not found".to_owned()),
        None => {}
    }
    match &probe.headers {
        Headers::Present { folder } => found.push(format!("headers  {}", folder.display())),
        Headers::Incomplete { folder, missing } => found.push(format!("headers  {} lacks {missing}", folder.display())),
        Headers::Absent if asked => found.push("headers  not found".to_owned()),
        Headers::Absent => {}
    }
    found.push(format!("build    {}", if probe.compiled_in { "with feature cuda" } else { "without feature cuda" }));
    Finding { part: Part::Cuda, missing: missing.map(|missing| missing.to_string()), found }
}

fn card(card: &Card) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let free = card.free_bytes.map(|free| format!(", {:.1} free", gib(free))).unwrap_or_default();
    let pcie = card.pcie.map(|Pcie { generation, lanes }| format!(", PCIe {generation} x{lanes}")).unwrap_or_default();
    let nvlink: f64 = card.nvlinks.iter().map(Nvlink::bandwidth_gb_per_s).sum();
    let nvlink =
        if nvlink > 0.0 { format!(", {} NVLinks of {nvlink} GB/s", card.nvlinks.len()) } else { String::new() };
    let known = match cutplane_zoo::device_of_product(&card.name) {
        Some(spec) => format!("datasheet {}", spec.model),
        None => "no datasheet: priced from its clocks".to_owned(),
    };
    format!(
        "cuda:{}   {}, {:.1} GiB{free}, capability {}{pcie}{nvlink}; {known}",
        card.index,
        card.name,
        gib(card.memory_bytes),
        card.capability
    )
}

fn mpi(mpi: &Mpi) -> Finding {
    let missing = match (&mpi.launcher, &mpi.library) {
        (Some(_), Some(_)) => None,
        (None, None) => Some("no MPI; install openmpi-bin and libopenmpi-dev, or load your site's module"),
        (None, Some(_)) => Some("MPI's library is here, but neither mpirun nor mpiexec is on PATH; add its bin folder"),
        (Some(_), None) => Some("mpirun is here, but libmpi is not found; add its lib folder to LD_LIBRARY_PATH"),
    };
    let launcher = mpi.launcher.iter().map(|path| {
        let version = mpi.version.as_ref().map(|version| format!(" ({version})")).unwrap_or_default();
        format!("{}{version}", path.display())
    });
    let found = launcher.chain(mpi.library.clone()).collect();
    Finding { part: Part::Mpi, missing: missing.map(str::to_owned), found }
}

fn nccl(nccl: &Nccl) -> Finding {
    let (missing, found) = match nccl {
        Nccl::Present { version } => (None, vec![format!("libnccl.so {version}")]),
        Nccl::Absent => (Some("no NCCL: libnccl.so is not found; needed only to join several cards"), Vec::new()),
        Nccl::OnlyVersioned => {
            let text = "NCCL is here only as libnccl.so.2; make a link named libnccl.so to it on LD_LIBRARY_PATH";
            (Some(text), Vec::new())
        }
    };
    Finding { part: Part::Nccl, missing: missing.map(str::to_owned), found }
}

fn highs() -> Finding {
    let missing = (!cfg!(feature = "ilp")).then(|| "no HiGHS in this build; build with the feature ilp".to_owned());
    let found = if missing.is_none() { vec!["HiGHS, built in".to_owned()] } else { Vec::new() };
    Finding { part: Part::Highs, missing, found }
}
