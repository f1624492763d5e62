"""Reads images back, and compares two: `png FILE` prints its rows, `compare` reads two arrays as JSON from standard input."""

import json
import sys

import numpy as np


def png(path):
    from PIL import Image

    with Image.open(path) as image:
        print(json.dumps({"mode": image.mode, "rows": np.asarray(image).tolist()}))


def windows_mean(values, window):
    view = np.lib.stride_tricks.sliding_window_view(values, window)
    return view.mean(axis=tuple(range(values.ndim, 2 * values.ndim)))


def compare():
    given = json.load(sys.stdin)
    a, b = (np.array(given[name]).reshape(given["shape"]) for name in ("image", "truth"))
    span = b.max() - b.min()
    window = [min(7, edge) for edge in b.shape]
    count = np.prod(window)
    unbiased = count / (count - 1)
    mean_a, mean_b = windows_mean(a, window), windows_mean(b, window)
    var_a = unbiased * (windows_mean(a * a, window) - mean_a**2)
    var_b = unbiased * (windows_mean(b * b, window) - mean_b**2)
    both = unbiased * (windows_mean(a * b, window) - mean_a * mean_b)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * both + c2) / (var_a + var_b + c2)
    scale = np.linalg.lstsq(a.reshape(-1, 1), b.ravel(), rcond=None)[0][0]
    rmse = np.sqrt(np.mean((a - b) ** 2))
    answer = {
        "nrmse": rmse / span,
        "nrmse_scaled": np.sqrt(np.mean((scale * a - b) ** 2)) / span,
        "scale": scale,
        "psnr": 10 * np.log10(span**2 / rmse**2),
        "ssim": (luminance * structure).mean(),
    }
    print(json.dumps(answer))


if sys.argv[1] == "png":
    png(sys.argv[2])
else:
    compare()
