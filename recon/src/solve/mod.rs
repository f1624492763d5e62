//! Solvers of the regularised least-squares problem.
