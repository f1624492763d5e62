#!/usr/bin/python3
"""Reference of the solvers in double precision, written from the formulas and not from the Rust code.

Reads a list of problems as JSON from standard input and writes the list of images as JSON. A complex array is a
flat list re, im, re, im, ...; an image is one, frame after frame. For tests only.
"""

import json
import sys

import numpy as np


def complex_of(values, shape):
    flat = np.asarray(values, dtype=np.float64)
    return (flat[0::2] + 1j * flat[1::2]).reshape(shape)


class SplitMix:
    """The generator of Steele, Lea and Flood (2014)."""

    MASK = (1 << 64) - 1

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & self.MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & self.MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & self.MASK
        return z ^ (z >> 31)

    def unit(self):
        return ((self.next() >> 11) + 1) / float(1 << 53)


def shuffled(rows, seed):
    rows, random = list(rows), SplitMix(seed)
    for last in range(len(rows) - 1, 0, -1):
        other = (random.next() * (last + 1)) >> 64
        rows[last], rows[other] = rows[other], rows[last]
    return rows


def sampled(rows, energies, fraction, random):
    keys = [(np.log(random.unit()) / energy, row) for row, energy in zip(rows, energies)]
    keys.sort(key=lambda pair: (-pair[0], pair[1]))
    # Half of a row counts as one, as in Rust; Python's `round` would go to the even number.
    return [row for _, row in keys[: max(1, int(np.floor(fraction * len(rows) + 0.5)))]]


def differences(image):
    """Forward differences along every axis that has more than one voxel; zero at the far edge."""
    out = []
    for axis in range(3):
        if image.shape[axis] > 1:
            step = np.zeros_like(image)
            inner = [slice(None)] * 3
            inner[axis] = slice(0, -1)
            step[tuple(inner)] = np.diff(image, axis=axis)
            out.append(step)
    return np.array(out)


def differences_adjoint(fields, shape):
    out = np.zeros(shape, dtype=complex)
    axes = [axis for axis in range(3) if shape[axis] > 1]
    for axis, field in zip(axes, fields):
        size = shape[axis]
        inner = np.take(field, range(size - 1), axis=axis)
        pad = [(0, 0)] * 3
        pad[axis] = (1, 0)
        out += np.pad(inner, pad)
        pad[axis] = (0, 1)
        out -= np.pad(inner, pad)
    return out


def total_variation(x, amount, grid, kind):
    shape = tuple(reversed(grid))  # x is the fastest axis
    b = x.reshape(shape)
    axes = sum(1 for size in shape if size > 1)
    if amount == 0 or axes == 0:
        return x
    p = np.zeros((axes,) + shape, dtype=complex)
    r, t = p.copy(), 1.0
    for _ in range(10):
        q = r + differences(b - amount * differences_adjoint(r, shape)) / (4 * axes * amount)
        size = np.sqrt((np.abs(q) ** 2).sum(axis=0)) if kind == "isotropic" else np.abs(q)
        q = q / np.maximum(1.0, size)
        t_new = (1 + np.sqrt(1 + 4 * t * t)) / 2
        r, p, t = q + (t - 1) / t_new * (q - p), q, t_new
    return (b - amount * differences_adjoint(p, shape)).reshape(-1)


def penalty_prox(penalty, x, amount):
    (name, options), = penalty.items()
    if name == "l1":
        eps = np.finfo(float).eps
        return np.maximum(np.abs(x) - amount, 0) * (x + eps) / (np.abs(x) + eps)
    if name == "l2":
        return x / (1 + 2 * amount)
    return total_variation(x, amount, options["grid"], options.get("kind", "isotropic"))


def project(names, x):
    for name in names:
        x = x.real + 0j
        if name == "positive":
            x = np.maximum(x.real, 0) + 0j
    return x


def scale_of(problem, a, b):
    kind = problem["solver"].get("normalisation", "system-matrix")
    if kind == "system-matrix":
        return (np.abs(a) ** 2).sum() / a.shape[1]
    if kind == "measurement":
        return np.abs(b).sum() / len(b)
    return 1.0


def kaczmarz(options, a, b, x, factor):
    lam = options.get("lambda", 0.0)
    columns = np.ones(a.shape[1])
    if isinstance(lam, list):
        columns = 1 / np.sqrt(np.asarray(lam) * factor)
        a, x, lam = a * columns, x / columns, 1.0
    else:
        lam = lam * factor
    energy = (np.abs(a) ** 2).sum(axis=1)
    rows = [k for k in range(a.shape[0]) if energy[k] > 0]
    order = options.get("order", "natural")
    random = None
    if isinstance(order, dict) and "shuffled" in order:
        rows = shuffled(rows, order["shuffled"].get("seed", 1234))
    elif isinstance(order, dict):
        random = SplitMix(order["sampled"].get("seed", 1234))
    v, eps = np.zeros(a.shape[0], dtype=complex), np.sqrt(lam)
    for _ in range(options.get("iterations", 10)):
        cycle = rows
        if random is not None:
            cycle = sampled(rows, energy[rows], order["sampled"].get("fraction", 0.15), random)
        for k in cycle:
            alpha = (b[k] - a[k] @ x - eps * v[k]) / (energy[k] + lam)
            x = x + alpha * a[k].conj()
            v[k] += alpha * eps
        x = project(options.get("projections", []), x)
        if options.get("penalty"):
            (_, inner), = options["penalty"].items()
            x = penalty_prox(options["penalty"], x, inner["lambda"] * factor)
    return x * columns


def cgnr(options, a, b, x, factor):
    lam = options.get("lambda", 0.0) * factor
    r = a.conj().T @ (b - a @ x) - lam * x
    p, first = r, np.linalg.norm(r)
    for _ in range(min(options.get("iterations", 10), a.shape[1])):
        if np.linalg.norm(r) <= np.finfo(float).eps * first:
            break
        q = a.conj().T @ (a @ p) + lam * p
        before = np.vdot(r, r).real
        alpha = before / np.vdot(p, q).real
        x, r = x + alpha * p, r - alpha * q
        p = r + np.vdot(r, r).real / before * p
    return project(options.get("projections", []), x)


def fista(options, a, b, x, factor):
    step, theta, theta_old, old = options["step"], 1.0, 1.0, x
    for _ in range(options.get("iterations", 50)):
        x, old = x + (theta_old - 1) / theta * (x - old), x
        gradient = a.conj().T @ (a @ x - b)
        x = x - step * gradient
        if options.get("penalty"):
            (_, inner), = options["penalty"].items()
            x = penalty_prox(options["penalty"], x, step * inner["lambda"] * factor)
        x = project(options.get("projections", []), x)
        if options.get("restart", True) and np.vdot(gradient, x - old).real > 0:
            theta = 1.0
        theta, theta_old = (1 + np.sqrt(1 + 4 * theta * theta)) / 2, theta
    return x


def conjugate_gradients(matrix, right, x, iterations, tolerance):
    r = right - matrix @ x
    p, limit = r, tolerance * np.linalg.norm(r)
    for _ in range(iterations):
        if np.linalg.norm(r) <= limit:
            break
        q = matrix @ p
        before = np.vdot(r, r).real
        alpha = before / np.vdot(p, q).real
        x, r = x + alpha * p, r - alpha * q
        p = r + np.vdot(r, r).real / before * p
    return x


def admm(options, a, b, x, factor):
    rho = options.get("rho", 0.1)
    normal = a.conj().T @ a + rho * np.eye(a.shape[1])
    z, u = x, np.zeros_like(x)
    for _ in range(options.get("iterations", 10)):
        right = a.conj().T @ b + rho * (z - u)
        x = conjugate_gradients(
            normal, right, x, options.get("inner-iterations", 10), options.get("inner-tolerance", 1e-5)
        )
        x = project(options.get("projections", []), x)
        z = x + u
        if options.get("penalty"):
            (_, inner), = options["penalty"].items()
            z = penalty_prox(options["penalty"], z, inner["lambda"] * factor / (2 * rho))
        u = u + x - z
    return x


def direct(options, a, b, _, factor):
    lam = options.get("lambda", 0.0) * factor
    x = np.linalg.solve(a.conj().T @ a + lam * np.eye(a.shape[1]), a.conj().T @ b)
    return project(options.get("projections", []), x)


METHODS = {"kaczmarz": kaczmarz, "cgnr": cgnr, "fista": fista, "admm": admm, "direct": direct}


def answer(problem):
    rows, columns = problem["rows"], problem["columns"]
    a = complex_of(problem["matrix"], (rows, columns))
    data = complex_of(problem["data"], (-1, rows))
    if problem.get("weights"):
        weights = np.asarray(problem["weights"])
        a, data = a * weights[:, None], data * weights
    start = np.zeros(columns, dtype=complex)
    if problem.get("start"):
        start = complex_of(problem["start"], columns)
    options = problem["solver"]
    method = METHODS[options["method"]]
    images = [method(options, a, b, start, scale_of(problem, a, b)) for b in data]
    return np.concatenate(images).view(np.float64).tolist()


def main():
    json.dump([answer(problem) for problem in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
