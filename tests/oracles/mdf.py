"""MDF files by h5py, and what h5py reads of ours: the independent side of the tests of `recon/src/mdf`.

    mdf.py write FOLDER      writes a file of every kind; prints the numbers of their data as JSON
    mdf.py large PATH        writes a large compressed file
    mdf.py read PATH         prints every dataset of a file as JSON: type, shape, layout, values
"""
import json
import sys

import h5py
import numpy as np

UUID = "4b0ffb84-29f5-4388-92f3-64a7f8d0a2ba"
TIME = "2024-02-29T14:28:34.673"
N, J, C, V = 5, 2, 2, 8
K = V // 2 + 1
GRID = (3, 2, 2)  # x, y, z
O = 12
TEXT = h5py.string_dtype()


class Maker:
    """Writes datasets, with the deviations that a kind asks for."""

    def __init__(self, file, fixed=False, order="<", scalars=True):
        self.file, self.fixed, self.order, self.scalars = file, fixed, order, scalars

    def shaped(self, value):
        return value if self.scalars or np.ndim(value) else np.reshape(value, (1,))

    def text(self, path, value):
        if self.fixed:
            array = np.char.encode(np.array(value), "utf-8").astype("S50")
            self.file.create_dataset(path, data=self.shaped(array))
        else:
            array = np.array(value, dtype=object)
            self.file.create_dataset(path, data=self.shaped(array), dtype=TEXT)

    def number(self, path, value, kind):
        array = np.asarray(value).astype(np.dtype(kind).newbyteorder(self.order))
        self.file.create_dataset(path, data=self.shaped(array))

    def flag(self, path, value):
        self.number(path, value, "i1")

    def int(self, path, value):
        self.number(path, value, "i8")

    def float(self, path, value):
        self.number(path, value, "f8")


def metadata(m, version="2.1.0", frames=N, periods=J):
    m.text("/time", TIME), m.text("/uuid", UUID), m.text("/version", version)
    for name in ("description", "name"):
        m.text("/study/" + name, "the " + name)
    m.int("/study/number", 3), m.text("/study/uuid", UUID), m.text("/study/time", TIME)
    for name in ("description", "name", "subject"):
        m.text("/experiment/" + name, "the " + name + " \u03b1")
    m.int("/experiment/number", 7), m.text("/experiment/uuid", UUID), m.flag("/experiment/isSimulation", 0)
    for name in ("batch", "name", "solute", "vendor"):
        m.text("/tracer/" + name, ["one " + name, "other " + name])
    m.float("/tracer/concentration", [0.5, 0.25]), m.float("/tracer/volume", [1e-6, 2e-6])
    for name in ("facility", "manufacturer", "name", "operator"):
        m.text("/scanner/" + name, "a " + name)
    m.text("/scanner/topology", "FFP"), m.float("/scanner/boreSize", 0.12)
    a = "/acquisition/"
    m.int(a + "numAverages", 1), m.int(a + "numFrames", frames), m.int(a + "numPeriodsPerFrame", periods)
    m.text(a + "startTime", TIME)
    m.float(a + "gradient", np.tile(np.diag([-1.0, -1.0, 2.0]), (periods, 1, 1, 1)))
    m.float(a + "offsetField", np.zeros((periods, 1, 3)))
    d = a + "drivefield/"
    m.float(d + "baseFrequency", 2.5e6), m.float(d + "cycle", 652.8e-6), m.int(d + "numChannels", 2)
    m.int(d + "divider", [[102], [96]]), m.float(d + "phase", np.zeros((periods, 2, 1)))
    m.float(d + "strength", np.full((periods, 2, 1), 0.014)), m.text(d + "waveform", [["sine"], ["sine"]])
    r = a + "receiver/"
    m.float(r + "bandwidth", V / 2 / 652.8e-6), m.int(r + "numChannels", C), m.int(r + "numSamplingPoints", V)
    m.text(r + "unit", "V"), m.float(r + "dataConversionFactor", [[2.0, 0.5], [0.25, -1.0]])


def flags(m, frames=N, background=(), version="2.1.0", **on):
    names = ("isBackgroundCorrected", "isFastFrameAxis", "isFourierTransformed", "isFramePermutation",
             "isFrequencySelection", "isSparsityTransformed", "isSpectralLeakageCorrected",
             "isTransferFunctionCorrected")
    for name in names:
        if name != "isSparsityTransformed" or not version.startswith("2.0"):
            m.flag("/measurement/" + name, int(on.get(name, False)))
    m.flag("/measurement/isBackgroundFrame", [int(n in background) for n in range(frames)])


def numbers(shape, complex_=False, kind="f8"):
    rng = np.random.default_rng(7)
    if np.dtype(kind).kind in "iu":
        return rng.integers(0, 100, size=shape).astype(kind)
    real = rng.standard_normal(shape)
    return real + 1j * rng.standard_normal(shape) if complex_ else real


def data(m, canonical, fast=False, kind=None, **options):
    """Stores [n, j, c, k] as the flags say, and returns what is canonical after rounding to the type."""
    kind = np.dtype(kind or canonical.dtype)
    canonical = canonical.astype(kind)
    stored = np.moveaxis(canonical, 0, 3) if fast else canonical
    if kind.kind == "c":  # numpy has big-endian complex numbers
        stored = stored.astype(kind.newbyteorder(m.order))
    elif kind.itemsize > 1:
        stored = stored.astype(kind.newbyteorder(m.order))
    m.file.create_dataset("/measurement/data", data=stored, **options)
    return canonical


def measurement(m, fast=False, fourier=False, version="2.1.0", kind=None, **options):
    metadata(m, version)
    flags(m, isFastFrameAxis=fast, isFourierTransformed=fourier, version=version)
    return data(m, numbers((N, J, C, K if fourier else V), fourier, "f8" if kind is None or "c" in kind else kind),
                fast, kind, **options)


def calibration(m, frames, size=GRID):
    m.text("/calibration/method", "robot"), m.int("/calibration/size", size)
    m.float("/calibration/fieldOfView", [0.03, 0.02, 0.02]), m.float("/calibration/fieldOfViewCenter", [0, 0, 0])
    m.float("/calibration/snr", np.ones((J, C, K))), m.text("/calibration/order", "xyz")
    m.float("/calibration/deltaSampleSize", [0.001] * 3)


def system(m):
    """Frequencies 2, 3, 5 of 5; frames permuted, with three background frames behind."""
    frames = O + 3
    metadata(m, frames=frames)
    flags(m, frames, range(O, frames), isFastFrameAxis=True, isFourierTransformed=True, isFramePermutation=True,
          isFrequencySelection=True)
    m.int("/measurement/framePermutation", np.random.default_rng(3).permutation(frames) + 1)
    m.int("/measurement/frequencySelection", [2, 3, 5])
    calibration(m, frames)
    del m.file["/calibration/snr"]
    m.float("/calibration/snr", np.ones((J, C, 3)))
    m.number("/acquisition/receiver/transferFunction", np.ones((C, K)) * (1 + 2j), "c16")
    return data(m, numbers((frames, J, C, 3), True), True, "c8")


def dct(kind, n):
    """The orthonormal matrix [coefficient, point], by definition and normalised by its own rows and columns."""
    j, k = np.meshgrid(np.arange(n), np.arange(n))
    if kind == "DCT-I":
        matrix = np.cos(np.pi * j * k / (n - 1))
        ends = np.where((np.arange(n) == 0) | (np.arange(n) == n - 1), np.sqrt(0.5), 1.0)
        return matrix * ends[:, None] * ends[None, :] * np.sqrt(2 / (n - 1))
    if kind in ("DCT-II", "DCT-III"):
        matrix = np.cos(np.pi * (j + 0.5) * k / n)
        matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        return matrix if kind == "DCT-II" else matrix.T
    matrix = np.cos(np.pi * (j + 0.5) * (k + 0.5) / n)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def sparse(m, kind, size=GRID):
    """Five of twelve coefficients of each row are kept; two background frames behind."""
    kept, behind = 5, 2
    frames = O + behind
    metadata(m, frames=frames)
    flags(m, frames, range(O, frames), isFastFrameAxis=True, isFourierTransformed=True, isSparsityTransformed=True)
    m.text("/measurement/sparsityTransformation", kind)
    calibration(m, frames, size)
    rng = np.random.default_rng(11)
    indices = np.array([rng.permutation(O)[:kept] + 1 for _ in range(J * C * K)]).reshape(J, C, K, kept)
    m.int("/measurement/subsamplingIndices", indices)
    values = numbers((J, C, K, kept + behind), True)
    m.file.create_dataset("/measurement/data", data=values)
    x, y, z = (dct(kind, n) if n > 1 else np.ones((1, 1)) for n in size)
    full = np.zeros((J, C, K, O), complex)
    np.put_along_axis(full, indices - 1, values[..., :kept], axis=3)
    grid = full.reshape(J, C, K, size[2], size[1], size[0])
    rows = np.einsum("abkcde,cz,dy,ex->abkzyx", grid, z, y, x).reshape(J, C, K, O)
    return np.moveaxis(np.concatenate([rows, values[..., kept:]], axis=3), 3, 0)


def reconstruction(m):
    metadata(m)
    q, p, s = 2, O, 1
    m.text("/reconstruction/order", "xyz"), m.int("/reconstruction/size", GRID)
    m.float("/reconstruction/fieldOfView", [0.03, 0.02, 0.02]), m.float("/reconstruction/fieldOfViewCenter", [0] * 3)
    m.flag("/reconstruction/isOverscanRegion", [0] * p), m.float("/reconstruction/positions", np.zeros((p, 3)))
    values = numbers((q, p, s)).astype("f4")
    m.file.create_dataset("/reconstruction/data", data=values)
    return values


def fields_beyond(m):
    result = measurement(m)
    m.float("/_custom/field", [1.0, 2.0]), m.float("/measurement/_monitoring/temperature/observed", [20.0])
    m.flag("/calibration/isMeanderingGrid", 1), m.text("/calibration/method", "robot")
    return result


KINDS = {
    "time": lambda m: measurement(m),
    "time-fast": lambda m: measurement(m, fast=True),
    "frequency": lambda m: measurement(m, fourier=True),
    "frequency-fast": lambda m: measurement(m, fast=True, fourier=True),
    "single": lambda m: measurement(m, fourier=True, kind="c8"),
    "int16": lambda m: measurement(m, kind="i2"),
    "int8": lambda m: measurement(m, kind="i1"),
    "unsigned": lambda m: measurement(m, kind="u2"),
    "half": lambda m: measurement(m, kind="f2"),
    "old": lambda m: measurement(m, version="2.0.1"),
    "packed": lambda m: measurement(m, fourier=True, chunks=(2, 1, 2, 3), compression="gzip", shuffle=True),
    "packed-fast": lambda m: measurement(m, fast=True, fourier=True, chunks=(1, 2, 3, 2), compression="gzip",
                                         fletcher32=True),
    "fixed": lambda m: measurement(m),
    "big-endian": lambda m: measurement(m, fourier=True),
    "one-element": lambda m: measurement(m),
    "system": system,
    "dct-1": lambda m: sparse(m, "DCT-I"),
    "dct-2": lambda m: sparse(m, "DCT-II"),
    "dct-3": lambda m: sparse(m, "DCT-III"),
    "dct-4": lambda m: sparse(m, "DCT-IV"),
    "dct-flat": lambda m: sparse(m, "DCT-II", (4, 3, 1)),
    "reconstruction": reconstruction,
    "beyond": fields_beyond,
    "soft-link": lambda m: measurement(m),
    "userblock": lambda m: measurement(m),
    "latest": lambda m: measurement(m, fourier=True),
    "latest-packed": lambda m: measurement(m, fast=True, chunks=(1, 2, 3, 2), compression="gzip"),
    "unwritten": lambda m: measurement(m, chunks=(5, 2, 2, 4)),
}


def replace(file, path, value, dtype=None):
    if path in file:
        del file[path]
    if value is not None:
        file.create_dataset(path, data=value, dtype=dtype)


def huge(file):
    """A dataset that claims 2^60 bytes and was never written."""
    del file["/measurement/data"]
    file.create_dataset("/measurement/data", shape=(1 << 57, 1, 1, 1), chunks=(1, 1, 1, 1), dtype="f8")


def shape_of(file, path, change):
    replace(file, path, change(file[path][()]))


BROKEN = {  # what is changed in which valid file; each is wrong in one way
    "no-uuid": ("time", lambda f: replace(f, "/study/uuid", None)),
    "no-periods": ("time", lambda f: replace(f, "/acquisition/numPeriodsPerFrame", None)),
    "no-names": ("time", lambda f: [replace(f, path, None) for path in (
        "/uuid", "/study/number", "/experiment/isSimulation", "/tracer/batch", "/scanner/operator")]),
    "bad-uuid": ("time", lambda f: replace(f, "/uuid", "no UUID", TEXT)),
    "bad-time": ("time", lambda f: replace(f, "/acquisition/startTime", "yesterday", TEXT)),
    "bad-version": ("time", lambda f: replace(f, "/version", "1.0.5", TEXT)),
    "no-scanner": ("time", lambda f: f.__delitem__("/scanner")),
    "text-number": ("time", lambda f: replace(f, "/study/number", "three", TEXT)),
    "gradient-shape": ("time", lambda f: replace(f, "/acquisition/gradient", np.ones((J, 1, 3, 2)))),
    "frames": ("time", lambda f: replace(f, "/acquisition/numFrames", np.int64(6))),
    "periods": ("time", lambda f: shape_of(f, "/acquisition/drivefield/phase", lambda v: v[:1])),
    "real-spectrum": ("frequency", lambda f: replace(f, "/measurement/data", np.ones((N, J, C, K)))),
    "rank": ("time", lambda f: replace(f, "/measurement/data", np.ones((N, J, C * V)))),
    "frequencies": ("frequency", lambda f: shape_of(f, "/measurement/data", lambda v: v[..., :3])),
    "permutation": ("system", lambda f: shape_of(f, "/measurement/framePermutation", lambda v: np.minimum(v, 14))),
    "no-selection": ("system", lambda f: replace(f, "/measurement/frequencySelection", None)),
    "selection-range": ("system", lambda f: replace(f, "/measurement/frequencySelection", np.array([2, 3, 6]))),
    "selection-twice": ("system", lambda f: replace(f, "/measurement/frequencySelection", np.array([2, 3, 3]))),
    "background": ("time", lambda f: replace(f, "/measurement/isBackgroundFrame", np.array([0, 0, 2, 0, 0], "i1"))),
    "grid": ("system", lambda f: replace(f, "/calibration/size", np.array([3, 2, 3]))),
    "indices": ("dct-2", lambda f: shape_of(f, "/measurement/subsamplingIndices", lambda v: v + 1)),
    "transformation": ("dct-2", lambda f: replace(f, "/measurement/sparsityTransformation", "DCT-V", TEXT)),
    "unknown": ("time", lambda f: replace(f, "/measurement/extra", 1.0)),
    "waveform": ("time", lambda f: replace(f, "/acquisition/drivefield/waveform",
                                           np.array([["sine"], ["saw"]], object), TEXT)),
    "huge": ("time", huge),
    "half-float": ("half", lambda f: None),
    "samples": ("time", lambda f: replace(f, "/measurement/data", np.ones((N, J, C, V + 1)))),
    "tracers": ("time", lambda f: replace(f, "/tracer/volume", np.ones(3))),
    "divider": ("time", lambda f: replace(f, "/acquisition/drivefield/divider", np.array([[102], [0]]))),
    "no-channels": ("time", lambda f: replace(f, "/acquisition/drivefield/numChannels", np.int64(0))),
    "sparse-order": ("dct-2", lambda f: shape_of(f, "/measurement/isBackgroundFrame", lambda v: v[::-1])),
    "sparse-slow": ("dct-2", lambda f: replace(f, "/measurement/isFastFrameAxis", np.int8(0))),
    "sparse-short": ("dct-2", lambda f: shape_of(f, "/measurement/subsamplingIndices", lambda v: v[..., :4])),
    "function": ("frequency", lambda f: replace(f, "/acquisition/receiver/transferFunction", np.ones((C, 4), "c16"))),
    "linked": ("time", lambda f: (replace(f, "/study/uuid", None),
                                  f.__setitem__("/study/uuid", h5py.SoftLink("/uuid")))),
    "attribute": ("time", lambda f: f["/uuid"].attrs.__setitem__("note", 1)),
    "nan": ("time", lambda f: f["/measurement/data"].__setitem__((0, 0, 0, 0), np.nan)),
    "strong": ("time", lambda f: shape_of(f, "/acquisition/drivefield/strength", lambda v: v * 1000)),
    "no-base": ("time", lambda f: replace(f, "/acquisition/drivefield/baseFrequency", 0.0)),
}


def write(kind, path):
    base, change = BROKEN.get(kind, (kind, None))
    options = {"userblock": {"userblock_size": 512}, "latest": {"libver": "latest"}}.get(base.split("-")[0], {})
    with h5py.File(path, "w", **options) as file:
        maker = Maker(file, fixed=base == "fixed", order=">" if base == "big-endian" else "<",
                      scalars=base != "one-element")
        result = KINDS[base](maker)
        if base == "soft-link":
            file["/acquisition/link"] = h5py.SoftLink("/uuid")
        if base == "unwritten":  # HDF5 gives zeros for what was never written
            del file["/measurement/data"]
            file.create_dataset("/measurement/data", shape=(N, J, C, V), chunks=(5, 2, 2, 4), dtype="f8")
            result = np.zeros((N, J, C, V))
        if change:
            change(file)
    result = np.asarray(result)
    flat = result.ravel()
    return {"shape": result.shape, "re": bits(flat.real), "im": bits(flat.imag)}


def bits(values):
    """Float64 numbers as the integers of their bits: parsers of JSON round."""
    return np.ascontiguousarray(values, dtype="<f8").view("<u8").tolist()


def large(path):
    """A compressed system matrix of 300 MB in 2 MB: row number, and its negative."""
    frames, channels, rows = 7500, 2, 2501
    with h5py.File(path, "w") as file:
        m = Maker(file)
        metadata(m, frames=frames, periods=1)
        m.file["/acquisition/receiver/numSamplingPoints"][()] = 2 * (rows - 1)
        flags(m, frames, isFastFrameAxis=True, isFourierTransformed=True)
        data = file.create_dataset("/measurement/data", shape=(1, channels, rows, frames), dtype="c8",
                                   chunks=(1, 1, 64, 512), compression="gzip", compression_opts=1)
        for channel in range(channels):
            for first in range(0, rows, 64):
                number = channel * rows + np.arange(first, min(first + 64, rows))
                data[0, channel, first:first + 64] = np.repeat(number[:, None] * (1 - 1j), frames, axis=1)


def describe(dataset):
    kind = dataset.dtype
    value = dataset.asstr()[()] if h5py.check_string_dtype(kind) else dataset[()]
    value = np.asarray(value)
    parts = [value.real, value.imag] if value.dtype.kind == "c" else [value]
    return {"type": "text" if h5py.check_string_dtype(kind) else kind.str, "shape": dataset.shape,
            "scalar": dataset.id.get_space().get_simple_extent_type() == h5py.h5s.SCALAR,
            "chunks": dataset.chunks, "offset": dataset.id.get_offset(), "attributes": len(dataset.attrs),
            "values": [part.ravel().tolist() for part in parts]}


def read(path):
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.__setitem__("/" + name, describe(item))
                        if isinstance(item, h5py.Dataset) else None)
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        print(json.dumps({name: write(name, f"{sys.argv[2]}/{name}.mdf") for name in list(KINDS) + list(BROKEN)}))
    elif sys.argv[1] == "large":
        large(sys.argv[2])
    else:
        read(sys.argv[2])
