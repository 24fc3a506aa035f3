//! `cutplane calibrate`: fit a device profile to measurements.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use cutplane_record::Provenance;
use cutplane_score::{DeviceFit, MeasuredRow, Profile, SEED, fit_fabrics, fit_kernels, read_rows, write_profile};

use crate::output;

/// Fits how fast a device and its interconnect are to measured kernels and collectives.
///
/// Few physical parameters with priors, from rows of the format that `cutplane score` reads (workloads kernel and
/// collective). The profile says which rows were fitted and how far off the fit is on rows that were left out of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane calibrate kernels.csv --device A100-SXM-80GB --out a100.toml   fit one device to all of its rows
  cutplane calibrate kernels.csv --share 0.1                              to a seeded tenth of them
  cutplane score rows.csv --profile a100.toml                             and predict with it")]
pub(crate) struct Calibrate {
    /// CSV files of measured rows.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only rows of this device, by its name in the catalogue or as rows call it [default: every device that is named].
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Share of the rows to fit, drawn by their digests.
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    share: f64,
    /// Seed of the draw.
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Fewest rows of a device that a fit is made of.
    #[arg(long, default_value_t = 8, value_name = "ROWS")]
    least: usize,
    /// Where to write the profile.
    #[arg(long, default_value = "profile.toml", value_name = "FILE")]
    out: PathBuf,
    /// Prints the profile as JSON.
    #[arg(long)]
    json: bool,
}

impl Calibrate {
    pub(crate) fn run(&self) -> Result<()> {
        if !(self.share > 0.0 && self.share <= 1.0) {
            bail!("--share {}: write a share above 0 and up to 1", self.share);
        }
        output::prepare_file(&self.out)?;
        let profile = self.fit(&self.rows()?)?;
        write_profile(&self.out, &profile)?;
        if self.json {
            return output::print_json(&profile);
        }
        print!("{}", summary(&profile));
        println!("saved     {} (use it with `cutplane score --profile {0}`)", self.out.display());
        Ok(())
    }

    /// The rows of the wanted device.
    fn rows(&self) -> Result<Vec<MeasuredRow>> {
        let mut rows = Vec::new();
        for file in &self.files {
            rows.extend(read_rows(file)?.rows);
        }
        let Some(name) = &self.device else { return Ok(rows) };
        let wanted =
            cutplane_score::parse::device(name).map_err(|skip| anyhow::anyhow!("--device {name}: {}", skip.detail))?;
        rows.retain(|row| {
            cutplane_score::parse::device(&row.row.hardware).is_ok_and(|found| found.model == wanted.model)
        });
        if rows.is_empty() {
            bail!("--device {name}: no row of {} is of a {}", self.names(), wanted.model);
        }
        Ok(rows)
    }

    fn names(&self) -> String {
        self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    }

    fn fit(&self, rows: &[MeasuredRow]) -> Result<Profile> {
        let kernels = fit_kernels(rows, self.share, self.seed, self.least).into_iter().map(|fit| DeviceFit {
            rows_fitted: fit.rows_fitted,
            left_out_median_error: fit.left_out_median_error,
            held_out_median_error: fit.held_out_median_error,
            calibration: fit.calibration,
        });
        let device: Vec<DeviceFit> = kernels.collect();
        let fabric = fit_fabrics(rows, self.share, self.seed, self.least).context("fitting the interconnect")?;
        if device.is_empty() && fabric.is_empty() {
            bail!(
                "{}: no device or interconnect has {} drawn rows of workload kernel or collective: give more rows, or \
                 lower --least",
                self.names(),
                self.least
            );
        }
        Ok(Profile { provenance: Provenance::capture(), device, fabric, ..Profile::default() })
    }
}

fn summary(profile: &Profile) -> String {
    let mut text = String::new();
    for fit in &profile.device {
        let held =
            fit.held_out_median_error.map_or(String::new(), |error| format!(", {:.1}% on the rest", 100.0 * error));
        text += &format!(
            "device    {}: {} rows, {} parameters, median error {:.1}% left out{held}\n",
            fit.calibration.name,
            fit.rows_fitted,
            fit.calibration.fitted.len(),
            100.0 * fit.left_out_median_error
        );
    }
    for fit in &profile.fabric {
        text += &format!(
            "fabric    {}: {} rows, median error {:.1}% left out, floor {:.0} us\n",
            fit.hardware,
            fit.rows_fitted,
            100.0 * fit.left_out_median_error,
            fit.floor_us
        );
    }
    text
}
