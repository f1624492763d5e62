"""Images with corrections and weights, with h5py and NumPy: `corrections.py SCAN CALIBRATION OPTIONS`, the options as JSON.

`corrections.py split FILE FACTOR FACTOR` moves factors from the transfer function of a file to its inductionFactor.
"""

import json
import sys

import h5py
import numpy as np


def split(path, factors):
    with h5py.File(path, "r+") as file:
        receiver = file["/acquisition/receiver"]
        receiver["transferFunction"][...] /= np.array(factors)[:, None]
        receiver["inductionFactor"] = np.array(factors, dtype=float)


def chain(file):
    receiver = file["/acquisition/receiver"]
    factors = receiver["inductionFactor"][()] if "inductionFactor" in receiver else np.ones(len(receiver["transferFunction"]))
    return receiver["transferFunction"][()] * factors[:, None]


def spectra_of(samples, words, leakage):
    """Spectra of frames of one period. Against leakage a Hann window lies over three frames, and every third line is taken."""
    count = samples.shape[-1]
    out = []
    for index in range(len(samples)):
        first = index - 1 if leakage and index > 0 and words[index - 1] == words[index] else index
        last = index + 1 if leakage and index + 1 < len(samples) and words[index + 1] == words[index] else index
        frames = last + 1 - first
        joined = np.concatenate(list(samples[first : last + 1]), axis=-1)
        if frames > 1:
            joined = joined * np.sin(np.pi * np.arange(frames * count) / (frames * count)) ** 2 * 2 / frames
        out.append(np.fft.rfft(joined, axis=-1)[:, ::frames])
    return np.array(out)


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
    options = json.loads(sys.argv[3])
    with h5py.File(sys.argv[1]) as scan, h5py.File(sys.argv[2]) as calibration:
        factor = scan["/acquisition/receiver/dataConversionFactor"][()]
        samples = (scan["/measurement/data"][()] * factor[None, None, :, :1] + factor[None, None, :, 1:])[:, 0]
        words = scan["/measurement/isBackgroundFrame"][()].astype(bool)
        spectra = spectra_of(samples, words, options["leakage"])
        bandwidth = scan["/acquisition/receiver/bandwidth"][()]
        places = calibration["/measurement/isBackgroundFrame"][()] == 0
        stored = calibration["/measurement/data"][0][:, :, places].astype(complex)
        kept = calibration["/calibration/snr"][0] >= 3
        kept &= (np.arange(spectra.shape[-1]) * 2 * bandwidth / samples.shape[-1] >= 80e3)[None, :]
        if options["transfer"]:
            spectra = spectra / chain(scan)
            stored = stored / chain(calibration)[:, :, None]
        sample = calibration["/tracer/concentration"][0]
    matrix = stored[kept]
    values = spectra[:, kept]
    weights = np.ones(len(matrix))
    if options["row_norm"]:
        weights = weights / np.linalg.norm(matrix, axis=1)
    if options["channels"]:
        weights = weights * np.repeat(options["channels"], kept.sum(axis=1))
    if options["whitening"]:
        noise = values[words].std(axis=0)
        weights = weights * noise.min() / noise
    measured = values[~words].mean(axis=0) - values[words].mean(axis=0)
    image = kaczmarz(matrix * weights[:, None], measured * weights, 20, 0.01) * sample * 1000
    print(json.dumps({"rows": int(kept.sum()), "image": image.tolist()}))


if sys.argv[1] == "split":
    split(sys.argv[2], [float(word) for word in sys.argv[3:]])
else:
    main()
