from __future__ import annotations

import os

import pytest
import torch

from ghn_init import GHN, GHNConfig
from zoo import ZOO, Case

# Tiny models gain nothing from a second thread; beside other work two wait for each other, up to eight times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # in processes that tests start
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def ghn() -> GHN:
    torch.manual_seed(0)
    return GHN(GHNConfig({"images": 10}, max_shape=(16, 16, 7, 7), hid=8)).eval()


@pytest.fixture(params=list(ZOO), ids=lambda name: name.replace(" ", "-"))
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return ZOO[request.param]
