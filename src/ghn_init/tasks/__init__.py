"""What a hypernetwork is trained for: a task's protocol, and classification of images as one."""

from ghn_init.tasks.image_data import Images, load_images
from ghn_init.tasks.images import ImageTask
from ghn_init.tasks.task import Batch, Task

__all__ = ["Batch", "ImageTask", "Images", "Task", "load_images"]
