"""The mel spectrogram is that of HiFi-GAN, and the voice is one."""

import numpy as np
import pytest

from polyphase.tools import vocoder


@pytest.mark.parametrize("hertz", [200.0, 440.0, 1000.0, 3000.0])
def test_a_tone_is_loudest_in_its_band(hertz):
    time = np.arange(vocoder.RATE) / vocoder.RATE
    spectrogram = vocoder.mel_spectrogram(np.sin(2 * np.pi * hertz * time))
    band = spectrogram[:, 40].argmax()
    centre = vocoder._hertz((band + 1) * vocoder._mel(vocoder.HIGHEST) / (vocoder.BANDS + 1))
    assert abs(centre - hertz) < max(50, 0.06 * hertz)


def test_one_frame_per_hop_and_silence_has_a_floor():
    spectrogram = vocoder.mel_spectrogram(np.zeros(64 * vocoder.HOP))
    assert spectrogram.shape == (80, 64)
    assert np.allclose(spectrogram, np.log(vocoder.QUIETEST))


def test_the_scale_is_linear_and_then_logarithmic():
    assert vocoder._mel(1000) == pytest.approx(15)
    assert vocoder._hertz(np.array([7.5, 15.0, 42.0])) == pytest.approx([500, 1000, 6400])


def test_the_pitch_of_the_voice_rises():
    sound = vocoder.voice()
    assert np.abs(sound).max() == pytest.approx(1, abs=0.05)

    def pitch(piece):
        found = np.correlate(piece, piece, "full")[len(piece) :]
        return vocoder.RATE / (100 + found[100:300].argmax() + 1)

    assert pitch(sound[1000:3000]) == pytest.approx(115, rel=0.1)
    assert pitch(sound[-3000:-1000]) == pytest.approx(160, rel=0.1)
