//! Item d: the same models in PyTorch on the same card, where there is a PyTorch.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::journal::Journal;
use super::work::Target;

/// The script travels inside the tool, so that one file is enough on the other machine.
const SCRIPT: &str = include_str!("../../../../../tools/pytorch_step_time.py");

/// Runs the item.
pub(crate) fn run(target: Target, folder: &Path, journal: &mut Journal) -> Result<()> {
    let Some(python) = with_torch() else {
        return journal.skip("pytorch", "no Python with PyTorch on PATH");
    };
    let seconds = journal.left().as_secs();
    journal.case("pytorch", || {
        let script = folder.join("pytorch_step_time.py");
        std::fs::write(&script, SCRIPT).with_context(|| format!("{}: cannot write", script.display()))?;
        let mut command = Command::new(python);
        command.arg(&script).arg("--out").arg(folder.join("pytorch.csv")).arg("--seconds").arg(seconds.to_string());
        match target {
            Target::Card(card) => command.arg("--device").arg(format!("cuda:{card}")),
            Target::Rehearsal => command.args(["--device", "cpu", "--rehearse"]),
        };
        let output = command.stdin(Stdio::null()).output().context("starting Python")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", said.lines().last().unwrap_or("the script failed without a word"));
        Ok(())
    })
}

/// A Python that has PyTorch.
fn with_torch() -> Option<&'static str> {
    let imports = |python: &&str| {
        let mut command = Command::new(python);
        command.args(["-c", "import torch"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    ["python3", "python"].into_iter().find(imports)
}
