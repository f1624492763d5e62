"""A second forward model, from the formulas, in the time domain: the derivative of the magnetisation is written out, not transformed.

Reads {sequence, particle, coils, points} as JSON from standard input and prints, for each period and coil, real and imaginary parts of the
spectrum. With relaxation, the differential equation tau dM/dt = M_0 - M is integrated over many periods instead of being filtered.
"""

import json
import sys

import numpy as np

FINER = 16
RELAXED_FINER = 512
BOLTZMANN = 1.380649e-23
MU0 = 1.25663706212e-6


def langevin(xi):
    small = np.abs(xi) < 1e-2
    safe = np.where(small, 1.0, xi)
    return np.where(small, xi / 3 - xi**3 / 45, 1 / np.tanh(safe) - 1 / safe)


def slope(xi):
    small = np.abs(xi) < 1e-2
    safe = np.where(small, 1.0, np.minimum(xi, 300.0))
    exact = 1 / np.where(small, 1.0, xi) ** 2 - 1 / np.sinh(safe) ** 2
    return np.where(small, 1 / 3 - xi**2 / 15, exact)


def drive(sequence, period, times):
    """Field and its derivative in a period, times x 3."""
    field, change = np.zeros((len(times), 3)), np.zeros((len(times), 3))
    shares = period.get("drive") or [1.0] * len(sequence["channels"])
    for share, channel in zip(shares, sequence["channels"]):
        omega = 2 * np.pi * sequence["base-frequency"] / channel["divider"]
        direction = share * channel["amplitude"] * np.array(channel["direction"])
        phase = omega * times + channel["phase"]
        field += np.sin(phase)[:, None] * direction
        change += omega * np.cos(phase)[:, None] * direction
    return field, change


def change_of_moment(particle, field, change):
    """d/dt of the mean moment of one particle, times x 3."""
    volume = np.pi / 6 * particle["diameter"] ** 3
    moment = particle["saturation"] / MU0 * volume
    beta = moment / (BOLTZMANN * particle["temperature"])
    strength = np.linalg.norm(field, axis=1)
    unit = field / strength[:, None]
    along = np.sum(unit * change, axis=1)[:, None] * unit
    xi = beta * strength
    return moment * (beta * slope(xi)[:, None] * along + (langevin(xi) / strength)[:, None] * (change - along))


def relaxed(rate, step, tau):
    """What follows `rate` (periodic, times x 3) with the time constant tau, by exact steps over straight pieces."""
    decay = np.exp(-step / tau)
    state = rate.mean(axis=0)
    following = np.empty_like(rate)
    rise = tau / step * (1 - decay)
    for _ in range(3 if tau < step * len(rate) / 10 else 40):
        for index in range(len(rate)):
            following[index] = state
            first, second = rate[index], rate[(index + 1) % len(rate)]
            state = decay * state + (rise - decay) * first + (1 - rise) * second
    return following


def transfer(of, frequencies):
    factor = np.full(len(frequencies), of["gain"], complex)
    if of["high-pass"] > 0:
        factor *= 1j * frequencies / (of["high-pass"] + 1j * frequencies)
    if of["low-pass"] > 0:
        factor *= of["low-pass"] / (of["low-pass"] + 1j * frequencies)
    return factor


def main():
    given = json.load(sys.stdin)
    sequence, particle = given["sequence"], given["particle"]
    samples = int(np.lcm.reduce([channel["divider"] for channel in sequence["channels"]]))
    finer = RELAXED_FINER if particle["relaxation"] > 0 else FINER
    step = 1 / (sequence["base-frequency"] * finer)
    kept = np.fft.rfftfreq(samples, 1 / sequence["base-frequency"])
    spectra = []
    for period in sequence["periods"]:
        uniform, change = drive(sequence, period, np.arange(samples * finer) * step)
        rate = np.zeros_like(uniform)
        for position, particles in given["points"]:
            fixed = np.array(period["gradient"]) @ np.array(position) + np.array(period["offset"])
            rate += particles * change_of_moment(particle, uniform + fixed, change)
        if particle["relaxation"] > 0:
            rate = relaxed(rate, step, particle["relaxation"])
        for coil in given["coils"]:
            voltage = -rate @ np.array(coil["sensitivity"])
            spectrum = np.fft.rfft(voltage)[: len(kept)] / finer * transfer(coil["transfer"], kept)
            spectra.append([spectrum.real.tolist(), spectrum.imag.tolist()])
    json.dump(spectra, sys.stdout)


main()
