import pytest
import torch

from scoreag.core.devices import send


def test_what_is_there_already_is_not_copied():
    x = torch.arange(3)
    assert send(x, "cpu") is x


def test_another_device_gets_the_same_numbers():
    assert send(torch.arange(3), "meta").device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
def test_a_gpu_does_not_wait():
    """A copy that waits is an error in this mode of torch."""
    x = torch.arange(3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        sent = send(x, "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sent.tolist() == [0, 1, 2]
