"""What a hypernetwork is trained for: a task's protocol, and classification of images as one, with and without a teacher."""

from ghn_init.tasks.distillation import DistilledImageTask, answers_of
from ghn_init.tasks.image_data import Images
from ghn_init.tasks.image_reading import load_images
from ghn_init.tasks.images import ImageTask
from ghn_init.tasks.task import Batch, Task

__all__ = ["Batch", "DistilledImageTask", "ImageTask", "Images", "Task", "answers_of", "load_images"]
