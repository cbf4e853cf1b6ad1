from __future__ import annotations

import pytest
import torch

from ghn_init import GHN, GHNConfig
from zoo import ZOO, Case


@pytest.fixture(scope="session")
def ghn() -> GHN:
    torch.manual_seed(0)
    return GHN(GHNConfig(num_classes=10, max_shape=(16, 16, 7, 7), hid=8)).eval()


@pytest.fixture(params=list(ZOO), ids=lambda name: name.replace(" ", "-"))
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return ZOO[request.param]
