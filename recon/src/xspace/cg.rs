//! Conjugate gradients for least squares that are given by their normal equations, as something to be applied.

use crate::Error;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// The residual beside the first one, in the norm of the unknowns' own scales.
    pub(super) tolerance: f64,
    /// Steps after which it is an error.
    pub(super) steps: usize,
}

/// Solves `A x = b` for a symmetric `A` without negative eigenvalues, each unknown scaled by `own`, its diagonal (an unknown of 0 stays 0).
///
/// Where `A` has a null space and `b` no part in it, neither has the result, but for the scales. Source: Hestenes and Stiefel (1952), with
/// Jacobi's preconditioner.
///
/// # Errors
/// It does not settle within the steps; `hint` says what may be the reason.
pub(super) fn conjugate_gradients(
    apply: impl Fn(&[f64]) -> Result<Vec<f64>, Error>,
    b: &[f64],
    own: &[f64],
    stop: Stop,
    hint: &str,
) -> Result<Vec<f64>, Error> {
    let scaled = |r: &[f64]| -> Vec<f64> {
        r.iter().zip(own).map(|(r, own)| if *own > 0.0 { r / own } else { 0.0 }).collect()
    };
    let mut r = b.to_vec();
    let mut x = vec![0.0; b.len()];
    let mut z = scaled(&r);
    let mut p = z.clone();
    let mut energy = dot(&r, &z);
    let end = energy * stop.tolerance * stop.tolerance;
    for _ in 0..stop.steps {
        if energy <= end {
            return Ok(x);
        }
        let q = apply(&p)?;
        let step = energy / dot(&p, &q);
        x.iter_mut().zip(&p).for_each(|(x, p)| *x += step * p);
        r.iter_mut().zip(&q).for_each(|(r, q)| *r -= step * q);
        z = scaled(&r);
        let next = dot(&r, &z);
        p.iter_mut().zip(&z).for_each(|(p, z)| *p = z + next / energy * *p);
        energy = next;
    }
    Err(Error::XSpace(format!("the image does not settle in {} steps: {hint}", stop.steps)))
}

/// `a·b`, summed in order: the same on any number of threads.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_system_is_solved() {
        let rows = [[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]];
        let apply = |x: &[f64]| Ok(rows.iter().map(|row| dot(row, x)).collect());
        let wanted = [1.0, -2.0, 0.5];
        let b: Vec<f64> = rows.iter().map(|row| dot(row, &wanted)).collect();
        let stop = Stop { tolerance: 1e-14, steps: 20 };
        let x = conjugate_gradients(apply, &b, &[4.0, 3.0, 2.0], stop, "").unwrap();
        assert!(x.iter().zip(wanted).all(|(x, wanted)| (x - wanted).abs() < 1e-13), "{x:?}");
        let early = Stop { steps: 1, ..stop };
        let error = conjugate_gradients(apply, &b, &[4.0, 3.0, 2.0], early, "why").unwrap_err();
        assert!(error.to_string().contains("in 1 steps: why"), "{error}");
    }
}
