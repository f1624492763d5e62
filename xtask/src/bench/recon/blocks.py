"""Kaczmarz's method in blocks with NumPy and SciPy, as somebody would write it who knows that BLAS is fast.

blocks.py MATRIX DATA ROWS COLUMNS reads complex numbers of two little-endian singles and answers lines, each with a
number on a line of its own:

run ROWS SWEEPS FRAMES BLOCK   nanoseconds of the solution with the first rows, without preparation
prepare ROWS BLOCK             nanoseconds of the triangular matrices
peak                           GFLOP/s of the complex matrix product, at its best size
bandwidth                      bytes per second of a sum
far ROWS SWEEPS FILE           relative distance of an image in FILE from row after row in double precision
apart FILE FILE                relative distance of two images
"""

import sys
import time

import numpy as np
from scipy.linalg import solve_triangular

LAMBDA = 1.0
PREPARED = {}


class Held:
    def __init__(self, matrix, data, rows, columns):
        self.matrix = np.fromfile(matrix, np.complex64).reshape(rows, columns)
        self.data = np.fromfile(data, np.complex64).reshape(-1, rows)


def triangles(matrix, block):
    """D^-1 + L of every block."""
    found = []
    for start in range(0, len(matrix), block):
        part = matrix[start : start + block]
        gram = np.tril(part @ part.conj().T)
        gram[np.diag_indices_from(gram)] = gram.diagonal().real + np.float32(LAMBDA)
        found.append(gram)
    return found


def solve(matrix, data, sweeps, block, prepared):
    """data is ROWS or ROWS x FRAMES; the image has the same number of dimensions."""
    epsilon = np.float32(LAMBDA**0.5)
    image = np.zeros((matrix.shape[1],) + data.shape[1:], np.complex64)
    multiplier = np.zeros_like(data)
    for _ in range(sweeps):
        for number, start in enumerate(range(0, len(matrix), block)):
            rows = slice(start, start + block)
            part = matrix[rows]
            rest = data[rows] - part @ image - epsilon * multiplier[rows]
            alpha = solve_triangular(
                prepared[number], rest, lower=True, check_finite=False, overwrite_b=True
            )
            # The adjoint without a conjugated copy of the matrix.
            image += (alpha.conj().T @ part).conj().T
            multiplier[rows] += epsilon * alpha
        image.imag = 0
        np.maximum(image.real, 0, out=image.real)
    return image


def timed(work):
    started = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - started


def run(held, rows, sweeps, frames, block):
    if (rows, block) not in PREPARED:
        PREPARED[rows, block] = triangles(held.matrix[:rows], block)
    data = held.data[0, :rows] if frames == 1 else np.ascontiguousarray(held.data[:frames, :rows].T)
    prepared = PREPARED[rows, block]
    return timed(lambda: solve(held.matrix[:rows], data, sweeps, block, prepared))


def peak():
    best = 0.0
    for size in (256, 384, 512, 768):
        left = np.random.default_rng(1).standard_normal((size, 2 * size), np.float32).view(np.complex64)
        right, out = left.T.copy(), np.empty_like(left)
        for _ in range(8):
            best = max(best, 8.0 * size**3 / timed(lambda: np.matmul(left, right, out=out)))
    return best


def bandwidth():
    buffer = np.ones(1 << 27, np.uint64)
    return max(buffer.nbytes / timed(buffer.sum) * 1e9 for _ in range(5))


def by_rows(held, rows, sweeps):
    """The definition, in double precision."""
    matrix = held.matrix[:rows].astype(np.complex128)
    data = held.data[0, :rows].astype(np.complex128)
    image, multiplier, epsilon = np.zeros(matrix.shape[1], complex), np.zeros(rows, complex), LAMBDA**0.5
    for _ in range(sweeps):
        for k, row in enumerate(matrix):
            norm = np.vdot(row, row).real
            alpha = (data[k] - row @ image - epsilon * multiplier[k]) / (norm + LAMBDA)
            image += alpha * row.conj()
            multiplier[k] += epsilon * alpha
        image = np.maximum(image.real, 0).astype(complex)
    return image


def apart(one, other):
    return np.linalg.norm(one.astype(np.complex128) - other) / np.linalg.norm(other)


def answer(held, words):
    name, rest = words[0], words[1:]
    if name == "run":
        return run(held, *map(int, rest))
    if name == "prepare":
        return timed(lambda: triangles(held.matrix[: int(rest[0])], int(rest[1])))
    if name == "peak":
        return peak()
    if name == "bandwidth":
        return bandwidth()
    if name == "far":
        return apart(np.fromfile(rest[2], np.complex64), by_rows(held, int(rest[0]), int(rest[1])))
    if name == "apart":
        return apart(*(np.fromfile(file, np.complex64) for file in rest))
    raise SystemExit(f"`{' '.join(words)}` is no request")


def main():
    held = Held(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    for line in sys.stdin:
        print(answer(held, line.split()), flush=True)


main()
