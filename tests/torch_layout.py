#!/usr/bin/env python3
"""The structures of bench/peers/torch_hook.py are laid out as the library's; PyTorch is not needed for that."""
import os
import sys
from unittest import mock

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "bench", "peers"))
sys.dont_write_bytecode = True
sys.modules["torch"] = mock.MagicMock()
import torch_hook  # noqa: E402

torch_hook.Steer(os.environ["STEER_LIB"])
print("OK:", ", ".join(torch_hook.DESCRIPTORS))
