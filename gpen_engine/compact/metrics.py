"""How near a restored face is to the true one: fidelity, sharpness, artefacts.

In: two pictures `(S, S, 3) uint8 RGB` and `valid (S, S) float`, which is 0 where the photograph had
ended and the crop was mirrored. Out: one number. A pixel that the photograph doesn't have counts
neither way: means are over the others, and where a measure looks at surroundings, such a pixel has
the true face's value in both pictures.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]

PSNR_LIMIT_DB = 60.0
"""What a picture without error scores, so that means stay finite."""
_BOARD_PERIODS_PX = (2, 4)
_BOARD_SIGMA_PX = 3.0
_BOARD_STEP = 0.1
"""Cycles per pixel to the frequencies beside; half of it is the radius of what counts as one."""
_BOARD_FLOOR = 0.25
"""Square of half a grey level, which nobody sees: or the ratio of a smooth picture would be one
of rounding errors."""


def psnr(truth: Picture, picture: Picture, valid: Floats) -> float:
    """Return the peak signal-to-noise ratio over the valid pixels in dB, at most 60."""
    inside = _inside(valid)
    error = np.square(truth[inside].astype(np.float64) - picture[inside]).mean()
    return min(PSNR_LIMIT_DB, 10 * float(np.log10(255**2 / max(error, 1e-9))))


def ssim(truth: Picture, picture: Picture, valid: Floats) -> float:
    """Return the mean over the valid pixels of the map of structural similarity.

    The map is that of Wang et al. 2004: Gaussian windows of 1.5 px, a mean over the channels.
    """
    _, similarity = structural_similarity(  # type: ignore[no-untyped-call]
        truth,
        _completed(truth, picture, valid),
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return float(similarity[_inside(valid)].mean())


def gradient_energy(picture: Picture, valid: Floats) -> float:
    """Return the mean square of luma's differences across plus that of those down.

    Only pairs of neighbours count of which the photograph has both. The unit is grey levels
    squared; what tells of sharpness is the ratio to the true face's.
    """
    luma, inside = _luma(picture), _inside(valid)
    across = np.diff(luma, axis=1)[inside[:, 1:] & inside[:, :-1]]
    down = np.diff(luma, axis=0)[inside[1:] & inside[:-1]]
    return float(np.square(across).mean() + np.square(down).mean())


def checkerboard(picture: Picture, valid: Floats) -> float:
    """Return how far a regular pattern of 2 or 4 px stands out of a picture.

    Such patterns are what upsampling layers leave. In the power spectrum of luma, the energy at the
    pattern's frequency, across, down and along both diagonals, is divided by that at the
    frequencies beside it: noise and hair have both, a pattern only the one.

    Returns:
        The ratio for the period where it is larger: 0.5 to 1.2 for photographs, sharp or soft. A
        pattern of 2 px and one grey level gives 5 to 9 on restored faces, one of two levels 8 to
        30; at 4 px two levels give 1.2 to 9, most where the face is smooth.
    """
    luma, inside = _luma(picture), _inside(valid)
    side = luma.shape[0]
    luma[~inside] = luma[inside].mean()
    # Neither the picture's edges nor its mean may leak into other frequencies.
    window = np.outer(np.hanning(side), np.hanning(side)) * inside
    luma -= cv2.GaussianBlur(luma, (0, 0), _BOARD_SIGMA_PX)
    spectrum = np.square(np.abs(np.fft.fft2(luma * window)))
    spectrum /= side**2 * max(1.0, float(np.square(window).sum()))
    return max(_prominence(spectrum, 1 / period) for period in _BOARD_PERIODS_PX)


def _prominence(spectrum: NDArray[np.float64], frequency: float) -> float:
    steps = (-_BOARD_STEP, 0.0, _BOARD_STEP)
    slower, at, faster = (_energy(spectrum, frequency + step) + _BOARD_FLOOR for step in steps)
    return at / float(np.sqrt(slower * faster))


def _energy(spectrum: NDArray[np.float64], frequency: float) -> float:
    """Return the energy of waves across, down and along both diagonals."""
    grid = np.fft.fftfreq(spectrum.shape[0])
    energy = 0.0
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        # Distances wrap: a frequency of 0.6 is one of -0.4.
        dy, dx = (np.abs((grid - each * frequency + 0.5) % 1 - 0.5) for each in (down, across))
        energy += float(
            spectrum[np.hypot(*np.meshgrid(dy, dx, indexing="ij")) < _BOARD_STEP / 2].sum()
        )
    return energy


def colour_cast(truth: Picture, picture: Picture, valid: Floats) -> float:
    """Return the distance of the mean CIE a* and b* from the true face's.

    About 2.3 are just noticeable (Mahy et al. 1994). Single spots that lost their colour, as they
    do in a JPEG, are no cast.
    """
    inside = _inside(valid)
    ours, true = (
        cv2.cvtColor(each.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[inside].mean(axis=0)
        for each in (picture, truth)
    )
    return float(np.hypot(*(ours - true)[1:]))


def _inside(valid: Floats) -> NDArray[np.bool_]:
    return np.asarray(valid > 0.5)


def _completed(truth: Picture, picture: Picture, valid: Floats) -> Picture:
    return np.where(_inside(valid)[:, :, None], picture, truth)


def _luma(picture: Picture) -> Floats:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)
