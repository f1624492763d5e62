"""x-space in NumPy, from the formulas.

`xspace.py backproject` reads projections as JSON from stdin and prints their plane. The ramp is summed in space, not by a transform of
its kernel: `q_i = d * sum_j h_(i-j) p_j`, smoothed by Hann's window as its three neighbours in space.

`xspace.py line TRUTH ANGLES GRADIENT DIAMETER` prints what a perfect scanner with a field-free line would show of the truth, in an arbitrary
unit: each voxel is a point, blurred by the Langevin function's derivative across the line.
"""

import json
import sys

import h5py
import numpy as np


def back_project(projections, xs, ys, hann):
    angles = np.array([np.arctan2(p["normal"][1], p["normal"][0]) % np.pi for p in projections])
    order = np.argsort(angles)
    gaps = np.diff(np.append(angles[order], angles[order[0]] + np.pi))
    shares = np.empty(len(angles))
    shares[order] = (gaps + np.roll(gaps, 1)) / 2
    image = np.zeros((len(ys), len(xs)))
    reach = np.hypot(np.abs(xs).max(), np.abs(ys).max())
    for share, projection in zip(shares, projections):
        d, values = projection["spacing"], np.array(projection["values"])
        more = int(np.ceil((reach + abs(projection["first"])) / d)) + 2
        steps = np.arange(-more, len(values) + more)
        distance = steps[:, None] - np.arange(len(values))[None, :]
        kernel = np.zeros(distance.shape)
        kernel[distance == 0] = 1 / (4 * d * d)
        odd = distance % 2 == 1
        kernel[odd] = -1 / (np.pi * distance[odd] * d) ** 2
        filtered = d * kernel @ values
        if hann:
            # (1 + cos(pi f / f_N)) / 2 is a half of the value and a quarter of each neighbour.
            filtered = np.convolve(filtered, [0.25, 0.5, 0.25], mode="same")
        u = projection["normal"][0] * xs[None, :] + projection["normal"][1] * ys[:, None]
        image += share * np.interp(u, projection["first"] + steps * d, filtered)
    return image


def langevin(xi):
    safe = np.where(np.abs(xi) < 1e-2, 1.0, xi)
    return np.where(np.abs(xi) < 1e-2, xi / 3 - xi**3 / 45, 1 / np.tanh(safe) - 1 / safe)


def derivative(xi):
    xi = np.clip(xi, -300, 300)
    safe = np.where(np.abs(xi) < 1e-2, 1.0, xi)
    return np.where(np.abs(xi) < 1e-2, 1 / 3 - xi**2 / 15, 1 / safe**2 - 1 / np.sinh(safe) ** 2)


def beta(diameter):
    return 0.6 / (4e-7 * np.pi) * np.pi / 6 * diameter**3 / (1.380649e-23 * 300)


def truth(path):
    with h5py.File(path) as file:
        nx, ny, _ = file["/reconstruction/size"][()]
        wide, high, _ = file["/reconstruction/fieldOfView"][()]
        values = file["/reconstruction/data"][0, :, 0].reshape(ny, nx)
    xs, ys = (np.arange(nx) + 0.5 - nx / 2) * wide / nx, (np.arange(ny) + 0.5 - ny / 2) * high / ny
    return values, xs, ys


def line(path, count, gradient, diameter):
    values, xs, ys = truth(path)
    projections = []
    d = (xs[1] - xs[0]) / 4
    places = np.arange(-400, 401) * d
    for step in range(count):
        angle = np.pi * step / count
        normal = [-np.sin(angle), np.cos(angle)]
        u = (normal[0] * xs[None, :] + normal[1] * ys[:, None]).ravel()
        blurred = derivative(beta(diameter) * gradient * (places[:, None] - u[None, :])) @ values.ravel()
        projections.append({"normal": normal, "first": places[0], "spacing": d, "values": blurred})
    return back_project(projections, xs, ys, True)


def main():
    what, *rest = sys.argv[1:]
    if what == "backproject":
        asked = json.load(sys.stdin)
        image = back_project(asked["projections"], np.array(asked["x"]), np.array(asked["y"]), asked["hann"])
    else:
        image = line(rest[0], int(rest[1]), float(rest[2]), float(rest[3]))
    print(json.dumps(image.ravel().tolist()))


main()
