//! `hatchway-recon view` and `compare`: images for people.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{outputs, report};
use crate::Error;
use crate::image::{ColourMap, Labels, Projection, compare};
use crate::run::read_image;

/// An image to be shown.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hatchway-recon view image.mdf --png image.png --colours ice")]
pub(super) struct View {
    /// MDF with an image.
    image: PathBuf,
    /// Write a picture here instead of drawing in the terminal.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Write the voxels as NRRD here, for 3D Slicer.
    #[arg(long, value_name = "FILE")]
    nrrd: Option<PathBuf>,
    /// Write the voxels as NIfTI-1 here, gzipped if it ends in `.gz`.
    #[arg(long, value_name = "FILE")]
    nifti: Option<PathBuf>,
    /// Write the voxels as DICOM here, with 16 bits each.
    #[arg(long, value_name = "FILE")]
    dicom: Option<PathBuf>,
    /// Which frame, from 0; the mean of all if not given.
    #[arg(long, value_name = "N")]
    frame: Option<usize>,
    /// The slice through the middle instead of the greatest value along each line of sight.
    #[arg(long)]
    slice: bool,
    /// Colours.
    #[arg(long, value_enum, default_value_t = Colours::Hot)]
    colours: Colours,
    /// Value of the last colour; the greatest one if not given.
    #[arg(long, value_name = "VALUE")]
    most: Option<f32>,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Colours {
    /// Black to white.
    Gray,
    /// Black, red, yellow, white.
    Hot,
    /// Black, blue, cyan, white.
    Ice,
}

pub(super) fn run(args: &View) -> Result<ExitCode, Error> {
    let (image, scan) = read_image(&args.image)?;
    let shown = if args.frame.is_none() { image.mean() } else { image.clone() };
    let view = crate::image::View {
        frame: args.frame.unwrap_or(0),
        projection: if args.slice { Projection::Middle } else { Projection::Maximum },
        colours: match args.colours {
            Colours::Gray => ColourMap::Gray,
            Colours::Hot => ColourMap::Hot,
            Colours::Ice => ColourMap::Ice,
        },
        range: args.most.map(|most| [0.0, most]),
        magnification: 0,
    };
    let mut wrote = Vec::new();
    if let Some(path) = &args.nrrd {
        outputs::nrrd(path, &image, args.force)?;
        wrote.push(path);
    }
    if let Some(path) = &args.nifti {
        outputs::nifti(path, &image, args.force)?;
        wrote.push(path);
    }
    if let Some(path) = &args.dicom {
        // MDF does not say what the values of an image are.
        outputs::dicom(path, &image, &Labels::of(&scan, None), args.force)?;
        wrote.push(path);
    }
    if let Some(path) = &args.png {
        outputs::whole(path, args.force, |out| view.png(&shown, out))?;
        wrote.push(path);
    }
    wrote.iter().for_each(|path| report::say(format!("wrote {}", path.display())));
    if wrote.is_empty() {
        report::picture(&view.terminal(&shown, 76)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Two images.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hatchway-recon compare image.mdf truth.mdf")]
pub(super) struct Compare {
    /// MDF with an image; several frames are averaged if the truth has one.
    image: PathBuf,
    /// MDF with what it should be.
    truth: PathBuf,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run_compare(args: &Compare) -> Result<ExitCode, Error> {
    let ((image, _), (truth, _)) = (read_image(&args.image)?, read_image(&args.truth)?);
    let image = if truth.frames() == 1 { image.mean() } else { image };
    let found = compare(&image, &truth)?;
    if args.json {
        report::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let psnr = found.psnr.map_or("none, the images are equal".to_owned(), |psnr| format!("{psnr:.2} dB"));
    report::data(format!(
        "NRMSE           {:.4} of the truth's range\nNRMSE, scaled   {:.4}, with the image times {:.4}\nPSNR            {psnr}\nSSIM            {:.4}",
        found.nrmse, found.nrmse_scaled, found.scale, found.ssim
    ))?;
    Ok(ExitCode::SUCCESS)
}
