"""A field-free point in x-space, in h5py and NumPy, from the formulas.

`xspace_point.py image SCAN SIZE FOV DIAMETER MAX_HZ RELAXATION LEAST_SPEED LAMBDA` prints both native images of a plane and two sharp ones as
JSON. What differs from the program on purpose: the lost lines are unknowns of a dense least-squares problem beside the flux's image, the
gradient of the image's bends comes from Kronecker products, the answer's convolution is a dense matrix, the linear estimate is a direct
solution, and the one without negative values goes from voxel to voxel (coordinate descent) until nothing moves.

`xspace_point.py lines LAMBDA` does the last part for projections of field-free lines that it reads as JSON from stdin.
"""

import json
import sys

import h5py
import numpy as np

SMOOTH = 0.02


def langevin_over(xi):
    safe = np.where(xi < 1e-2, 1.0, xi)
    return np.where(xi < 1e-2, 1 / 3 - xi**2 / 45, (1 / np.tanh(safe) - 1 / safe) / safe)


def derivative(xi):
    xi = np.minimum(np.abs(xi), 300)
    safe = np.where(xi < 1e-2, 1.0, xi)
    return np.where(xi < 1e-2, 1 / 3 - xi**2 / 15, 1 / safe**2 - 1 / np.sinh(safe) ** 2)


def beta(diameter):
    return 0.6 / (4e-7 * np.pi) * np.pi / 6 * diameter**3 / (1.380649e-23 * 300)


def scan(path, max_hz, relaxation, floor=0.05):
    """Spectra of the mean frame without chain and relaxation, which lines are known, and the fields."""
    with h5py.File(path) as file:
        words = file["/measurement/isBackgroundFrame"][()].astype(bool)
        data = file["/measurement/data"][:, 0].astype(float)
        factors = file["/acquisition/receiver/dataConversionFactor"][()]
        chain = file["/acquisition/receiver/transferFunction"][()]
        rate = 2 * file["/acquisition/receiver/bandwidth"][()]
        gradient = file["/acquisition/gradient"][0, 0]
        drive = file["/acquisition/drivefield"]
        frequencies = drive["baseFrequency"][()] / drive["divider"][:, 0]
        strengths, phases = drive["strength"][0, :, 0], drive["phase"][0, :, 0]
    data = data * factors[None, :, 0, None] + factors[None, :, 1, None]
    numbers = np.arange(len(words))
    first, last = numbers[words][numbers[words] < 20], numbers[words][numbers[words] > 20]
    share = ((numbers[~words] - first.mean()) / (last.mean() - first.mean()))[:, None, None]
    background = (1 - share) * data[first].mean(0) + share * data[last].mean(0)
    spectra = np.fft.rfft((data[~words] - background).mean(0), axis=-1)
    samples = data.shape[-1]
    hertz = np.arange(spectra.shape[1]) * rate / samples
    known = np.abs(chain) > floor * np.abs(chain).max(1, keepdims=True)
    known[:, 0] = False
    known[:, hertz > max_hz] = False
    for frequency in frequencies:
        known[:, int(round(frequency * samples / rate))] = False
    spectra = np.where(known, spectra / np.where(known, chain, 1) * (1 + 2j * np.pi * hertz * relaxation), 0)
    return spectra, known, hertz, samples, gradient[:2, :2], frequencies, strengths, phases


def in_time(spectra, samples, points):
    padded = np.zeros((len(spectra), points // 2 + 1), complex)
    padded[:, : (samples + 1) // 2] = spectra[:, : (samples + 1) // 2]
    return np.fft.irfft(padded, points, axis=1) * points / samples


def shares(places, xs, ys):
    """Points x voxels: linear between the middles of voxels, without those that are not there."""
    matrix = np.zeros((places.shape[1], len(xs) * len(ys)))
    along = []
    for place, axis in zip(places, (xs, ys)):
        steps = (place - axis[0]) / (axis[1] - axis[0])
        inside = (steps >= -0.5) & (steps <= len(axis) - 0.5)
        along.append(np.maximum(0, 1 - np.abs(steps[:, None] - np.arange(len(axis))[None, :])) * inside[:, None])
    matrix[:] = (along[1][:, :, None] * along[0][:, None, :]).reshape(len(matrix), -1)
    return matrix


def bends(nx, ny):
    second = lambda n: np.diff(np.eye(n), 2, axis=0)
    first = lambda n: np.diff(np.eye(n), axis=0)
    return np.concatenate(
        [
            np.kron(np.eye(ny), second(nx)),
            np.kron(second(ny), np.eye(nx)),
            np.sqrt(2) * np.kron(first(ny), first(nx)),
        ]
    )


def recover(spectra, known, hertz, samples, points, places, xs, ys):
    """The spectra with the lost lines: `F(x(t)) - sum of lost lines = known part of the flux`, at the known lines."""
    matrix = shares(places, xs, ys)
    squares = (matrix**2).sum(0)
    smooth = SMOOTH * squares.sum() / (squares > 0).sum()
    full, fluxes = spectra.copy(), []
    for channel, keep in enumerate(known):
        last = np.flatnonzero(keep)[-1]
        lines = np.fft.rfft(matrix, axis=0)[: len(keep)][keep] / np.sqrt(points / 2)
        omega = 2j * np.pi * hertz
        wanted = (spectra[channel][keep] / omega[keep]) * (points / samples) / np.sqrt(points / 2)
        bend = np.sqrt(smooth) * bends(len(xs), len(ys))
        system = np.concatenate([lines.real, lines.imag, bend])
        right = np.concatenate([wanted.real, wanted.imag, np.zeros(len(bend))])
        flux = np.linalg.lstsq(system, right, rcond=1e-9)[0].reshape(len(ys), len(xs))
        reached = (squares > 0).reshape(flux.shape)
        flux = flux - end_slope(flux, reached) * np.arange(len(xs))[None, :]
        flux = flux - end_slope(flux.T, reached.T) * np.arange(len(ys))[:, None]
        fluxes.append(flux)
        seen = np.fft.rfft(matrix @ flux.ravel())[: len(keep)] * samples / points
        lost = ~keep & (np.arange(len(keep)) > 0) & (np.arange(len(keep)) < last)
        full[channel, lost] = (seen * omega)[lost]
    return full, fluxes


def mean(fluxes, gradient, xs, ys, ways):
    """Half of the trace of the flux's slopes, by the place where a field of either sign along an axis takes the point to."""
    x, y = [of.ravel() for of in np.meshgrid(xs, ys)]
    inverse = np.linalg.inv(gradient)
    image, seen = np.zeros(x.shape), np.ones(x.shape, bool)
    for axis, flux in enumerate(fluxes):
        step = (xs[1] - xs[0]) / 2 / np.hypot(*inverse[:, axis])
        for sign in (1, -1):
            matrix = shares(np.stack([x, y]) + sign * step * inverse[:, axis, None], *ways)
            image += sign * (matrix @ flux.ravel()) / (4 * step)
            seen &= matrix.sum(1) > 1 - 1e-6
    return image, seen


def end_slope(image, reached):
    slopes = np.diff(image, axis=1)
    both = reached[:, 1:] & reached[:, :-1]
    ends = [0, slopes.shape[1] - 1]
    return slopes[:, ends][both[:, ends]].mean()


def native(spectra, samples, points, matrix, rates, least_speed):
    u = in_time(spectra, samples, points)
    speed = np.hypot(*rates)
    keep = speed > least_speed * speed.max()
    weight = np.where(keep, speed**2, 0)
    weights = matrix.T @ weight
    reached = weights > 1e-3 * weights.max()
    safe = np.where(reached, weights, 1)
    image = np.where(reached, matrix.T @ np.where(keep, (rates * u).sum(0), 0) / safe, 0)
    pairs = [(0, 0), (1, 1), (0, 1)]
    directions = [
        np.where(reached, matrix.T @ np.where(keep, rates[a] * rates[b], 0) / safe, 0) for a, b in pairs
    ]
    return image, np.where(reached, weights / weights.max(), 0), directions


def blur(xs, ys, gradient, diameter, directions, volume):
    x, y = [of.ravel() for of in np.meshgrid(xs, ys)]
    distance = np.stack([x[:, None] - x, y[:, None] - y])
    field = np.einsum("ab,bij->aij", gradient, distance)
    size = np.hypot(*field)
    e = field / np.where(size > 0, size, 1)
    xi = beta(diameter) * size
    along, across = derivative(xi), langevin_over(xi)
    tensor = lambda a, b: across * (a == b) + (along - across) * e[a] * e[b]
    return volume * sum(
        times * direction[:, None] * tensor(a, b)
        for (a, b, times), direction in zip([(0, 0, 1), (1, 1, 1), (0, 1, 2)], directions)
    )


def without(columns, values):
    basis = np.linalg.qr(columns)[0]
    return values - basis @ (basis.T @ values)


def linear(system, right, noise):
    gram = system.T @ system
    ridge = noise * np.linalg.eigvalsh(gram)[-1]
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), system.T @ right)


def non_negative(system, right, share):
    """Coordinate descent: each voxel in turn takes its best value that is not below 0."""
    gram = system.T @ system
    gram[np.diag_indices_from(gram)] += share * np.linalg.eigvalsh(gram)[-1]
    slope = -(system.T @ right)
    x = np.zeros(len(gram))
    for _ in range(20000):
        moved = 0.0
        for voxel in range(len(x)):
            step = max(-slope[voxel] / gram[voxel, voxel], -x[voxel])
            if step != 0.0:
                x[voxel] += step
                slope += step * gram[voxel]
                moved = max(moved, abs(step))
        if moved < 1e-6 * x.max():
            return x
    raise SystemExit("coordinate descent has not come to an end")


def image(path, size, fov, diameter, max_hz, relaxation, least_speed, share):
    spectra, known, hertz, samples, gradient, frequencies, strengths, phases = scan(path, max_hz, relaxation)
    axes = lambda n, wide: (np.arange(n) + 0.5 - n / 2) * wide / n
    xs = ys = axes(size, fov)
    cycle = samples / (2 * hertz[-1])
    times = lambda points: np.arange(points) * cycle / points
    angle = lambda t: 2 * np.pi * frequencies[:, None] * t + phases[:, None]
    place = lambda t: -np.linalg.solve(gradient, strengths[:, None] * np.sin(angle(t)))
    rate = lambda t: -strengths[:, None] * 2 * np.pi * frequencies[:, None] * np.cos(angle(t))
    fastest = np.hypot(*np.linalg.solve(gradient, rate(times(samples)))).max()
    points = samples * int(np.ceil(4 * fastest * cycle / (xs[1] - xs[0]) / samples))
    t = times(points)
    places, rates = place(t), rate(t)
    ways = [
        np.linspace(low, high, int(np.ceil((high - low) / (xs[1] - xs[0]) - 1e-6)) + 1)
        for low, high in zip(places.min(1), places.max(1))
    ]
    full, fluxes = recover(spectra, known, hertz, samples, points, places, *ways)
    found, weights, directions = native(full, samples, points, shares(places, xs, ys), rates, least_speed)
    average, seen = mean(fluxes, gradient, xs, ys, ways)
    roots = np.sqrt(weights)[:, None]
    constants = roots * np.stack(directions, 1)
    volume = (xs[1] - xs[0]) * (ys[1] - ys[0]) * 1e-3
    system = without(constants, roots * blur(xs, ys, gradient, diameter, directions, volume))
    right = without(constants, roots[:, 0] * found)
    return {
        "mean": average.tolist(),
        "seen": (seen & (weights > 0)).tolist(),
        "native": found.tolist(),
        "reached": (weights > 0).tolist(),
        "wiener": linear(system, right, share).tolist(),
        "non-negative": non_negative(system, right, share).tolist(),
    }


def lines(asked, share):
    x, y = [of.ravel() for of in np.meshgrid(asked["x"], asked["y"])]
    area = (asked["x"][1] - asked["x"][0]) * (asked["y"][1] - asked["y"][0])
    rate = beta(asked["diameter"]) * asked["gradient"]
    rows, right = [], []
    for of in asked["projections"]:
        u = of["first"] + of["spacing"] * np.arange(len(of["values"]))
        across = of["normal"][0] * x + of["normal"][1] * y
        part = area * rate / 2 * derivative(rate * (u[:, None] - across[None, :]))
        rows.append(part - part.mean(0))
        right.append(np.array(of["values"]) - np.mean(of["values"]))
    system, right = np.concatenate(rows), np.concatenate(right)
    return {
        "wiener": linear(system, right, share).tolist(),
        "non-negative": non_negative(system, right, share).tolist(),
    }


def main():
    what, *rest = sys.argv[1:]
    if what == "image":
        print(json.dumps(image(rest[0], int(rest[1]), *map(float, rest[2:]))))
    else:
        print(json.dumps(lines(json.load(sys.stdin), float(rest[0]))))


main()
