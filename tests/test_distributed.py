"""What the page on distributed models shows, in two processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "distributed.md"

CHECK = """
torch.manual_seed(0)
expected = ghn_init.initialize(timm.create_model("resnet18", num_classes=10)).state_dict()
for name, parameter in model.named_parameters():
    full = parameter.full_tensor()  # both processes take part
    assert name.startswith("fc.") or torch.equal(full, expected[name]), name
for name, buffer in model.named_buffers():
    assert torch.equal(buffer, expected[name]), name
assert parameter.to_local().numel() < parameter.numel()
distributed.destroy_process_group()
"""


def test_a_model_is_initialised_in_one_process_and_sharded_over_two(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    program = tmp_path / "sharded.py"
    program.write_text(code + CHECK)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(launch, timeout=300, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
