"""Targets that are in part a teacher's answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init.errors import TrainingError
from ghn_init.tasks import DistilledImageTask, ImageTask, answers_of
from helpers import RECIPE, SMALL, colours, tiny_networks


def left_half(pixels: Tensor) -> Tensor:
    """A teacher that tells an image from its mirror image: the means of the left half, as logits."""
    return pixels[..., : pixels.shape[3] // 2].mean((2, 3))


def test_answers_are_softened_and_know_mirror_images() -> None:
    images = colours()
    answers = answers_of(left_half, images, temperature=2.0, batch_size=5)
    expected = (left_half(images.normalise(images.pixels)) / 2).softmax(1)
    torch.testing.assert_close(answers[:, 0].float(), expected, atol=1e-3, rtol=0)
    mirrored = (left_half(images.normalise(images.pixels.flip(3))) / 2).softmax(1)
    torch.testing.assert_close(answers[:, 1].float(), mirrored, atol=1e-3, rtol=0)


def test_targets_follow_their_images() -> None:
    images = colours()
    answers = torch.zeros(len(images.labels), 2, 3)
    answers[:, 0, 0] = answers[:, 1, 1] = 1  # class 0 for an image, class 1 for its mirror image
    task = DistilledImageTask(images, "colours", answers=answers, share=0.25)
    plain = ImageTask(images, "colours")
    for number in range(3):
        ((pixels,), targets), ((same,), labels) = task.batch(number, 8, 5), plain.batch(number, 8, 5)
        torch.testing.assert_close(pixels, same)
        _, mirrored = images.drawn(number, 8, 5)
        assert (targets.argmax(1) == labels).all()
        rest = targets - 0.75 * nn.functional.one_hot(labels, 3)
        assert (rest.argmax(1) == mirrored).all()
        torch.testing.assert_close(rest.sum(1), torch.full((8,), 0.25))


def test_accuracy_is_that_of_the_labels_and_loss_is_cross_entropy() -> None:
    images = colours()
    task = DistilledImageTask(images, "colours", answers=torch.full((len(images.labels), 2, 3), 1 / 3))
    (_, targets) = task.batch(0, 8, 5)
    logits = torch.randn(8, 3)
    assert task.accuracy(targets.log(), targets) == 1.0
    torch.testing.assert_close(task.loss(logits, targets), -(targets * logits.log_softmax(1)).sum(1).mean())


def test_a_hypernetwork_learns_from_a_teacher(tmp_path: Path) -> None:
    images = colours()
    task = DistilledImageTask(images, "colours", answers=answers_of(left_half, images))
    trained = ghn_init.train(task, tmp_path, architectures=tiny_networks(), ghn=SMALL, config=RECIPE)
    assert "colours" in trained.config.tasks
    assert "teacher's" in (tmp_path / "recipe.json").read_text()


def test_what_is_no_teacher_is_refused() -> None:
    images = colours()
    with pytest.raises(TrainingError, match=r"the teacher gives \(\d+, 7\).*3 classes"):
        answers_of(lambda pixels: pixels.new_zeros(len(pixels), 7), images)
    with pytest.raises(TrainingError, match=r"answers are None; expected \(\d+, 2, 3\)"):
        DistilledImageTask(images, "colours")
    answers = torch.zeros(len(images.labels), 2, 3)
    with pytest.raises(TrainingError, match=r"share is 0\.6"):
        DistilledImageTask(images, "colours", answers=answers, share=0.6)
    with pytest.raises(TrainingError, match="a transform is given"):
        DistilledImageTask(images, "colours", transform=lambda pixels: pixels, answers=answers)
