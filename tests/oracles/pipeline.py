"""The whole way from two MDF files to an image, with h5py and NumPy: `pipeline.py SCAN CALIBRATION MIN_FREQUENCY SNR ITERATIONS LAMBDA`.

Prints the rows that were chosen, and the image in mmol/L. Background by interpolation between the frames before and after.
"""

import json
import sys

import h5py
import numpy as np


def background_at(frames, words):
    """The background under each frame: straight lines between the means of runs of background frames, each at its middle."""
    runs, start = [], 0
    for index in range(1, len(words) + 1):
        if index == len(words) or words[index] != words[start]:
            if words[start]:
                runs.append(((start + index - 1) / 2, frames[start:index].mean(axis=0)))
            start = index
    places, means = np.array([place for place, _ in runs]), np.array([mean for _, mean in runs])
    under = np.empty_like(frames)
    for index in range(len(frames)):
        upper = int(np.clip(np.searchsorted(places, index), 1, len(places) - 1))
        share = np.clip((index - places[upper - 1]) / (places[upper] - places[upper - 1]), 0, 1)
        under[index] = (1 - share) * means[upper - 1] + share * means[upper]
    return under


def kaczmarz(matrix, data, iterations, strength):
    energy = (np.abs(matrix) ** 2).sum(axis=1)
    weight = strength * energy.sum() / matrix.shape[1]
    image, rest = np.zeros(matrix.shape[1], complex), np.zeros(len(data), complex)
    for _ in range(iterations):
        for row, values in enumerate(matrix):
            missing = data[row] - values @ image - np.sqrt(weight) * rest[row]
            step = missing / (energy[row] + weight)
            image += step * values.conj()
            rest[row] += step * np.sqrt(weight)
        image = np.maximum(image.real, 0).astype(complex)
    return image.real


def main():
    scan_path, calibration_path = sys.argv[1:3]
    least, ratio, iterations, strength = float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6])
    with h5py.File(scan_path) as scan, h5py.File(calibration_path) as calibration:
        factor = scan["/acquisition/receiver/dataConversionFactor"][()]
        samples = scan["/measurement/data"][()] * factor[None, None, :, :1] + factor[None, None, :, 1:]
        words = scan["/measurement/isBackgroundFrame"][()].astype(bool)
        spectra = np.fft.rfft(samples, axis=-1)[:, 0]
        bandwidth = scan["/acquisition/receiver/bandwidth"][()]
        places = calibration["/measurement/isBackgroundFrame"][()] == 0
        stored = calibration["/measurement/data"][0][:, :, places].astype(complex)
        kept = calibration["/calibration/snr"][0] >= ratio
        sample = calibration["/tracer/concentration"][0]
    kept &= (np.arange(spectra.shape[-1]) * 2 * bandwidth / samples.shape[-1] >= least)[None, :]
    measured = (spectra - background_at(spectra, words))[~words].mean(axis=0)
    image = kaczmarz(stored[kept], measured[kept], iterations, strength) * sample * 1000
    print(json.dumps({"rows": int(kept.sum()), "image": image.tolist()}))


main()
