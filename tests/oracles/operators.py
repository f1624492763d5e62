"""Compressed and patched systems in NumPy, from their formulas.

`operators.py solve` reads problems from standard input and prints their images: a matrix over a grid whose rows keep
some coefficients of a cosine transform, solved by Kaczmarz's method in coefficients, with real, positive voxels after
every sweep. `operators.py pack CALIBRATION OUT RATIO` writes a calibration whose rows are such coefficients.
`operators.py patches SCAN CALIBRATION MIN_FREQUENCY SNR ITERATIONS LAMBDA` prints the image of a scan whose periods are
patches, over the calibration's own grid, with the mean of the background frames taken off. `operators.py without FILE
DATASET` takes a dataset out of a file.
"""

import json
import shutil
import sys

import h5py
import numpy as np


def cosine(n):
    """DCT-II: row k has sqrt(2/n) cos(pi k (2j + 1) / (2n)), the first one over the root of 2."""
    if n == 1:
        return np.ones((1, 1))
    k, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    matrix = np.sqrt(2 / n) * np.cos(np.pi * k * (2 * j + 1) / (2 * n))
    matrix[0] /= np.sqrt(2)
    return matrix


def transform(grid):
    """The transform over x, y and z, x fastest, as one matrix."""
    nx, ny, nz = grid
    return np.kron(cosine(nz), np.kron(cosine(ny), cosine(nx)))


def strongest(row, count):
    """Places of the greatest magnitudes, ascending."""
    return np.sort(np.argsort(-np.abs(row), kind="stable")[:count])


def compressed(matrix, grid, keep):
    coefficients = matrix @ transform(grid).T
    for row in coefficients:
        if "ratio" in keep:
            places = strongest(row, max(1, int(keep["ratio"] * len(row))))
        else:
            places = np.flatnonzero(np.abs(row) >= keep["threshold"] * np.abs(row).max())
        kept = row[places]
        row[:] = 0
        row[places] = kept
    return coefficients


def kaczmarz(rows, data, back, iterations, strength):
    """`back` turns voxels into coefficients, and its transpose back; without one, z is of voxels."""
    energy = (np.abs(rows) ** 2).sum(axis=1)
    weight = strength * energy.sum() / rows.shape[1]
    z, rest = np.zeros(rows.shape[1], complex), np.zeros(len(data), complex)
    for _ in range(iterations):
        for k in np.flatnonzero(energy):
            missing = data[k] - rows[k] @ z - np.sqrt(weight) * rest[k]
            step = missing / (energy[k] + weight)
            z += step * rows[k].conj()
            rest[k] += step * np.sqrt(weight)
        voxels = np.maximum((z if back is None else back.T @ z).real, 0).astype(complex)
        z = voxels if back is None else back @ voxels
    return voxels.real


def numbers(pairs):
    pairs = np.array(pairs)
    return pairs[..., 0] + 1j * pairs[..., 1]


def solve():
    images = []
    for case in json.load(sys.stdin):
        grid = case["grid"]
        matrix = numbers(case["matrix"]).reshape(-1, int(np.prod(grid)))
        rows = compressed(matrix, grid, case["keep"])
        image = kaczmarz(rows, numbers(case["data"]), transform(grid), case["iterations"], case["lambda"])
        images.append({"kept": int(np.count_nonzero(rows)), "image": image.tolist()})
    print(json.dumps(images))


def pack(path, out, ratio):
    shutil.copyfile(path, out)
    with h5py.File(out, "r+") as file:
        size = file["/calibration/size"][()]
        count = int(np.prod(size))
        data = file["/measurement/data"][()]
        kept = max(1, int(ratio * count))
        forward = transform(size)
        packed = np.zeros(data.shape[:3] + (kept + data.shape[3] - count,), data.dtype)
        places = np.zeros(data.shape[:3] + (kept,), np.int64)
        for at in np.ndindex(data.shape[:3]):
            row = forward @ data[at][:count]
            chosen = strongest(row, kept)
            packed[at] = np.concatenate([row[chosen], data[at][count:]])
            places[at] = chosen + 1
        text = h5py.string_dtype()
        for name, value in {
            "data": packed,
            "subsamplingIndices": places,
            "isSparsityTransformed": np.int8(1),
        }.items():
            if name in file["/measurement"]:
                del file["/measurement"][name]
            file["/measurement"].create_dataset(name, data=value)
        file["/measurement"].create_dataset("sparsityTransformation", data="DCT-II", dtype=text)


def grid_places(size, view, center):
    """The middles of voxels, x fastest."""
    axes = [c + (np.arange(n) + 0.5 - n / 2) * v / n for n, v, c in zip(size, view, center)]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)


def voxel_at(places, size, view, center):
    """The voxel at each place, and whether it is one of the grid."""
    at = np.rint((places - center + np.array(view) / 2) / (np.array(view) / size) - 0.5).astype(int)
    inside = np.all((at >= 0) & (at < size), axis=1)
    return at[:, 0] + size[0] * (at[:, 1] + size[1] * at[:, 2]), inside


def patches(scan_path, calibration_path, least, ratio, iterations, strength):
    with h5py.File(scan_path) as scan, h5py.File(calibration_path) as calibration:
        factor = scan["/acquisition/receiver/dataConversionFactor"][()]
        samples = scan["/measurement/data"][()] * factor[None, None, :, :1] + factor[None, None, :, 1:]
        words = scan["/measurement/isBackgroundFrame"][()].astype(bool)
        gradients = scan["/acquisition/gradient"][:, 0]
        offsets = scan["/acquisition/offsetField"][:, 0]
        spectra = np.fft.rfft(samples, axis=-1)
        bandwidth = scan["/acquisition/receiver/bandwidth"][()]
        own = calibration["/acquisition/offsetField"][0, 0]
        places = calibration["/measurement/isBackgroundFrame"][()] == 0
        stored = calibration["/measurement/data"][0][:, :, places].astype(complex)
        kept = calibration["/calibration/snr"][0] >= ratio
        sample = calibration["/tracer/concentration"][0]
        names = ("size", "fieldOfView", "fieldOfViewCenter")
        size, view, center = (calibration["/calibration/" + name][()] for name in names)
    kept &= (np.arange(spectra.shape[-1]) * 2 * bandwidth / samples.shape[-1] >= least)[None, :]
    measured = spectra[~words].mean(axis=0) - spectra[words].mean(axis=0)
    blocks = []
    for gradient, offset in zip(gradients, offsets):
        # Where the field is what it was at a place of the calibration: G x' + offset = G x + own.
        moved = grid_places(size, view, center) - np.linalg.solve(gradient, offset - own)
        to, inside = voxel_at(moved, size, view, center)
        block = np.zeros((int(kept.sum()), int(np.prod(size))), complex)
        block[:, to[inside]] = stored[kept][:, inside]
        blocks.append(block)
    data = np.concatenate([period[kept] for period in measured])
    image = kaczmarz(np.concatenate(blocks), data, None, iterations, strength)
    print(json.dumps({"rows": len(data), "image": (image * sample * 1000).tolist()}))


def without(path, dataset):
    with h5py.File(path, "r+") as file:
        del file[dataset]


if __name__ == "__main__":
    if sys.argv[1] == "solve":
        solve()
    elif sys.argv[1] == "pack":
        pack(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    elif sys.argv[1] == "patches":
        patches(*sys.argv[2:4], *(float(number) for number in sys.argv[4:6]), int(sys.argv[6]), float(sys.argv[7]))
    else:
        without(sys.argv[2], sys.argv[3])
