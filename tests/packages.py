"""Small models of packages that people use, by the packages' own constructors, with inputs for them."""

# Axes: B examples, C channels, H/W/Z space, T positions, D hidden

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Make = Callable[[Any], tuple[nn.Module, Any]]
"""A package's module → a model and its inputs."""


class Member(NamedTuple):
    """A model of a package: the names to import it and to install it by, what makes it, and how many parameters are kept.

    These are counted with the head predicted.
    """

    module: str
    package: str
    make: Make
    kept: int

    def build(self) -> tuple[nn.Module, Any]:
        """The model, whose random start values are always the same, and its inputs.

        Raises:
            ImportError: The package is not installed.
        """
        package = import_module(self.module)
        torch.manual_seed(0)
        return self.make(package)


def images(channels: int = 3, size: int = 32) -> Tensor:
    """(B, C, H, W)."""
    return torch.randn(2, channels, size, size)


def words(count: int = 50, length: int = 12) -> Tensor:
    """(B, T) of indices."""
    return torch.randint(0, count, (2, length))


def _unet_diffusers(diffusers: Any) -> tuple[nn.Module, Any]:
    model = diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    inputs = {"sample": images(4, 16), "timestep": torch.tensor([3, 70]), "encoder_hidden_states": torch.randn(2, 5, 24)}
    return model, inputs


def _dit(diffusers: Any) -> tuple[nn.Module, Any]:
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, num_layers=2, sample_size=8, patch_size=2,
        num_embeds_ada_norm=10, norm_num_groups=8,
    )  # fmt: skip
    return model, {"hidden_states": images(4, 8), "timestep": torch.tensor([3, 70]), "class_labels": torch.tensor([1, 2])}


def _autoencoder(diffusers: Any) -> tuple[nn.Module, Any]:
    model = diffusers.AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
    )
    return model, images()


def _monai_unet(monai: Any) -> tuple[nn.Module, Any]:
    model = monai.UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(8, 16, 32), strides=(2, 2), num_res_units=2)
    return model, torch.randn(2, 1, 16, 16, 16)


def _swin_unetr(monai: Any) -> tuple[nn.Module, Any]:
    model = monai.SwinUNETR(in_channels=1, out_channels=2, feature_size=12, depths=(1, 1, 1, 1), spatial_dims=2)
    return model, images(1, 64)


def _lora(peft: Any) -> tuple[nn.Module, Any]:
    import timm

    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=7)
    config = peft.LoraConfig(target_modules=["qkv"], r=4, modules_to_save=["head"])
    return peft.get_peft_model(vit, config), images()


def _segmentation(decoder: str, encoder: str) -> Make:
    return lambda package: (getattr(package, decoder)(encoder, encoder_weights=None), images(size=64))


def _conformer(torchaudio: Any) -> tuple[nn.Module, Any]:
    model = torchaudio.Conformer(input_dim=16, num_heads=2, ffn_dim=32, num_layers=2, depthwise_conv_kernel_size=7)
    return model, (torch.randn(2, 20, 16), torch.tensor([20, 15]))


def _wav2vec2(torchaudio: Any) -> tuple[nn.Module, Any]:
    model = torchaudio.wav2vec2_model(
        extractor_mode="group_norm", extractor_conv_layer_config=[(16, 10, 5), (16, 3, 2)], extractor_conv_bias=False,
        encoder_embed_dim=32, encoder_projection_dropout=0.0, encoder_pos_conv_kernel=16, encoder_pos_conv_groups=4,
        encoder_num_layers=2, encoder_num_heads=2, encoder_attention_dropout=0.0, encoder_ff_interm_features=64,
        encoder_ff_interm_dropout=0.0, encoder_dropout=0.0, encoder_layer_norm_first=False, encoder_layer_drop=0.0,
        aux_num_out=11,
    )  # fmt: skip
    return model, torch.randn(2, 800)


def _vit(vit_pytorch: Any) -> tuple[nn.Module, Any]:
    return vit_pytorch.ViT(image_size=32, patch_size=8, num_classes=7, dim=32, depth=2, heads=2, mlp_dim=64), images()


def _cct(cct: Any) -> tuple[nn.Module, Any]:
    model = cct.CCT(
        img_size=32, embedding_dim=32, n_conv_layers=1, kernel_size=3, stride=1, padding=1, num_layers=2, num_heads=2,
        mlp_ratio=2.0, num_classes=7, positional_embedding="learnable",
    )  # fmt: skip
    return model, images()


def _decoder(x_transformers: Any) -> tuple[nn.Module, Any]:
    layers = x_transformers.Decoder(dim=32, depth=2, heads=2, rotary_pos_emb=True, use_rmsnorm=True, ff_glu=True)
    return x_transformers.TransformerWrapper(num_tokens=50, max_seq_len=16, attn_layers=layers), words()


def _encoder(x_transformers: Any) -> tuple[nn.Module, Any]:
    layers = x_transformers.Encoder(dim=32, depth=2, heads=2, rel_pos_bias=True)
    return x_transformers.TransformerWrapper(num_tokens=50, max_seq_len=16, attn_layers=layers), words()


class GraphNetwork(nn.Module):
    """Two layers of graph convolution, x (N, 8) and edges (2, E) → (N, 4)."""

    def __init__(self, layer: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.first, self.second = layer(8, 16), layer(16, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Logits of nodes."""
        return self.second(F.relu(self.first(x, edge_index)), edge_index)


def _graph(kind: str) -> Make:
    def make(layers: Any) -> tuple[nn.Module, Any]:
        edges = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])
        return GraphNetwork(getattr(layers, kind)), (torch.randn(5, 8), edges)

    return make


class Scan(nn.Module):
    """A selective state space model in plain PyTorch, as Mamba's reference: (B, T, 16) → (B, T, 16).

    Source: Gu and Dao, 2023 (arXiv 2312.00752), algorithm 2.
    """

    def __init__(self, width: int = 32, states: int = 4) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(16, 2 * width), nn.Linear(width, 16)
        self.mix = nn.Conv1d(width, width, 4, padding=3, groups=width)
        self.select, self.step = nn.Linear(width, 2 * states + 2), nn.Linear(2, width)
        self.decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(width, 1))
        self.skip = nn.Parameter(torch.ones(width))
        self.states = states

    def forward(self, x: Tensor) -> Tensor:
        """One step after another."""
        u, gate = self.into(x).chunk(2, -1)
        u = F.silu(self.mix(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        step, b, c = self.select(u).split([2, self.states, self.states], -1)
        delta = F.softplus(self.step(step))
        state = u.new_zeros(x.shape[0], u.shape[2], self.states)
        outputs = []
        for t in range(x.shape[1]):
            state = state * torch.exp(-delta[:, t, :, None] * self.decay.exp()) + (delta * u)[:, t, :, None] * b[:, t, None]
            outputs.append((state * c[:, t, None]).sum(-1))
        return self.out((torch.stack(outputs, 1) + u * self.skip) * F.silu(gate))


PACKAGES = {
    "UNet2DConditionModel": Member("diffusers", "diffusers", _unet_diffusers, 0),
    "DiTTransformer2DModel": Member("diffusers", "diffusers", _dit, 0),
    "AutoencoderKL": Member("diffusers", "diffusers", _autoencoder, 0),
    "UNet in three dimensions": Member("monai.networks.nets", "monai", _monai_unet, 9),
    "SwinUNETR": Member("monai.networks.nets", "monai", _swin_unetr, 4),
    "Unet over ResNet-18": Member(
        "segmentation_models_pytorch", "segmentation-models-pytorch", _segmentation("Unet", "resnet18"), 0
    ),
    "DeepLabV3Plus over MobileNetV2": Member(
        "segmentation_models_pytorch", "segmentation-models-pytorch", _segmentation("DeepLabV3Plus", "mobilenet_v2"), 0
    ),
    "Conformer": Member("torchaudio.models", "torchaudio", _conformer, 0),
    "Wav2Vec2Model": Member("torchaudio.models", "torchaudio", _wav2vec2, 1),
    "LoRA on timm's ViT": Member("peft", "peft", _lora, 32),
    "ViT": Member("vit_pytorch", "vit-pytorch", _vit, 1),
    "CCT": Member("vit_pytorch.cct", "vit-pytorch", _cct, 0),
    "Decoder, rotary positions": Member("x_transformers", "x-transformers", _decoder, 5),
    "Encoder, relative positions": Member("x_transformers", "x-transformers", _encoder, 6),
    "GCNConv, two layers": Member("torch_geometric.nn", "torch_geometric", _graph("GCNConv"), 0),
    "GATConv, two layers": Member("torch_geometric.nn", "torch_geometric", _graph("GATConv"), 0),
    "SAGEConv, two layers": Member("torch_geometric.nn", "torch_geometric", _graph("SAGEConv"), 0),
    "selective scan": Member("torch", "none: as Mamba's reference", lambda _: (Scan(), torch.randn(2, 12, 16)), 2),
}
