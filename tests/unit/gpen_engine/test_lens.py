"""Where a lens's distortion puts points, against OpenCV's own model."""

import cv2
import numpy as np
import pytest

from gpen_engine.faces import Lens
from gpen_engine.lens import distorted, undistorted

SHAPE = (400, 600)
LENSES = [Lens(-0.25, 0.06), Lens(0.15), Lens(-0.1), Lens(0.02, -0.01), Lens()]


def points():
    rng = np.random.default_rng(0)
    return rng.uniform((0, 0), (599, 399), (200, 2))


@pytest.mark.parametrize("lens", LENSES)
def test_points_are_distorted_as_opencv_does_it(lens):
    camera = np.array([[300.0, 0.0, 299.5], [0.0, 300.0, 199.5], [0.0, 0.0, 1.0]])
    rays = np.hstack([(points() - (299.5, 199.5)) / 300.0, np.ones((200, 1))])
    expected, _ = cv2.projectPoints(
        rays.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), camera, np.array([lens.k1, lens.k2, 0, 0])
    )

    np.testing.assert_allclose(
        distorted(points(), lens, SHAPE), expected.reshape(-1, 2), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("lens", LENSES)
def test_undistorting_undoes_distorting(lens):
    there_and_back = undistorted(distorted(points(), lens, SHAPE), lens, SHAPE)

    np.testing.assert_allclose(there_and_back, points(), rtol=0, atol=1e-3)


def test_the_centre_stays_where_it_is():
    centre = np.array([[299.5, 199.5]])

    np.testing.assert_array_equal(distorted(centre, Lens(0.5), SHAPE), centre)
    np.testing.assert_array_equal(undistorted(centre, Lens(0.5), SHAPE), centre)


def test_a_barrel_that_turns_back_inside_the_picture_gives_finite_places():
    corners = np.array([[0.0, 0.0], [599.0, 399.0], [-900.0, 4000.0]])

    for place in (distorted(corners, Lens(-0.6), SHAPE), undistorted(corners, Lens(-0.6), SHAPE)):
        assert np.isfinite(place).all()


def test_shapes_of_point_arrays_are_kept():
    grid = np.zeros((3, 4, 2))

    assert distorted(grid, Lens(0.1), SHAPE).shape == (3, 4, 2)
    assert undistorted(grid, Lens(0.1), SHAPE).shape == (3, 4, 2)
