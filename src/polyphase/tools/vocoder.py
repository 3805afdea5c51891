"""Sound that is synthesised, its mel spectrogram, and what a vocoder is given in the demo.

The spectrogram is that of HiFi-GAN's V1: 22 050 Hz, 1024 samples a window, 256 a hop, 80 bands up
to 8 kHz on Slaney's scale, natural logarithm of the magnitude.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

RATE = 22_050
WINDOW, HOP, BANDS, HIGHEST = 1024, 256, 80, 8000.0
QUIETEST = 1e-5
# centre and width in Hz of what the mouth lets through, for "a" and for "i"
FORMANTS = (((730, 90), (1090, 110), (2440, 170)), ((270, 60), (2290, 140), (3010, 190)))


def voice(seconds: float = 0.75) -> Array:
    """A voice that glides from "a" to "i" while its pitch rises, ``(samples,)`` from -1 to 1.

    Harmonics of 110 to 165 Hz, each as loud as the formants let it be.

    >>> voice(0.5).shape
    (11025,)
    """
    time = np.arange(int(seconds * RATE)) / RATE
    glide = time / seconds
    pitch = 110 * (1 + glide / 2)
    turn = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = np.zeros_like(time)
    for harmonic in range(1, 60):
        loud = np.zeros_like(time)
        for (a, a_width), (i, i_width) in zip(*FORMANTS, strict=True):
            centre, width = a + glide * (i - a), a_width + glide * (i_width - a_width)
            loud += 1 / (1 + ((harmonic * pitch - centre) / width) ** 2)
        sound += loud * np.sin(harmonic * turn) / harmonic**0.5
    fade = np.minimum(1, np.minimum(time, seconds - time) / 0.03)
    result: Array = fade * sound / np.abs(sound).max()
    return result


def mel_spectrogram(sound: Array) -> Array:
    """``(80, frames)`` of ``float32``, one frame per 256 samples.

    >>> mel_spectrogram(voice(0.5)).shape
    (80, 43)
    """
    edge = (WINDOW - HOP) // 2
    padded = np.pad(sound, edge, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    magnitude = np.abs(np.fft.rfft(frames * hann, axis=1))
    bands = magnitude @ _filters().T
    result: Array = np.log(np.maximum(bands, QUIETEST)).T.astype(np.float32)
    return result


def _filters() -> Array:
    """Triangles ``(bands, frequencies)`` of equal area."""
    corners = _hertz(np.linspace(0, _mel(HIGHEST), BANDS + 2))
    frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)
    low, centre, high = (corners[at : at + BANDS, None] for at in range(3))
    rising = (frequencies - low) / (centre - low)
    falling = (high - frequencies) / (high - centre)
    filters: Array = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    return filters


def _mel(hertz: float) -> float:
    """Slaney's scale, Auditory Toolbox 1998: linear up to 1 kHz, logarithmic above."""
    return float(15 + 27 * np.log(hertz / 1000) / np.log(6.4))


def _hertz(mel: Array) -> Array:
    result: Array = np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))
    return result
