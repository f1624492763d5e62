"""A field-free point in x-space, in h5py and NumPy, from the formulas.

`xspace_point.py image SCAN SIZE FOV DIAMETER MAX_HZ RELAXATION LEAST_SPEED LAMBDA` prints both native images of a plane or a volume and
two sharp ones as JSON; SIZE and FOV are three numbers with commas. What differs from the program on purpose: the images of flux are a dense
least-squares problem at the known lines, with bends from Kronecker products; the answer's convolution is a dense matrix; the linear estimate
is a direct solution, and the one without negative values goes from voxel to voxel (coordinate descent) until nothing moves.

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
    return spectra, known, hertz, samples, gradient, frequencies, strengths, phases


def in_time(spectra, samples, points):
    padded = np.zeros((len(spectra), points // 2 + 1), complex)
    padded[:, : (samples + 1) // 2] = spectra[:, : (samples + 1) // 2]
    return np.fft.irfft(padded, points, axis=1) * points / samples


def shares(places, axes):
    """Points x voxels (x fastest): linear between the middles of voxels, without those that are not there."""
    matrix = np.ones((places.shape[1], 1))
    for place, axis in zip(places, axes):
        steps = ((place - axis[0]) / (axis[1] - axis[0]))[:, None]
        inside = (steps >= -0.5) & (steps <= len(axis) - 0.5)
        along = np.maximum(0, 1 - np.abs(steps - np.arange(len(axis))[None, :])) * inside
        matrix = (along[:, :, None] * matrix[:, None, :]).reshape(len(matrix), -1)
    return matrix


def over(axes, factors):
    """The Kronecker product of one matrix for each axis, where x is fastest; the identity where none is given."""
    whole = np.eye(1)
    for number, axis in enumerate(axes):
        whole = np.kron(factors.get(number, np.eye(len(axis))), whole)
    return whole


def bends(axes):
    second = lambda axis: np.diff(np.eye(len(axis)), 2, axis=0)
    first = lambda axis: np.diff(np.eye(len(axis)), axis=0)
    parts = [over(axes, {a: second(axes[a])}) for a in range(len(axes))]
    for a in range(len(axes)):
        for b in range(a):
            parts.append(np.sqrt(2) * over(axes, {a: first(axes[a]), b: first(axes[b])}))
    return np.concatenate(parts)


def recover(spectra, known, hertz, samples, points, places, ways):
    """The spectra with the lost lines, and the images of flux that have the known lines in common with the signal."""
    matrix = shares(places, ways)
    shape = [len(way) for way in reversed(ways)]
    squares = (matrix**2).sum(0)
    smooth = SMOOTH * squares.sum() / (squares > 0).sum()
    bend = np.sqrt(smooth) * bends(ways)
    full, fluxes = spectra.copy(), []
    for channel, keep in enumerate(known):
        last = np.flatnonzero(keep)[-1]
        lines = np.fft.rfft(matrix, axis=0)[: len(keep)][keep] / np.sqrt(points / 2)
        omega = 2j * np.pi * hertz
        wanted = (spectra[channel][keep] / omega[keep]) * (points / samples) / np.sqrt(points / 2)
        system = np.concatenate([lines.real, lines.imag, bend])
        right = np.concatenate([wanted.real, wanted.imag, np.zeros(len(bend))])
        flux = np.linalg.lstsq(system, right, rcond=1e-9)[0].reshape(shape)
        reached = (squares > 0).reshape(shape)
        slopes = [end_slope(flux, reached, axis) for axis in range(len(shape))]
        for axis, slope in enumerate(slopes):
            ramp = np.arange(shape[axis]).reshape([-1 if other == axis else 1 for other in range(len(shape))])
            flux = flux - slope * ramp
        fluxes.append(flux.ravel())
        seen = np.fft.rfft(matrix @ flux.ravel())[: len(keep)] * samples / points
        lost = ~keep & (np.arange(len(keep)) > 0) & (np.arange(len(keep)) < last)
        full[channel, lost] = (seen * omega)[lost]
    return full, fluxes


def end_slope(image, reached, axis):
    image, reached = np.moveaxis(image, axis, 0), np.moveaxis(reached, axis, 0)
    slopes = np.diff(image, axis=0)[[0, -1]]
    return slopes[(reached[1:] & reached[:-1])[[0, -1]]].mean()


def voxels(axes):
    """The middles of all voxels, x fastest."""
    return np.stack([of.ravel() for of in np.meshgrid(*reversed(axes), indexing="ij")][::-1])


def mean(fluxes, gradient, axes, ways):
    """The mean of the flux's slopes, by the place where a field of either sign along an axis takes the point to."""
    middles, inverse = voxels(axes), np.linalg.inv(gradient)
    image, seen = np.zeros(middles.shape[1]), np.ones(middles.shape[1], bool)
    for axis, flux in enumerate(fluxes):
        step = min(of[1] - of[0] for of in axes) / 2 / np.linalg.norm(inverse[:, axis])
        for sign in (1, -1):
            matrix = shares(middles + sign * step * inverse[:, axis, None], ways)
            image += sign * (matrix @ flux) / (2 * step) / len(fluxes)
            seen &= matrix.sum(1) > 1 - 1e-6
    return image, seen


def pairs(dimensions):
    return [(a, b) for a in range(dimensions) for b in range(a, dimensions)]


def native(spectra, samples, points, matrix, rates, least_speed):
    u = in_time(spectra, samples, points)
    speed = np.sqrt((rates**2).sum(0))
    keep = speed > least_speed * speed.max()
    weights = matrix.T @ np.where(keep, speed**2, 0)
    reached = weights > 1e-3 * weights.max()
    safe = np.where(reached, weights, 1)
    gridded = lambda values: np.where(reached, matrix.T @ np.where(keep, values, 0) / safe, 0)
    directions = [gridded(rates[a] * rates[b]) for a, b in pairs(len(rates))]
    return gridded((rates * u).sum(0)), np.where(reached, weights / weights.max(), 0), directions


def blur(axes, gradient, diameter, directions, volume):
    middles = voxels(axes)
    field = np.einsum("ab,bij->aij", gradient, middles[:, :, None] - middles[:, None, :])
    size = np.sqrt((field**2).sum(0))
    e = field / np.where(size > 0, size, 1)
    xi = beta(diameter) * size
    along, across = derivative(xi), langevin_over(xi)
    total = np.zeros(xi.shape)
    for (a, b), direction in zip(pairs(len(axes)), directions):
        times = 1 if a == b else 2
        total += times * direction[:, None] * (across * (a == b) + (along - across) * e[a] * e[b])
    return volume * total


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
    axes = [(np.arange(n) + 0.5 - n / 2) * wide / n for n, wide in zip(size, fov) if n > 1]
    gradient = gradient[: len(axes), : len(axes)]
    edges = [axis[1] - axis[0] for axis in axes]
    cycle = samples / (2 * hertz[-1])
    times = lambda points: np.arange(points) * cycle / points
    angle = lambda t: 2 * np.pi * frequencies[:, None] * t + phases[:, None]
    place = lambda t: -np.linalg.solve(gradient, strengths[:, None] * np.sin(angle(t)))
    rate = lambda t: -strengths[:, None] * 2 * np.pi * frequencies[:, None] * np.cos(angle(t))
    fastest = np.linalg.norm(np.linalg.solve(gradient, rate(times(samples))), axis=0).max()
    points = samples * int(np.ceil(4 * fastest * cycle / min(edges) / samples))
    t = times(points)
    places, rates = place(t), rate(t)
    ways = [
        np.linspace(low, high, int(np.ceil((high - low) / edge - 1e-6)) + 1)
        for low, high, edge in zip(places.min(1), places.max(1), edges)
    ]
    full, fluxes = recover(spectra, known, hertz, samples, points, places, ways)
    found, weights, directions = native(full, samples, points, shares(places, axes), rates, least_speed)
    average, seen = mean(fluxes, gradient, axes, ways)
    roots = np.sqrt(weights)[:, None]
    constants = roots * np.stack(directions, 1)
    system = without(constants, roots * blur(axes, gradient, diameter, directions, np.prod(np.array(fov) / size)))
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
        three = lambda text, of: [of(part) for part in text.split(",")]
        print(json.dumps(image(rest[0], three(rest[1], int), three(rest[2], float), *map(float, rest[3:]))))
    else:
        print(json.dumps(lines(json.load(sys.stdin), float(rest[0]))))


main()
