"""What is put around parts of libraries so that they take images and return logits."""

# Axes: B images, H/W space, P patches, D hidden

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Logits(nn.Module):
    """A classifier of transformers that returns its logits alone, (B, 3, H, W) → (B, classes)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.model(images).logits


class PatchBert(nn.Module):
    """A BERT that reads patches in the place of words, (B, 3, H, W) → (B, classes).

    Source: Devlin et al., 2018 (arXiv 1810.04805), on patches as in Dosovitskiy et al., 2020 (arXiv 2010.11929).

    Args:
        config: Of transformers; one position for each patch at least.
        patch_size: Pixels.
        num_classes: Outputs.
        pooled: Whether the first patch is read through BERT's own pooler; else the patches' mean.
    """

    def __init__(self, config: Any, patch_size: int, num_classes: int, pooled: bool) -> None:
        super().__init__()
        from transformers import BertModel

        self.patches = nn.Conv2d(3, config.hidden_size, patch_size, patch_size)
        self.bert = BertModel(config, add_pooling_layer=pooled)
        self.bert.embeddings.word_embeddings = nn.Identity()  # type: ignore[assignment]  # there are no words
        self.head = nn.Linear(config.hidden_size, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        patches = self.patches(images).flatten(2).transpose(1, 2)  # (B, P, D)
        found = self.bert(inputs_embeds=patches)
        return self.head(found.last_hidden_state.mean(1) if self.bert.pooler is None else found.pooler_output)


def headed(features: nn.Module, channels: int, hidden: int, num_classes: int) -> nn.Sequential:
    """Puts on torchvision's layers of a VGG the head used on small images; its own has 119 M parameters.

    Args:
        features: (B, 3, H, W) → (B, channels, h, w).
        channels: Of their output.
        hidden: Width of a hidden layer of the head; 0 for none.
        num_classes: Outputs.
    """
    head = [nn.Linear(channels, hidden), nn.ReLU(True)] if hidden else []
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head, nn.Linear(hidden or channels, num_classes))
