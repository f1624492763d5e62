//! How alike two images are.

use serde::Serialize;

use super::Image;
use crate::Error;

/// What is said of a pair. The second image is the truth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Root of the mean squared difference over the truth's range (greatest less least value).
    pub nrmse: f64,
    /// The same after the first image has been multiplied by [`Comparison::scale`]: how alike the forms are, whatever the unit.
    pub nrmse_scaled: f64,
    /// What the first image is to be multiplied by for the least squared difference.
    pub scale: f64,
    /// Peak signal-to-noise ratio in dB: `20 log₁₀(range / RMSE)`; none for images that are equal.
    pub psnr: Option<f64>,
    /// Structural similarity, 1 for equal images.
    pub ssim: f64,
}

/// Edges of the windows of SSIM, in voxels; less along axes that are shorter.
const WINDOW: usize = 7;

/// Compares all frames of two images over the same grid.
///
/// SSIM is that of Wang, Bovik, Sheikh and Simoncelli (2004) with windows of equal weights of up to 7 voxels along each axis, sample
/// covariances, K₁ = 0.01, K₂ = 0.03 and the truth's range, averaged over all windows that lie inside: what `scikit-image` computes by default.
///
/// # Errors
/// The grids or the numbers of frames differ, a value is no number, or the truth is the same everywhere.
pub fn compare(image: &Image, truth: &Image) -> Result<Comparison, Error> {
    if image.grid.size != truth.grid.size || image.data.len() != truth.data.len() {
        let text = format!(
            "an image of {:?} voxels and {} frames cannot be compared with one of {:?} and {}",
            image.grid.size,
            image.frames(),
            truth.grid.size,
            truth.frames()
        );
        return Err(Error::Image(text));
    }
    let widen = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
    let (a, b) = (widen(&image.data), widen(&truth.data));
    if a.iter().chain(&b).any(|value| !value.is_finite()) {
        return Err(Error::Image("a voxel is no number".to_owned()));
    }
    let (least, most) =
        b.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
    let range = most - least;
    if range <= 0.0 {
        return Err(Error::Image(format!(
            "the truth is {least} everywhere: there is nothing to compare with"
        )));
    }
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let energy = product(&a, &a);
    let scale = if energy > 0.0 { product(&a, &b) / energy } else { 1.0 };
    let error = |scale: f64| {
        let sum: f64 = a.iter().zip(&b).map(|(a, b)| (scale * a - b).powi(2)).sum();
        #[expect(clippy::cast_precision_loss, reason = "a count of voxels")]
        let count = a.len() as f64;
        (sum / count).sqrt() / range
    };
    let nrmse = error(1.0);
    let psnr = (nrmse > 0.0).then(|| -20.0 * nrmse.log10());
    Ok(Comparison {
        nrmse,
        nrmse_scaled: error(scale),
        scale,
        psnr,
        ssim: similarity(&a, &b, truth.grid.size, range),
    })
}

/// The mean of SSIM over all windows of all frames.
fn similarity(a: &[f64], b: &[f64], size: [usize; 3], range: f64) -> f64 {
    let window = size.map(|n| n.min(WINDOW));
    let places: [usize; 3] = std::array::from_fn(|axis| size[axis] - window[axis] + 1);
    let voxels: usize = size.iter().product();
    let (mut sum, mut count) = (0.0, 0.0);
    for (a, b) in a.chunks_exact(voxels).zip(b.chunks_exact(voxels)) {
        for index in 0..places.iter().product() {
            let corner = [index % places[0], index / places[0] % places[1], index / places[0] / places[1]];
            sum += window_similarity(a, b, size, corner, window, range);
            count += 1.0;
        }
    }
    sum / count
}

fn window_similarity(
    a: &[f64],
    b: &[f64],
    size: [usize; 3],
    corner: [usize; 3],
    window: [usize; 3],
    range: f64,
) -> f64 {
    let (mut n, mut sums) = (0.0, [0.0; 5]);
    for z in corner[2]..corner[2] + window[2] {
        for y in corner[1]..corner[1] + window[1] {
            let start = corner[0] + size[0] * (y + size[1] * z);
            for (x, y) in a[start..start + window[0]].iter().zip(&b[start..start + window[0]]) {
                n += 1.0;
                for (sum, value) in sums.iter_mut().zip([*x, *y, x * x, y * y, x * y]) {
                    *sum += value;
                }
            }
        }
    }
    let [mean_a, mean_b, aa, bb, ab] = sums.map(|sum| sum / n);
    // One voxel has no variance.
    let unbiased = if n > 1.0 { n / (n - 1.0) } else { 0.0 };
    let (var_a, var_b, cov) = (
        unbiased * (aa - mean_a * mean_a),
        unbiased * (bb - mean_b * mean_b),
        unbiased * (ab - mean_a * mean_b),
    );
    let (c1, c2) = ((0.01 * range).powi(2), (0.03 * range).powi(2));
    (2.0 * mean_a * mean_b + c1) * (2.0 * cov + c2)
        / ((mean_a * mean_a + mean_b * mean_b + c1) * (var_a + var_b + c2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physics::Grid;

    fn image(size: [usize; 3], value: impl Fn(usize) -> f32) -> Image {
        let grid = Grid { size, field_of_view: [0.01; 3], center: [0.0; 3] };
        let data = (0..grid.voxels()).map(value).collect();
        Image::new(grid, data).unwrap()
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small")]
    fn an_image_is_like_itself() {
        let truth = image([9, 8, 1], |index| (index % 5) as f32);
        let same = compare(&truth, &truth).unwrap();
        assert_eq!((same.nrmse, same.psnr), (0.0, None));
        assert!((same.ssim - 1.0).abs() < 1e-12 && (same.scale - 1.0).abs() < 1e-12);
        let half = image([9, 8, 1], |index| (index % 5) as f32 / 2.0);
        let found = compare(&half, &truth).unwrap();
        assert!((found.scale - 2.0).abs() < 1e-12 && found.nrmse_scaled < 1e-12 && found.nrmse > 0.2);
        assert!(found.ssim < 0.95);
    }

    #[test]
    fn a_known_difference_has_its_figures() {
        let truth = image([4, 1, 1], |index| if index == 0 { 10.0 } else { 0.0 });
        let off = image([4, 1, 1], |index| if index == 0 { 9.0 } else { 1.0 });
        let found = compare(&off, &truth).unwrap();
        assert!((found.nrmse - 0.1).abs() < 1e-12);
        assert!((found.psnr.unwrap() - 20.0).abs() < 1e-9);
    }

    #[test]
    fn what_cannot_be_compared_is_told() {
        let (a, b) = (image([4, 1, 1], |_| 1.0), image([2, 2, 1], |_| 1.0));
        assert!(compare(&a, &b).unwrap_err().to_string().contains("[4, 1, 1]"));
        assert!(compare(&a, &a).unwrap_err().to_string().contains("1 everywhere"));
        let nothing = image([4, 1, 1], |_| f32::NAN);
        assert!(compare(&nothing, &a).unwrap_err().to_string().contains("no number"));
    }
}
